"""Functions whose every execution is noted in a file and makes something new."""

from aero import AeroOutput


def draw(executed: str, number: int) -> AeroOutput:
    """Return something that never was before."""
    import os
    import uuid
    from pathlib import Path

    drawn = f"{number} {uuid.uuid4()}"
    log = os.open(executed, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"draw {drawn}\n".encode())
    os.close(log)
    Path("drawn.txt").write_text(drawn)
    return AeroOutput("drawn", "drawn.txt")


def copy(drawn: str, executed: str) -> AeroOutput:
    """Return what was drawn."""
    import os
    from pathlib import Path

    text = Path(drawn).read_text()
    log = os.open(executed, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"copy {text}\n".encode())
    os.close(log)
    Path("copied.txt").write_text(text)
    return AeroOutput("copied", "copied.txt")


def idle() -> None:
    """Write nothing."""
