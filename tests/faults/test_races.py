"""Transactions that meet: what SQLite cannot show, PostgreSQL must stand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aero.testing import make_app
from tests.conftest import Publisher
from tests.faults.crash_functions import count
from tests.faults.gc_races import GC_SCENARIOS
from tests.faults.races import SCENARIOS
from tests.faults.racing import Race, race
from tests.invariants import check_invariants


@pytest.mark.parametrize(
    "scenario", [*SCENARIOS, *GC_SCENARIOS], ids=lambda each: each.__name__
)
def test_neither_loses_or_doubles_anything(
    scenario: Callable[[Race], None], postgres_url: str, tmp_path: Path
) -> None:
    with race(postgres_url, tmp_path / "home") as on:
        scenario(on)


def test_the_whole_way_of_a_run_on_postgresql(
    postgres_url: str, tmp_path: Path, publisher: Publisher
) -> None:
    url = publisher.publish("series", "one")
    with make_app(tmp_path / "home", database_url=postgres_url) as app:
        source = app.register_flow(
            "local", None, None, {"series": {"url": url}}, policy="INGESTION"
        )
        app.register_flow(
            "local",
            app.register_function(count),
            {"series": {"id": source["contributed_to"][0]["id"]}},
            {"total": {}},
            {"executed": str(tmp_path / "executed"), "number": 1},
            policy="ANY",
        )
        app.run_until_idle(20)
        publisher.publish("series", "three")
        app.run_flow(source["id"], timeout=20)
        app.run_until_idle(20)
        assert [each["version"] for each in app.list_versions("total")] == [2, 1]
        assert app.fetch_version("total", tmp_path / "out")["version"] == 2
        assert (tmp_path / "out").read_text() == "5 three"
        assert check_invariants(app.db, store=app.settings.store, idle=True) == []
        assert app.lineage("total").record()
