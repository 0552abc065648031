"""Whatever a function prints, its run ends and says so."""

from pathlib import Path

import pytest

from aero.testing import make_app
from tests import scenarios
from tests.conftest import Publisher


def shout(cases):
    print("a\0b")
    raise ValueError("no good")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_postgresql_does_not_store_is_replaced(
    tmp_path: Path, publisher: Publisher, request: pytest.FixtureRequest, kind: str
) -> None:
    url = "" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    with make_app(tmp_path, executor=None, workers=1, database_url=url) as app:
        source = scenarios.source(app, publisher.publish("cases", "1"))
        app.run_flow(source["id"], timeout=30)
        flow = scenarios.analysis(app, shout, {"cases": scenarios.made(source)}, ())
        app.run_until_idle(30)
        run = app.get_run(next(app.list_runs(flow["id"]))["id"])
    assert run["status"] == "FAILED"
    assert run["log_tail"] == "a\ufffdb\n"
