"""Worker processes killed at random moments: their own runs fail, and say so."""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from aero import AeroOutput
from aero.testing import make_app
from tests.faults.ordeal import PATIENCE, is_one_sentence, left_behind, recover

KILLS = 10
FLOWS = 12
SEED = 1849


def writes(executed: str, number: int) -> AeroOutput:
    """Note the execution, then write 256 KiB that nobody wrote before."""
    import os
    from pathlib import Path

    log = os.open(executed, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, b"%d\n" % number)
    os.close(log)
    Path("out").write_bytes(os.urandom(1 << 18))
    return AeroOutput("out", "out")


@contextmanager
def killing(killed: list[int], seeded: random.Random) -> Iterator[None]:
    """Kill a worker of this process now and then, KILLS times; note which."""
    stop = threading.Event()

    def kill() -> None:
        while len(killed) < KILLS and not stop.wait(0.005):
            workers = [each.pid for each in psutil.Process().children() if busy(each)]
            if workers:
                victim = seeded.choice(workers)
                # By then it may be at another step, at another run, or at rest.
                stop.wait(seeded.uniform(0.0, 0.6))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def busy(process: psutil.Process) -> bool:
    """Whether a process is a worker that works on a run."""
    try:
        return "scratch" in process.cwd()
    except psutil.Error:
        return False


def test_only_the_killed_runs_fail_and_nothing_is_left(tmp_path: Path) -> None:
    killed: list[int] = []
    executed = tmp_path / "executed"
    with make_app(tmp_path / "home", executor=None, workers=2) as app:
        function = app.register_function(writes)
        flows = [
            app.register_flow(
                "local",
                function,
                {},
                {"out": {}},
                {"executed": str(executed), "number": number},
            )
            for number in range(FLOWS)
        ]
        began = time.monotonic()
        with killing(killed, random.Random(SEED)):
            while len(killed) < KILLS:
                assert time.monotonic() - began < PATIENCE
                for flow in flows:
                    app.run_flow(flow["id"], wait=False)
                app.run_until_idle(PATIENCE)
        runs = list(app.list_runs())
        found = Counter(run["status"] for run in runs)
        failed = [run for run in runs if run["status"] == "FAILED"]
        executions = len(executed.read_text().splitlines())
        print(
            f"{len(killed)} kills in {time.monotonic() - began:.1f} s: {executions} "
            f"executions, {len(runs)} runs, {dict(found)}"
        )
        assert set(found) <= {"SUCCEEDED", "FAILED"}
        assert len(failed) <= len(killed)
        for run in failed:
            assert run["error_type"] == "FunctionDiedError"
            assert "SIGKILL" in run["error_message"]
            assert is_one_sentence(run["error_message"])
        assert left_behind(app) == []
        for flow in flows:
            app.run_flow(flow["id"], wait=False)
        recover(app, flows[0])
        for flow in flows:
            assert next(app.list_runs(flow["id"]))["status"] == "SUCCEEDED"
    left = [each for each in psutil.Process().children(recursive=True) if busy(each)]
    assert left == []
