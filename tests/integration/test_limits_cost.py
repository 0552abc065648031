"""What a claim costs does not depend on how many runs a limit holds back."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text

from aero.app import Aero
from aero.db.models import Run
from aero.runs.claiming import Claimer
from aero.testing import make_app
from tests.scenarios import tick

FEW, MANY = 300, 10_000


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Aero]:
    options = {}
    if request.param == "postgresql":
        options["database_url"] = request.getfixturevalue("postgres_url")
    with make_app(tmp_path, **options) as app:
        yield app


class Queue:
    """A full flow with a limit, whose runs come first, and one without."""

    def __init__(self, app: Aero, *, limit: int | None) -> None:
        self.app = app
        function = app.register_function(tick)
        self.full = app.register_flow("local", function, max_running=limit)["id"]
        other = app.register_flow("local", function, {}, {"out": {}})
        self.free = other["id"]
        self.number = 0
        self.add(self.free, 200)

    def add(
        self, flow: str, count: int, status: str = "PENDING", *, limited: bool = False
    ) -> None:
        def work(tx: Connection) -> None:
            now = self.app.db.now(tx)
            early = now - timedelta(seconds=100 if limited else 10)
            held = {"claim": str(uuid.uuid4()), "lease_expires": now, "started_at": now}
            row = {
                "flow_id": flow,
                "source_key": "",
                "status": status,
                "priority": 0,
                "limited": limited,
                "trigger_kind": "manual",
                "trigger_key": "manual:x",
                "attempt": 1,
                "function_failures": 0,
                "lost_tries": 0,
                "not_before": early,
                "created_at": early,
                **(held if status == "RUNNING" else {}),
            }
            tasks = range(self.number, self.number + count)
            tx.execute(
                insert(Run), [row | {"id": str(uuid.uuid4()), "task": n} for n in tasks]
            )
            self.number += count

        self.app.db.write(work)
        if not self.app.db.is_sqlite:
            with self.app.db.engine.connect() as tx:
                tx.execute(text("ANALYZE run"))
                tx.commit()

    def claim(self) -> tuple[int, int, int]:
        """Claim four; return how many were got, in how many statements, at which cost.

        The cost is in instructions of SQLite's machine, or in rows PostgreSQL read.
        """
        app = self.app
        claimer = Claimer(
            app.db,
            app.engine._dispatch_settings(),
            worker=str(uuid.uuid4()),
            endpoints=["local"],
        )
        claimer._load_definitions = lambda tx, ids: None
        claimer._hold = lambda tx, row, inputs: row
        claimer._definitions = _Anything()
        statements: list[str] = []
        cost = [0]

        def note(tx: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if "run" in statement or "endpoint_limit" in statement:
                statements.append(statement)

        def work(tx: Connection) -> list[Any]:
            if app.db.is_sqlite:
                driver = tx.connection.dbapi_connection
                driver.set_progress_handler(
                    lambda: cost.__setitem__(0, cost[0] + 10), 10
                )
                rows = claimer._take(tx, 4, str(uuid.uuid4()))
                driver.set_progress_handler(None, 0)
                return rows
            rows = claimer._take(tx, 4, str(uuid.uuid4()))
            cost[0] = tx.execute(
                text(
                    "SELECT sum(seq_tup_read + idx_tup_fetch) FROM "
                    "pg_stat_xact_user_tables WHERE relname = 'run'"
                )
            ).scalar_one()
            return rows

        event.listen(app.db.engine, "after_cursor_execute", note)
        rows = app.db.write(work)
        event.remove(app.db.engine, "after_cursor_execute", note)
        ours = [s for s in statements if "pg_stat" not in s]
        return len(rows), len(ours), int(cost[0])


class _Anything(dict[str, Any]):
    def __missing__(self, key: str) -> Any:
        return type("Nothing", (), {"fetch": False})


def test_ten_thousand_runs_behind_a_limit_cost_nobody_anything(app: Aero) -> None:
    queue = Queue(app, limit=3)
    queue.add(queue.full, 3, "RUNNING", limited=True)
    queue.add(queue.full, FEW, limited=True)
    few = queue.claim()
    queue.add(queue.full, MANY, limited=True)
    many = queue.claim()
    print(f"{app.db.url.get_backend_name()}: behind {FEW} {few}, behind {MANY} {many}")
    assert few[0] == many[0] == 4
    assert few[1] == many[1]
    assert many[2] - few[2] < MANY / 10


def test_room_at_a_limit_costs_the_same_however_many_wait(app: Aero) -> None:
    queue = Queue(app, limit=100)
    queue.add(queue.full, FEW, limited=True)
    few = queue.claim()
    queue.add(queue.full, MANY, limited=True)
    many = queue.claim()
    print(f"{app.db.url.get_backend_name()}: of {FEW} {few}, of {MANY} {many}")
    assert few[0] == many[0] == 4
    assert few[1] == many[1]
    assert many[2] - few[2] < MANY / 10


def test_without_a_limit_a_claim_is_one_statement(app: Aero) -> None:
    queue = Queue(app, limit=None)
    few = queue.claim()
    queue.add(queue.free, MANY)
    many = queue.claim()
    print(f"{app.db.url.get_backend_name()}: of 200 {few}, of {MANY} {many}")
    assert few[:2] == many[:2] == (4, 1)
    assert many[2] - few[2] < MANY / 10
