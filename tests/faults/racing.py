"""Two transactions at once, brought to the same point whatever the machine's load.

A race lets a first transaction go up to a named function or statement, begins a second
one, waits until that is done or blocked by a lock, and lets the first one go on. There
are no sleeps that anything depends on.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, select, text

from aero.app import Aero
from aero.db.models import DataVersion, Flow, Run, RunInput
from aero.runs.dispatch import Dispatcher
from aero.storage.base import address
from aero.testing import make_app
from tests.histories import Violation, Workers, analyse, sha256
from tests.invariants import check_invariants

PATIENCE = 20


def waits_for_a_lock(tx: Connection) -> bool:
    """Whether a transaction of this PostgreSQL database is blocked by another one."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE "
        "datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(tx.execute(waiting).scalar_one())


class Work(threading.Thread):
    """Runs `work` in a thread, and keeps what it returned or raised."""

    def __init__(self, name: str, work: Callable[[], Any]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self.result: Any = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.result = self._work()
        except Exception as error:  # noqa: BLE001 -- the scenario judges it
            self.error = error

    def end(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive(), f"{self.name} did not end"
        return self.error if self.error is not None else self.result


class Race:
    """A workspace on PostgreSQL whose transactions meet where a scenario wants it."""

    def __init__(self, app: Aero, workers: Workers) -> None:
        self.app = app
        self.workers = workers
        self.number = 0
        self.waited = False
        self.deadlocks = 0
        event.listen(app.db.engine, "handle_error", self._count_deadlock)
        self.function = app.register_function(analyse)
        self.dispatcher: Dispatcher = app.engine._ready()
        self.dispatcher.enter()

    def source(self, **options: Any) -> tuple[str, str]:
        """Register an ingestion; return its id and its Data's."""
        return self._register(
            None,
            {},
            {"out": {"url": f"http://127.0.0.1:9/{self.number}"}},
            policy="INGESTION",
            **options,
        )

    def analysis(
        self, *data: str, policy: str, output: str | None = None
    ) -> tuple[str, str]:
        """Register an analysis of these Data; return its id and its Data's."""
        inputs = {f"x{i}": {"id": each} for i, each in enumerate(data)}
        made = {} if output is None else {"id": output}
        return self._register(self.function, inputs, {"out": made}, policy=policy)

    def _register(self, *args: Any, **options: Any) -> tuple[str, str]:
        self.number += 1
        kwargs = {"number": self.number}
        flow = self.app.register_flow("local", *args, kwargs, **options)
        return flow["id"], flow["contributed_to"][0]["id"]

    def held(self) -> dict[str, Any]:
        """Claim what may start; return flow -> what the dispatcher holds."""
        self.dispatcher.wake()
        self.dispatcher.step()
        return {held.run.flow_id: held for held in self.dispatcher._held.values()}

    def commit(self, held: Any, content: str) -> None:
        """Commit a run whose output has this content."""
        del self.dispatcher._held[held.run.id]
        payload = held.task["aero"]
        for entry in payload["output_data"].values():
            digest = sha256(content)
            entry.update(sha256=digest, size=1, uri=address(digest), etag=content)
            if "url" in entry:
                entry["retrieved_at"] = "2026-01-01T00:00:00+00:00"
        result = {"aero": payload, "steps": [], "environment": {}, "error": None}
        self.dispatcher._commit(held, result)

    def waiting(self, flow: str) -> list[dict[str, int]]:
        """Return the inputs of the flow's PENDING runs."""
        return self._inputs(flow, "PENDING")

    def running(self, flow: str) -> list[dict[str, int]]:
        """Return the inputs of the flow's RUNNING runs."""
        return self._inputs(flow, "RUNNING")

    def _inputs(self, flow: str, status: str) -> list[dict[str, int]]:
        with self.app.db.read() as tx:
            runs = tx.execute(
                select(Run.id).where(Run.flow_id == flow, Run.status == status)
            ).scalars()
            return [
                dict(
                    tx.execute(
                        select(RunInput.name, DataVersion.version)
                        .join(DataVersion, DataVersion.id == RunInput.version_id)
                        .where(RunInput.run_id == run)
                    ).all()
                )
                for run in runs.all()
            ]

    def make_due(self, flow: str) -> None:
        """Let a flow be due now."""

        def work(tx: Any) -> None:
            values = {"next_due": self.app.db.now(tx)}
            tx.execute(Flow.__table__.update().where(Flow.id == flow).values(**values))

        self.app.db.write(work)

    def meet(
        self,
        first: Callable[[], Any],
        second: Callable[[], Any],
        *,
        at: tuple[Any, str] | str,
    ) -> tuple[Any, Any]:
        """Run both, the second beside the first as it has just done `at`.

        `at` is a function, by module and name, or the pattern of a statement.
        Afterwards `waited` tells whether the second was blocked by a lock.
        """
        reached, go_on = threading.Event(), threading.Event()

        def stop() -> None:
            if threading.current_thread().name == "first" and not reached.is_set():
                reached.set()
                assert go_on.wait(PATIENCE)

        self.waited = False
        with self._stopping(at, stop):
            one, two = Work("first", first), Work("second", second)
            one.start()
            assert reached.wait(PATIENCE), f"{at} was not reached: {one.error}"
            two.start()
            while two.is_alive() and not self.waited:
                two.join(0.01)
                self.waited = two.is_alive() and self._blocked()
            go_on.set()
            return one.end(), two.end()

    @contextmanager
    def _stopping(
        self, at: tuple[Any, str] | str, stop: Callable[[], None]
    ) -> Iterator[None]:
        if isinstance(at, tuple):
            original = getattr(*at)

            def stopping(*args: Any, **kwargs: Any) -> Any:
                found = original(*args, **kwargs)
                stop()
                return found

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(*at, stopping)
                yield
            return

        def executed(_tx: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if re.search(at, statement, re.DOTALL):
                stop()

        name = "after_cursor_execute"
        event.listen(self.app.db.engine, name, executed)
        yield
        event.remove(self.app.db.engine, name, executed)

    def _count_deadlock(self, context: Any) -> None:
        state = getattr(context.original_exception, "sqlstate", None)
        self.deadlocks += state == "40P01"

    def _blocked(self) -> bool:
        with self.app.db.read() as tx:
            return waits_for_a_lock(tx)

    def sound(self, *ended: Any) -> None:
        """Raise a Violation for an unexpected error, or what may never be."""
        errors = [each for each in ended if isinstance(each, Exception)]
        found = check_invariants(self.app.db)
        if self.deadlocks:
            found.append(f"there were {self.deadlocks} deadlocks")
        if errors or found:
            raise Violation(f"{errors} {found}")


@contextmanager
def race(url: str, home: Path) -> Iterator[Race]:
    """Open an empty workspace on PostgreSQL."""
    workers = Workers()
    with make_app(home, database_url=url, executor=workers, workers=8) as app:
        yield Race(app, workers)
