"""A function fails only its own run, and nothing it began outlives it."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, wait
from itertools import count
from pathlib import Path

import psutil
import pytest

from aero.compute import processes, worker
from aero.compute import scratch as scratch_module
from aero.compute.local import LocalExecutor
from aero.compute.scratch import CANCELLED, TIMEOUT, Scratch, remove
from aero.error import (
    FunctionDiedError,
    FunctionError,
    FunctionTimeoutError,
    InvalidValueError,
    OutOfMemoryError,
    StorageError,
    WorkerLostError,
)
from tests import compute_functions as functions

PATIENCE = 30


@pytest.fixture(scope="module")
def executor():
    with LocalExecutor(1) as executor:
        yield executor


@pytest.fixture
def task(tmp_path):
    numbers = count()
    (tmp_path / "work").mkdir()
    yield lambda **more: {
        "workdir": str(tmp_path / "work" / str(next(numbers))),
        **more,
    }
    assert not list((tmp_path / "work").iterdir())


@pytest.fixture
def ready(tmp_path):
    """Wait for a function to begin; return the process ids it announced."""

    def wait_for(path=tmp_path / "ready"):
        assert until(path.exists)
        return [int(pid) for pid in path.read_text().split()]

    wait_for.path = str(tmp_path / "ready")
    return wait_for


def until(condition, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def works(executor, task):
    return executor.submit(functions.echo, task(value=7)).result(PATIENCE)["got"] == 7


def died(executor, fn, task):
    error = executor.submit(fn, task()).exception(PATIENCE)
    assert type(error) is FunctionDiedError
    assert works(executor, task)
    return error


def test_the_end_of_a_process_fails_only_its_own_run(executor, task):
    error = died(executor, functions.leave_cleanly, task)
    assert error.exitcode == 0
    assert error.log_tail == "bye\n"
    error = died(executor, functions.leave_with_3, task)
    assert error.exitcode == 3
    assert "ended its process with exit code 3" in str(error)


def test_a_crash_fails_only_its_own_run(executor, task):
    error = died(executor, functions.crash, task)
    assert error.signal == "SIGSEGV"
    assert error.log_tail.startswith("about to\n")


def test_killing_its_group_hits_only_the_function(executor, task):
    error = died(executor, functions.kill_own_group, task)
    assert error.signal == "SIGKILL"
    assert "memory" in str(error)


def test_closing_the_pools_descriptors_fails_only_its_own_run(executor, task):
    assert died(executor, functions.close_all, task).exitcode == 1


@pytest.mark.parametrize("name", ["close_standard", "close_stdout"])
def test_closing_standard_descriptors_harms_nobody(executor, task, name):
    assert executor.submit(getattr(functions, name), task()).result(PATIENCE)
    result = executor.submit(functions.speak_low, task()).result(PATIENCE)
    assert result["log_tail"] == "python\nprogram\nc code\n"


def test_deep_recursion_fails_only_its_own_run(executor, task):
    error = executor.submit(functions.recurse, task()).exception(PATIENCE)
    assert error.error_type == "RecursionError"
    assert works(executor, task)


def test_a_forked_child_delivers_nothing(executor, task):
    result = executor.submit(functions.fork_and_return, task()).result(PATIENCE)
    assert result["parent"] is True
    exited = executor.submit(functions.fork_and_exit, task(code=5)).result(PATIENCE)
    assert exited == {"status": 5, "log_tail": "child speaks\n"}
    assert works(executor, task)


@pytest.mark.parametrize("name", ["sleep_deaf", "spin_in_c"])
def test_a_timeout_stops_what_does_not_listen(executor, task, name):
    future = executor.submit(getattr(functions, name), task(timeout=0.4))
    error = future.exception(PATIENCE)
    assert type(error) is FunctionTimeoutError
    assert error.timeout == 0.4
    assert error.log_tail == ("asleep\n" if name == "sleep_deaf" else "")
    assert works(executor, task)


def test_a_timeout_ends_what_the_function_started(executor, task, ready):
    given = task(timeout=1, ready=ready.path)
    future = executor.submit(functions.spawn_and_sleep, given)
    pids = ready()
    assert type(future.exception(PATIENCE)) is FunctionTimeoutError
    assert until(lambda: all(map(gone, pids)))


def test_a_timeout_does_not_reach_into_the_next_run(executor, task):
    first = executor.submit(functions.nap, task(timeout=0.6, seconds=0.1))
    second = executor.submit(functions.nap, task(seconds=1))
    assert second.result(PATIENCE)["pid"] == first.result(PATIENCE)["pid"]


def test_what_has_begun_runs_before_the_pool_hears_of_it(
    executor, task, ready, monkeypatch
):
    future = executor.submit(functions.spawn_and_sleep, task(ready=ready.path))
    pids = ready()
    monkeypatch.setattr(future.work, "running", lambda: False)
    begun = future.running()
    future.cancel()
    assert begun
    assert not future.running()
    assert wait([future], PATIENCE).done
    assert until(lambda: all(map(gone, pids)))


def test_cancel_kills_running_work_and_what_it_started(executor, task, ready):
    future = executor.submit(functions.spawn_and_sleep, task(ready=ready.path))
    pids = ready()
    assert until(future.running)
    assert future.cancel()
    assert future.cancel()
    assert not future.running()
    with pytest.raises(CancelledError):
        future.result()
    assert wait([future], PATIENCE).done
    assert until(lambda: all(map(gone, pids)))
    assert works(executor, task)


def test_cancel_of_waiting_work_never_begins_it(executor, task, ready, tmp_path):
    begun = str(tmp_path / "begun")
    first = executor.submit(functions.nap, task(ready=ready.path, seconds=0.5))
    second = executor.submit(functions.nap, task(ready=begun))
    ready()
    assert second.cancel()
    assert first.result(PATIENCE)["pid"]
    assert wait([second], PATIENCE).done
    assert not Path(begun).exists()


def test_cancel_comes_too_late_for_finished_work(executor, task):
    future = executor.submit(functions.echo, task(value=1))
    assert future.result(PATIENCE)
    assert not future.cancel()


def test_cancelling_at_any_moment_loses_no_other_task(task):
    with LocalExecutor(2) as executor:
        for round_ in range(40):
            futures = [
                executor.submit(functions.nap, task(seconds=0.002)) for _ in range(6)
            ]
            time.sleep(0.0005 * round_)
            futures[round_ % 6].cancel()
            assert not wait(futures, PATIENCE).not_done
            assert all(f.cancelled() or f.result()["pid"] for f in futures)
            assert sum(f.cancelled() for f in futures) <= 1


def test_deaths_at_any_moment_lose_no_other_task(task):
    with LocalExecutor(2) as executor:
        deaths = [executor.submit(functions.leave_with_3, task()) for _ in range(6)]
        others = [executor.submit(functions.echo, task(value=n)) for n in range(20)]
        assert [other.result(PATIENCE)["got"] for other in others] == list(range(20))
        assert {type(d.exception(PATIENCE)) for d in deaths} == {FunctionDiedError}


def test_processes_left_behind_are_gone_before_the_result(executor, task):
    result = executor.submit(functions.leave_processes, task()).result(PATIENCE)
    assert all(map(gone, result["left"]))
    after = executor.submit(functions.echo, task(value=1)).result(PATIENCE)
    assert after["pid"] != result["pid"]


def test_a_thread_left_behind_costs_the_worker_but_no_task(executor, task):
    futures = [executor.submit(functions.leave_thread, task()) for _ in range(3)]
    assert len({future.result(PATIENCE)["pid"] for future in futures}) == 3


def test_a_function_finds_nothing_of_the_one_before(executor, task, tmp_path):
    before = executor.submit(functions.describe, task()).result(PATIENCE)
    changed = executor.submit(functions.change_everything, task()).result(PATIENCE)
    after = executor.submit(functions.describe, task()).result(PATIENCE)
    assert before["pid"] == changed["pid"]
    assert after == before
    assert after["path"]
    assert after["sigterm"]
    assert not after["changed"]
    assert after["stdin"] == ""


def test_a_worker_imports_neither_database_nor_services(executor, task):
    modules = executor.submit(functions.describe, task()).result(PATIENCE)["modules"]
    heavy = {"sqlalchemy", "globus_sdk", "globus_compute_sdk", "fastapi", "numpy"}
    assert not heavy & {name.partition(".")[0] for name in modules}
    assert "aero.db" not in modules


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces the limit")
def test_memory_beyond_the_limit_fails_only_its_own_run(task):
    with LocalExecutor(1, memory_limit=1 << 29) as executor:
        for name in ("eat_memory", "eat_much_numpy"):
            future = executor.submit(getattr(functions, name), task())
            error = future.exception(PATIENCE)
            assert type(error) is OutOfMemoryError
            assert "memory limit" in str(error)
        future = executor.submit(functions.use_numpy, task())
        assert future.result(PATIENCE)["sum"] == 300**3


def test_a_worker_killed_at_rest_is_replaced(executor, task):
    pid = executor.submit(functions.echo, task(value=1)).result(PATIENCE)["pid"]
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: gone(pid))
    assert until(lambda: not executor._pool.active)
    assert works(executor, task)


def test_a_broken_pool_answers_for_its_tasks(task, ready):
    with LocalExecutor(1) as executor:
        given = task(ready=ready.path, seconds=60)
        future = executor.submit(functions.nap, given)
        ready()
        executor._discard(executor._pool)
        error = future.exception(PATIENCE)
        assert type(error) is WorkerLostError
        assert works(executor, task)


def test_nothing_starts_before_the_first_task():
    children = set(psutil.Process().children())
    LocalExecutor(2).shutdown()
    assert set(psutil.Process().children()) <= children


def test_start_warms_the_workers(task):
    with LocalExecutor(2) as executor:
        executor.start()
        assert len(executor._pool._pool_manager.worker_manager.workers) == 2
        assert works(executor, task)


def test_needs_a_worker():
    with pytest.raises(InvalidValueError, match="at least 1"):
        LocalExecutor(0)


def test_shutdown_waits_and_leaves_no_process(task):
    executor = LocalExecutor(2)
    future = executor.submit(functions.nap, task())
    executor.shutdown()
    assert gone(future.result(0)["pid"])


def test_shutdown_can_cancel_all(task, ready):
    executor = LocalExecutor(1)
    futures = [
        executor.submit(functions.spawn_and_sleep, task(ready=ready.path)),
        executor.submit(functions.nap, task()),
    ]
    pids = ready()
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert until(lambda: all(map(gone, pids)))


def test_shutdown_need_not_wait(task):
    executor = LocalExecutor(1)
    future = executor.submit(functions.nap, task())
    executor.shutdown(wait=False)
    pid = future.result(PATIENCE)["pid"]
    assert until(lambda: gone(pid))


SCRIPT = """
import os, sys, time
sys.path.insert(0, {root!r})
from aero.compute.local import LocalExecutor
from tests import compute_functions as functions
executor = LocalExecutor(2)
future = executor.submit(functions.{name}, {{"workdir": {work!r}, "ready": {ready!r}}})
{rest}
"""


def script(tmp_path, name, rest):
    text = SCRIPT.format(
        root=str(Path(__file__).parents[2]),
        name=name,
        work=str(tmp_path / "script"),
        ready=str(tmp_path / "ready"),
        rest=rest,
    )
    path = tmp_path / "script.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def test_sigkill_of_the_parent_leaves_no_process(tmp_path, ready):
    command = script(tmp_path, "spawn_and_sleep", "time.sleep(1000)")
    with subprocess.Popen(command) as parent:
        pids = ready()
        parent.kill()
        assert parent.wait() == -signal.SIGKILL
        assert until(lambda: all(map(gone, pids)), 5)


def test_a_script_that_forgets_shutdown_ends(tmp_path, ready):
    wait_for_it = "while not os.path.exists(sys.argv[1]): time.sleep(0.01)"
    command = script(tmp_path, "spawn_and_sleep", wait_for_it)
    done = subprocess.run(
        [*command, ready.path], timeout=20, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert until(lambda: all(map(gone, ready())), 5)
    assert not (tmp_path / "script").exists()
    assert not list(tmp_path.glob("script.*[!y]"))


def test_a_fork_of_the_parent_does_not_end_the_workers(tmp_path):
    rest = (
        "child = os.fork()\n"
        "if not child: sys.exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(future.result(20)['pid'] > 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", Path(script(tmp_path, "nap", rest)[1]).read_text()],
        timeout=20,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "True\n", done.stderr


class Ended(BaseException):
    """Stands for the end of this process."""


def end(*args):
    raise Ended(*args)


@pytest.fixture
def inside(monkeypatch):
    """Give this process a worker, to see from inside what it does."""
    cwd = Path.cwd()
    # The children of this process are those of other tests.
    monkeypatch.setattr(worker, "end_children", lambda: False)
    inside = worker.Worker()
    monkeypatch.setattr(worker, "_worker", inside)
    yield inside
    inside.close()
    os.chdir(cwd)


def guard(name, given):
    return json.loads(
        worker.guard(f"tests.compute_functions:{name}", json.dumps(given))
    )


def test_inside_a_result_and_its_log(inside, task):
    assert guard("speak_low", task()) == {
        "result": {"log_tail": "python\nprogram\nc code\n"}
    }
    assert Path.cwd() == Path("/")
    assert not inside.spent


def test_inside_changes_are_undone(inside, task):
    def state():
        names = ("PATH", "TMPDIR", "AERO_TEST_CHANGED")
        environ = [os.environ.get(name) for name in names]
        return signal.getsignal(signal.SIGTERM), environ, sys.path[:]

    saved = state()
    assert "result" in guard("change_everything", task(timeout=60))
    assert state() == saved
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_inside_a_limit_that_stays_spends_the_worker(inside, task, monkeypatch):
    monkeypatch.setitem(inside._limits, resource.RLIMIT_NOFILE, (1 << 40, 1 << 40))
    assert "result" in guard("echo", task(value=1))
    assert inside.spent


def test_inside_a_closed_stream_is_replaced(inside, task):
    assert "result" in guard("close_stdout", task())
    assert guard("speak", task())["result"]["log_tail"] == "said\ntold\n"


def test_inside_errors_are_told(inside, task, tmp_path):
    assert guard("raise_key", task())["error"]["type"] == FunctionError.__name__
    assert guard("missing", task())["error"]["facts"]["error_type"] == "AttributeError"
    lost = guard("echo", {"workdir": str(tmp_path / "no" / "where")})
    assert lost["error"]["type"] == StorageError.__name__


def test_inside_what_was_cancelled_does_not_begin(inside, task):
    given = task()
    Scratch(given["workdir"]).mark(CANCELLED)
    assert guard("echo", given) == {"cancelled": True}


def test_inside_the_condemned_waits_for_its_end(inside, task, monkeypatch):
    monkeypatch.setattr(worker.time, "sleep", end)
    monkeypatch.setattr(Scratch, "release", lambda scratch: False)
    given = task()
    with pytest.raises(Ended):
        guard("speak", given)
    Scratch(given["workdir"]).clear()


def test_inside_a_worker_past_its_deadline_ends_itself(inside, task, monkeypatch):
    monkeypatch.setattr(worker, "kill_tree", end)
    scratch = Scratch(task()["workdir"])
    inside.expire()
    inside.due = (time.monotonic() + 60, scratch)
    inside.expire()
    inside.due = (time.monotonic() - 1, scratch)
    inside.expire()
    scratch.mark(str(os.getpid()))
    with pytest.raises(Ended):
        inside.expire()
    assert scratch.holder() == TIMEOUT
    scratch.clear()


def test_inside_a_forked_child_ends_as_it_was_told(inside, task, monkeypatch):
    monkeypatch.setattr(worker.os, "_exit", end)
    for name, given, code in [
        ("echo", {"value": 1}, 0),
        ("raise_key", {}, 1),
        ("leave_by_sys_exit", {}, 3),
    ]:
        arguments = task(**given)
        inside._pid = -1
        with pytest.raises(Ended) as caught:
            guard(name, arguments)
        assert caught.value.args == (code,)
        Scratch(arguments["workdir"]).clear()


def test_inside_lost_descriptors_end_the_worker(inside, monkeypatch):
    monkeypatch.setattr(worker.os, "_exit", end)
    monkeypatch.setattr(inside, "_fds", [-1])
    with pytest.raises(Ended):
        inside._restore_fds()
    monkeypatch.setattr(inside, "_fds", [])


def test_inside_a_spent_worker_goes_between_two_tasks(inside, task, monkeypatch):
    monkeypatch.setattr(worker.os, "_exit", end)
    assert worker.Lifetime(1) > 1
    guard("raise_memory", task())
    with pytest.raises(Ended):
        assert worker.Lifetime(1) > 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is used")
def test_inside_a_worker_that_has_grown_is_spent(inside, task):
    inside.memory_limit = 1 << 40
    guard("speak", task())
    assert not inside.spent
    inside.memory_limit = 1 << 20
    assert inside._grown()


def test_the_watch_ends_a_worker_without_parent(inside, monkeypatch):
    monkeypatch.setattr(worker, "kill_tree", end)
    monkeypatch.setattr(worker, "WATCH_INTERVAL", 0.01)
    with pytest.raises(Ended):
        worker._watch(inside, -1)


def test_a_process_that_was_not_initialized_is_no_worker():
    with pytest.raises(RuntimeError, match="initialize"):
        worker.guard("tests.compute_functions:echo", "{}")


def test_the_claim_is_taken_and_lost_once(tmp_path):
    scratch = Scratch(str(tmp_path / "work"))
    assert scratch.mark("1")
    assert not scratch.mark("2")
    assert scratch.condemn() == 1
    assert not scratch.release()
    assert scratch.condemn() is None
    assert scratch.holder() == CANCELLED
    assert scratch.condemn() is None
    assert Scratch(str(tmp_path / "no" / "where")).condemn() is None
    assert scratch.release()


def test_one_of_worker_and_killer_gets_the_claim(tmp_path, monkeypatch):
    scratch = Scratch(str(tmp_path / "work"))
    held = Scratch.holder
    # The worker begins, then ends, just after the killer has looked.
    monkeypatch.setattr(Scratch, "holder", lambda self: (held(self), self.mark("7"))[0])
    assert scratch.condemn() == 7
    monkeypatch.setattr(Scratch, "holder", lambda self: (held(self), self.release())[0])
    scratch.mark("8")
    assert scratch.condemn() is None
    assert held(scratch) == CANCELLED


def test_removes_what_its_owner_locked(tmp_path, monkeypatch):
    removals = iter([lambda *args, **kwargs: None, shutil.rmtree])
    monkeypatch.setattr(
        scratch_module.shutil, "rmtree", lambda *a, **k: next(removals)(*a, **k)
    )
    folder = tmp_path / "locked"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "file").write_text("x")
    (folder / "in").chmod(0)
    folder.chmod(0)
    remove(folder)
    remove(folder)
    assert not folder.exists()


FAMILY = """
import os, subprocess, sys
from aero.compute import processes
processes.leave_group()
processes.leave_group()
child = subprocess.Popen(["sleep", "1000"])
print(processes.end_orphans(), processes.end_orphans() and child.wait())
print(processes.end_children())
child = subprocess.Popen(["sleep", "1000"])
print(processes.end_children(), processes.end_children())
"""


def test_children_are_ended_and_reaped():
    done = subprocess.run(
        [sys.executable, "-c", FAMILY], timeout=20, capture_output=True, check=True
    )
    assert done.stdout.split()[-2:] == [b"True", b"False"]


def test_children_are_counted_only_while_they_live(monkeypatch):
    answers = iter([(0, 0), (5, 0), ChildProcessError()] * 2)

    def waitpid(pid, options):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(processes.os, "waitpid", waitpid)
    monkeypatch.setattr(processes, "kill_descendants", lambda pid: None)
    monkeypatch.setattr(processes, "end_orphans", lambda: False)
    assert processes.end_children()
    monkeypatch.setattr(processes, "PATIENCE", -1)
    monkeypatch.setattr(processes, "kill_tree", end)
    with pytest.raises(Ended):
        processes.end_children()


def test_orphans_are_found_by_their_group(monkeypatch):
    with subprocess.Popen(["sleep", "1000"]) as child:
        monkeypatch.setattr(psutil, "pids", lambda: [0, os.getpid(), child.pid])
        monkeypatch.setattr(processes.os, "getpgid", lambda pid: os.getpid())
        assert processes.end_orphans()
    assert child.returncode == -signal.SIGKILL


def test_the_end_of_the_interpreter_ends_the_workers(task, ready):
    executor = LocalExecutor(1)
    executor.submit(functions.spawn_and_sleep, task(ready=ready.path))
    pids = ready()
    executor._at_exit(os.getpid())
    executor._at_exit(os.getpid())
    assert until(lambda: all(map(gone, pids)))
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.start()


def test_killing_what_is_gone_is_no_error():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    processes.kill_tree(done.pid)
    assert gone(done.pid)
