"""Functions that note every execution in a file, before they return anything."""

from aero import AeroOutput


def clean(executed: str, out: str, **sources: str) -> AeroOutput:
    """Return what was downloaded, in capitals."""
    import os
    import time
    from pathlib import Path

    (source,) = sources.values()
    text = Path(source).read_text()
    log = os.open(executed, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"clean {out} {text}\n".encode())
    os.close(log)
    time.sleep(0.02)
    path = Path("clean.txt")
    path.write_text(text.upper())
    return AeroOutput(out, path)


def count(series: str, executed: str, number: int) -> AeroOutput:
    """Return the series with its length."""
    import os
    import time
    from pathlib import Path

    text = Path(series).read_text()
    log = os.open(executed, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"count {number} {text}\n".encode())
    os.close(log)
    time.sleep(0.02)
    path = Path("total.txt")
    path.write_text(f"{len(text)} {text}")
    return AeroOutput("total", path)
