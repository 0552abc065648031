"""A hundred clients at once; `bench_load.py` asks the same of a thousand."""

from pathlib import Path

from aero.testing import make_app
from tests.conftest import Publisher
from tests.invariants import check_invariants
from tests.load import furnish, load, quantile, served, told

# Seconds; an idle machine needs a tenth, but this one may be busy with other tests.
LONGEST = 2.0


def test_a_hundred_clients_are_answered(
    tmp_path: Path, database_url: str, isolation: Path, publisher: Publisher
) -> None:
    """No error and no long wait, with one request in five a write."""
    with make_app(isolation, database_url=database_url) as app:
        url = publisher.publish("cases.csv", "day,cases\n1,4\n")
        kinds = furnish(app, url, sources=5, versions=2)
        with served() as server:
            measured = load(server, kinds, clients=100, seconds=3, think=2)
        print(told(measured, kinds))
        assert measured.errors == []
        assert measured.connected == 100
        for writes in (False, True):
            assert len(measured.of(kinds, writes=writes)) > 5
        assert quantile(measured.of(kinds, writes=False), 0.99) < LONGEST
        app.run_until_idle(60)
        assert check_invariants(app.db, store=app.settings.store, idle=True) == []
