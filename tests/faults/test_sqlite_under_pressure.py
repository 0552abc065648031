"""SQLite held up: by one who keeps the write lock, and by one who keeps reading."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from aero.app import Aero
from aero.db.queries import flows as flow_queries
from aero.testing import make_app
from tests.faults.ordeal import PATIENCE, recover
from tests.scenarios import tick

HOLD = 10.5
"""Seconds; longer than one attempt of the product waits for the lock (busy_timeout)."""

COMMITS = 1_000
PAGES = 10
MIB = 1 << 20
LIMIT = 4000 * 4096
"""Bytes of the log from which on SQLite tries to copy it into the database."""


def waits(path: str, number: int) -> None:
    """End once a file is there."""
    import time
    from pathlib import Path

    assert number >= 0
    while not Path(path).exists():
        time.sleep(0.01)


def database(app: Aero) -> sqlite3.Connection:
    """Return a connection of somebody else."""
    return sqlite3.connect(app.settings.home / "aero.db", isolation_level=None)


def test_the_write_lock_held_for_longer_than_anyone_waits(tmp_path: Path) -> None:
    with make_app(tmp_path / "home", executor=None, workers=2, heartbeat=1.0) as app:
        function = app.register_function(waits)
        go = tmp_path / "go"
        flows = [
            app.register_flow(
                "local", function, {}, {}, {"path": str(go), "number": number}
            )
            for number in range(4)
        ]
        runs = [app.run_flow(flow["id"], wait=False)["id"] for flow in flows]
        app.start()
        deadline = time.monotonic() + PATIENCE
        while [app.get_run(each)["status"] for each in runs].count("RUNNING") < 2:
            assert time.monotonic() < deadline
        slowest = 0.0
        with closing(database(app)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            go.touch()
            while time.monotonic() - began < HOLD:
                asked = time.monotonic()
                assert len(list(app.list_runs())) == len(runs)
                slowest = max(slowest, time.monotonic() - asked)
                time.sleep(0.1)
            ended = [app.get_run(each)["finished_at"] for each in runs]
        freed = time.monotonic()
        app.run_until_idle(PATIENCE)
        print(
            f"locked for {HOLD} s: {len(runs)} runs done {time.monotonic() - freed:.2f}"
            f" s after, the slowest read meanwhile took {slowest * 1000:.0f} ms"
        )
        assert ended == [None] * len(runs)
        for each in runs:
            run = app.get_run(each)
            assert (run["status"], run["attempt"]) == ("SUCCEEDED", 1), run
        recover(app, flows[0])


def test_a_reader_that_stays_for_a_thousand_commits(sqlite_app: Aero) -> None:
    app = sqlite_app
    flow = app.register_flow("local", app.register_function(tick), {}, {})
    wal = app.settings.home / "aero.db-wal"

    def commit(number: int) -> None:
        values = {"description": str(number % 10) * PAGES * 4096}
        app.db.write(lambda tx: flow_queries.set_values(tx, flow["id"], **values))

    seen = "SELECT description FROM flow"
    with closing(database(app)) as reader:
        reader.execute("BEGIN")
        first = reader.execute(seen).fetchone()
        before, written = wal.stat().st_size, app.db.writes
        for number in range(COMMITS):
            commit(number)
        most = wal.stat().st_size
        assert app.db.writes - written == COMMITS
        assert reader.execute(seen).fetchone() == first
    # The first commit copies the log into the database, the next begins it anew.
    commit(COMMITS)
    recover(app, flow)
    after = wal.stat().st_size
    print(
        f"write-ahead log: {before / MIB:.1f} MiB, after {COMMITS} commits of {PAGES} "
        f"pages beside a reader {most / MIB:.1f} MiB, {after / MIB:.1f} MiB after the "
        "next run without it"
    )
    assert most > 2 * LIMIT
    assert after <= LIMIT
