"""Functions for the compute tests; a worker imports them, so they need no pytest."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from aero.error import InvalidValueError, SourceError

PRESENT = os.getpid()


def echo(task):
    return {"got": task["value"], "pid": os.getpid()}


def where(task):
    Path("left.txt").write_text("x")
    Path("sub").mkdir()
    Path("sub/deep.txt").write_text("y")
    Path("sub").chmod(0)
    return {
        "cwd": str(Path.cwd()),
        "mode": Path.cwd().stat().st_mode & 0o777,
        "tmpdir": os.environ["TMPDIR"],
        "tempfile": tempfile.gettempdir(),
    }


def speak(task):
    print("said")
    print("told", file=sys.stderr)
    return {}


def speak_low(task):
    print("python", flush=True)
    subprocess.run(["echo", "program"], check=True)
    ctypes.CDLL(None).printf(b"c code\n")
    return {}


def speak_much(task):
    for number in range(1_000_000):
        print(number)
    return {}


def tell_secret(task):
    print("before", os.environ["AERO_TEST_SECRET"], "after")
    return {}


def raise_secret(task):
    raise KeyError(os.environ["AERO_TEST_SECRET"])


def raise_key(task):
    print("was here")
    raise KeyError("no such column")


def raise_aero(task):
    raise SourceError("The source is gone.", status=410, odd={1, 2})


def raise_client(task):
    raise InvalidValueError("Not that.", code=418)


def raise_memory(task):
    raise MemoryError


class OddError(Exception):
    def __str__(self):
        raise RuntimeError("not even its message")


class StrangerError(SourceError):
    pass


def raise_odd(task):
    raise OddError


def raise_stranger(task):
    raise StrangerError("nobody else knows me", worth=1)


def return_list(task):
    return [1]


def return_object(task):
    return {"path": Path("x")}


def leave_by_sys_exit(task):
    sys.exit(3)


def leave_cleanly(task):
    print("bye")
    os._exit(0)


def leave_with_3(task):
    os._exit(3)


def crash(task):
    print("about to")
    ctypes.string_at(0)


def kill_own_group(task):
    os.killpg(0, signal.SIGKILL)


def recurse(task):
    sys.setrecursionlimit(5000)
    return recurse(task)


def close_standard(task):
    for fd in range(3):
        os.close(fd)
    return {}


def close_all(task):
    os.closerange(0, 256)
    return {}


def close_stdout(task):
    sys.stdout.close()
    return {}


def fork_and_return(task):
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
    return {"parent": child > 0}


def fork_and_exit(task):
    child = os.fork()
    if not child:
        print("child speaks")
        sys.exit(task["code"])
    return {"status": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}


def eat_memory(task):
    eaten = []
    while True:
        eaten.append(bytearray(16 << 20))


def eat_much_numpy(task):
    import numpy as np

    return {"sum": float(np.ones((1 << 28,)).sum())}


def use_numpy(task):
    import numpy as np

    return {"sum": float((np.ones((300, 300)) @ np.ones((300, 300))).sum())}


def sleep_deaf(task):
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    print("asleep")
    _announce(task)
    while True:
        time.sleep(1)


def spin_in_c(task):
    # Holds the interpreter's lock: no thread of the worker gets a turn.
    ctypes.PyDLL(None).sleep(1000)


def nap(task):
    _announce(task)
    time.sleep(task.get("seconds", 0.3))
    return {"pid": os.getpid()}


def spawn_and_sleep(task):
    child = subprocess.Popen(["sleep", "1000"])
    apart = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    _announce(task, os.getpid(), child.pid, apart.pid)
    time.sleep(1000)


def leave_processes(task):
    child = subprocess.Popen(["sleep", "1000"])
    apart = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    orphan = int(
        subprocess.run(
            ["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"],
            capture_output=True,
            check=True,
        ).stdout
    )
    return {"pid": os.getpid(), "left": [child.pid, apart.pid, orphan]}


def leave_thread(task):
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return {"pid": os.getpid()}


def change_everything(task):
    os.chdir("/usr")
    os.environ["AERO_TEST_CHANGED"] = "1"
    os.environ.pop("PATH", None)
    sys.path.insert(0, "/nowhere")
    sys.setrecursionlimit(777)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    os.umask(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    return {"pid": os.getpid()}


def describe(task):
    umask = os.umask(0)
    os.umask(umask)
    return {
        "pid": os.getpid(),
        "changed": "AERO_TEST_CHANGED" in os.environ,
        "path": "PATH" in os.environ,
        "nowhere": "/nowhere" in sys.path,
        "recursion": sys.getrecursionlimit(),
        "umask": umask,
        "limit": resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 4096,
        "sigterm": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "stdin": sys.stdin.read(),
        "modules": sorted(sys.modules),
    }


def _announce(task, *pids):
    if "ready" in task:
        part = Path(task["ready"] + ".part")
        part.write_text(" ".join(map(str, pids or (os.getpid(),))))
        part.rename(task["ready"])
