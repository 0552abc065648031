"""Processes that are `aero work`, side by side on one database.

Run as a program, `python -m tests.faults.replicas FAULTS work`, it is one whose clock
is wrong, or that stands still in the middle of a commit; see `main`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from sqlalchemy import func, select

from aero.app import Aero
from aero.testing import make_app
from tests.faults.racing import waits_for_a_lock

PATIENCE = 60.0


class Replica:
    """A process that works; it is killed at the latest as its group ends."""

    def __init__(self, command: Sequence[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=env,
                stdout=output,
                stderr=output,
                cwd=Path(__file__).parents[2],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self, *, group: bool = False) -> None:
        """Kill the process, or all that it started as well, and see it end."""
        victims = [self.pid]
        if group:
            with suppress(psutil.Error):
                children = psutil.Process(self.pid).children(recursive=True)
                victims += [child.pid for child in children]
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(PATIENCE)

    def workers(self) -> list[int]:
        """Return the processes in which its functions run."""
        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(self.pid).children()]
        return []

    def end(self) -> int:
        """Wait for its end; return its exit code."""
        return self._process.wait(PATIENCE)

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self.send(signal.SIGTERM)
        return self.end()

    def stands_still(self) -> bool:
        """Whether it was stopped."""
        return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def said(self) -> str:
        """Return what it printed."""
        return self.log.read_text(errors="replace")


class Group:
    """A workspace on PostgreSQL and the processes that work for it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.executed = folder / "executed"
        self.executed.touch()
        self._stack = ExitStack()
        store = folder / "store"
        self.app: Aero = make_app(folder / "here", database_url=url, store=store)

    def __enter__(self) -> Self:
        self._stack.enter_context(self.app)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(
        self,
        home: str,
        *flags: str,
        url: str | None = None,
        faults: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Replica:
        """Start `aero work` with a home of this name; the store is everyone's."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("AERO_")}
        settings = {"workers": 1, **settings}
        env |= {f"AERO_{k.upper()}": str(v) for k, v in settings.items()}
        env |= {
            "AERO_HOME": str(self.folder / home),
            "AERO_STORE": str(self.folder / "store"),
            "AERO_DATABASE_URL": url or self.url,
        }
        command = ["aero"]
        if faults is not None:
            command = ["tests.faults.replicas", json.dumps(faults)]
        log = self.folder / f"{home}.log"
        replica = Replica([*command, "work", *flags], env, log)
        self._stack.callback(replica.kill, group=True)
        return replica

    def executions(self) -> list[str]:
        """Return what the functions noted, a line for every execution."""
        return self.executed.read_text().splitlines()

    def now(self) -> datetime:
        """Return the database's time."""
        with self.app.db.read() as tx:
            return self.app.db.now(tx)

    def rows(self, *columns: Any) -> list[Any]:
        """Return these columns of a table."""
        with self.app.db.read() as tx:
            return list(tx.execute(select(*columns)).all())

    def waits_for_a_lock(self) -> bool:
        """Whether a transaction is blocked by another one."""
        with self.app.db.read() as tx:
            return waits_for_a_lock(tx)

    def count(self, model: Any) -> int:
        """Return how many rows a table has."""
        return int(self.rows(func.count(model.id))[0][0])

    def until(
        self, what: Callable[[], Any], *replicas: Replica, patience: float = PATIENCE
    ) -> Any:
        """Wait until something is the case; return it."""
        deadline = time.monotonic() + patience
        while not (found := what()):
            if time.monotonic() > deadline:
                pytest.fail("\n".join(each.said()[-3000:] for each in replicas))
            time.sleep(0.05)
        return found


def main() -> None:
    """Be `aero` with the faults that the first argument, JSON, describes.

    `ahead`: how many seconds this process's clock is ahead; `own_clock`: whether it
    decides in place of the database's; `stop_in_commit`: whether to stand still once,
    in the midst of a commit, with all its locks held.
    """
    faults = json.loads(sys.argv.pop(1))
    ahead = timedelta(seconds=faults.get("ahead", 0))
    _be_ahead(ahead)
    if faults.get("own_clock"):
        from aero.clock import utc_now
        from aero.db.session import Database

        Database.now = lambda self, tx: utc_now() + ahead
    if faults.get("stop_in_commit"):
        _stop_in_commit()
    from aero.cli import main as aero

    aero()


def _be_ahead(by: timedelta) -> None:
    import apscheduler.executors.base
    import apscheduler.schedulers.base

    import aero.app
    import aero.clock

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + by

    now = aero.clock.utc_now
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "aero" and getattr(module, "utc_now", None) is now:
            module.utc_now = lambda: now() + by
    for module in (apscheduler.schedulers.base, apscheduler.executors.base):
        module.datetime = Ahead


def _stop_in_commit() -> None:
    import aero.runs.commit

    make, stopped = aero.runs.commit._make_versions, []

    def stopping(*args: Any) -> Any:
        made = make(*args)
        if not stopped:
            stopped.append(True)
            os.kill(os.getpid(), signal.SIGSTOP)
        return made

    aero.runs.commit._make_versions = stopping


if __name__ == "__main__":
    main()
