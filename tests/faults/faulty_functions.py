"""Functions that fail in every way a function can, and one that does not."""

from aero import AeroOutput


def good() -> AeroOutput:
    """Write something new."""
    import uuid
    from pathlib import Path

    Path("out").write_text(str(uuid.uuid4()))
    return AeroOutput("out", "out")


def recurses() -> None:
    """Call itself until Python stops it."""

    def down(depth: int) -> int:
        return down(depth + 1)

    down(0)


def recurses_deep() -> None:
    """Let two functions call each other 200,000 times."""
    import sys

    def ping(depth: int) -> int:
        return pong(depth + 1)

    def pong(depth: int) -> int:
        return ping(depth + 1)

    sys.setrecursionlimit(200_000)
    ping(0)


def recurses_in_c() -> None:
    """Let C code call itself until its stack of 8 MiB is used up."""
    import resource
    import sys

    nest: list[object] = []
    for _ in range(300_000):
        nest = [nest]
    sys.setrecursionlimit(10**9)
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, hard))
    repr(nest)


def raises_a_chain() -> None:
    """Raise an exception that 100,000 others led to."""
    error = None
    for number in range(100_000):
        cause, error = error, ValueError(number)
        error.__cause__ = cause
    raise error


def returns_a_nest() -> object:
    """Return a list in a list, a million deep."""
    nest: list[object] = []
    for _ in range(10**6):
        nest = [nest]
    return nest


def returns_100_mb() -> object:
    """Return kwargs of 100 MB."""
    return {"series": "x" * 100_000_000}


def returns_a_name_of_100_mb() -> AeroOutput:
    """Return an output whose name has 100 MB."""
    return AeroOutput("x" * 100_000_000, "out")


def returns_a_path_of_100_mb() -> AeroOutput:
    """Return an output whose path has 100 MB."""
    return AeroOutput("out", "x" * 100_000_000)


def raises_100_mb() -> None:
    """Raise an exception with a message of 100 MB."""
    raise ValueError("x" * 100_000_000)


def eats_memory() -> None:
    """Take all memory there is."""
    eaten = []
    while True:
        eaten.append(bytearray(16 << 20))


def leaves() -> None:
    """End the interpreter."""
    import sys

    sys.exit(3)


def leaves_at_once() -> None:
    """End the process."""
    import os

    os._exit(3)


def kills_itself() -> None:
    """End the process as the kernel does when memory is short."""
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def hangs() -> None:
    """Never end."""
    import threading

    threading.Event().wait()


def loses_its_output() -> AeroOutput:
    """Return an output that is gone at the moment when it is opened to be stored."""
    import sys
    from pathlib import Path

    path = Path("out").absolute()
    path.write_text("soon gone")

    def remove(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and str(arguments[0]) == str(path):
            path.unlink(missing_ok=True)

    sys.addaudithook(remove)
    return AeroOutput("out", path)


def returns_a_folder() -> AeroOutput:
    """Return a folder."""
    from pathlib import Path

    Path("out").mkdir()
    return AeroOutput("out", "out")


def talks() -> AeroOutput:
    """Print a million lines, every other one as an error."""
    import sys
    from pathlib import Path

    for number in range(500_000):
        print("out", number)
        print("err", number, file=sys.stderr)
    Path("out").write_text("said")
    return AeroOutput("out", "out")
