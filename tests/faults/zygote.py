"""Forks a process per line of input, so that a life costs no imports; see `Lives`.

Run as a program. Each line of standard input is JSON, the keyword arguments of a life;
each life is announced with its process id, and its end with how it ended.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

MARK = "AERO_TEST_MARK"
SPEED = 60.0


def live(
    *,
    home: str,
    server: str,
    executed: str,
    sources: int,
    rounds: int,
    began: float,
    inline: bool = False,
    deaths: dict[str, int] | None = None,
) -> None:
    """Work on a workspace until all its rounds are done; may be killed anywhere."""
    from urllib.request import urlopen

    from aero.clock import utc_now
    from aero.testing import make_app
    from tests.faults.crash_functions import clean, count

    def clock() -> datetime:
        """Time that runs fast, so that back-offs are short."""
        now = utc_now().timestamp()
        return datetime.fromtimestamp(began + (now - began) * SPEED, tz=UTC)

    app = make_app(
        Path(home),
        clock=clock,
        executor="inline" if inline else None,
        workers=2,
        lease=36_000.0,
    )
    _wait_less()
    if deaths is not None:
        _die_at(app, **deaths)
    functions = app.register_function(clean), app.register_function(count)
    flows = []
    for number in range(sources):
        name = f"source{number}"
        flow = app.register_flow(
            "local",
            functions[0],
            None,
            {name: {"url": f"{server}/{number}"}},
            {"executed": executed, "out": name},
            policy="INGESTION",
            timer_delay=10_000_000,
            exist_ok=True,
        )
        made = flow["contributed_to"][0]["id"]
        app.register_flow(
            "local",
            functions[1],
            {"series": {"id": made}},
            {"total": {}},
            {"executed": executed, "number": number},
            policy="ANY",
            exist_ok=True,
        )
        flows.append(flow["id"])
    print("ready", flush=True)
    for number in range(rounds):
        app.run_until_idle(120)
        urlopen(f"{server}/round/{number}", timeout=10).close()
        for flow_id in flows:
            app.run_flow(flow_id, wait=False, idempotency_key=f"round-{number}")
    app.run_until_idle(120)
    app.close()
    print("done", app._db.writes, flush=True)


def _wait_less() -> None:
    """Let nothing be waited for by this process's clock, which is slower."""
    from aero.runs.dispatch import Dispatcher

    wait = Dispatcher.wait
    Dispatcher.wait = lambda self, timeout: wait(self, min(timeout, 0.02))


def _die_at(app: Any, *, before: int = 0, after: int = 0) -> None:
    """Kill this process at a boundary of its n-th writing transaction (from 1)."""
    from sqlalchemy import event

    seen = [0]

    def begun(connection: Any) -> None:
        seen[0] += bool(connection.get_execution_options().get("aero_write"))

    def commit(connection: Any) -> None:
        if connection.get_execution_options().get("aero_write") and seen[0] == before:
            os.kill(os.getpid(), signal.SIGKILL)

    write = app._db.write

    def written(work: Any) -> Any:
        result = write(work)
        if seen[0] == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    event.listen(app._db.engine, "begin", begun)
    event.listen(app._db.engine, "commit", commit)
    app._db.write = written


class Lives:
    """Gives out processes that work on the same workspace, one after the other."""

    def __init__(self, mark: str, log: Path) -> None:
        self.log = log
        self._errors = log.open("wb")
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | {MARK: mark},
            cwd=Path(__file__).parents[2],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zygote.stdin.close()
        self._zygote.wait(20)
        self._zygote.stdout.close()
        self._errors.close()

    @property
    def pid(self) -> int:
        """The process that forks the lives."""
        return self._zygote.pid

    def begin(self, **life: Any) -> int:
        """Begin a life; return its process id."""
        self._zygote.stdin.write(json.dumps(life) + "\n")
        self._zygote.stdin.flush()
        return int(self.said("pid"))

    def said(self, *wanted: str) -> str:
        """Return what was said after one of these words, or how the life ended."""
        # Whatever else a life or its workers print is none of the words.
        for line in iter(self._zygote.stdout.readline, ""):
            word, _, rest = line.strip().partition(" ")
            if word in wanted:
                return rest
            if word == "ended":
                return f"ended {rest}"
        return f"ended with {self._zygote.wait(10)}: {self.log.read_text()[-4000:]}"


def _serve() -> None:
    for name in ("aero.testing", "aero.runs.dispatch", "aero.compute.pool"):
        importlib.import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            print("pid", os.getpid(), flush=True)
            live(**json.loads(line))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
