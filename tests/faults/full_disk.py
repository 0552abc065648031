"""A program that lets a disk run full in the midst of a run; see test_disks_that_fail.

Its arguments: what the disk is (`tmpfs`, mounted here, or `limit`: the size that files
of this process may have), and a folder to work in.
"""

import resource
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from aero import AeroOutput
from aero.cli.failing import reporting
from aero.testing import FrozenClock, InlineExecutor, make_app
from tests.faults.ordeal import endure, left_behind, recover
from tests.invariants import check_invariants
from tests.loopback import Answer, loopback
from tests.scenarios import source

MIB = 1 << 20
BIG = b"0123456789abcdef" * (MIB // 4)


class Tmpfs:
    """A file system of 8 MiB at `folder`."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
        subprocess.run(mount, check=True)

    def fill(self, leave: int) -> None:
        """Leave so many bytes of it."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                file.truncate(file.tell() - leave)

    def free(self) -> None:
        """Leave all of it."""
        self._filler.unlink()


class Limit:
    """A limit on the size of every file that this process writes."""

    def __init__(self, _folder: Path) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, leave: int) -> None:
        """Let files have so many bytes."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (leave, self._limits[1]))

    def free(self) -> None:
        """Let them have any number."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


Disk = Tmpfs | Limit


def download(disk: Disk, small: Path, roomy: Path) -> str:
    """A download does not fit where it is written."""
    conf: dict[str, Any] = {
        "store": roomy / "store",
        "database_url": f"sqlite:///{roomy / 'aero.db'}",
    }
    with loopback() as server, make_app(small, clock=FrozenClock(), **conf) as app:
        server.script(Answer(body=BIG, headers={"ETag": '"one"'}))
        flow = source(app, f"{server.url}/series", "series")
        disk.fill(2 * MIB)
        says = "download could not be written .*: make room"
        return endure(app, flow, disk.free, kind="StorageError", says=says)[
            "error_message"
        ]


def hands_out(path: str) -> AeroOutput:
    """Return a file that was there before."""
    return AeroOutput("out", path)


def store(disk: Disk, small: Path, roomy: Path) -> str:
    """An output does not fit into the store."""
    (roomy / "big").write_bytes(BIG)
    with make_app(roomy / "home", clock=FrozenClock(), store=small / "store") as app:
        function = app.register_function(hands_out)
        kwargs = {"path": str(roomy / "big")}
        flow = app.register_flow("local", function, {}, {"out": {}}, kwargs)
        disk.fill(2 * MIB)
        says = "Storing .* failed: the (disk is full; free|file is larger .*; raise)"
        return endure(app, flow, disk.free, kind="StorageError", says=says)[
            "error_message"
        ]


class FillingExecutor(InlineExecutor):
    """Lets the disk run full when the first function is done."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self._disk = disk
        self.done = 0

    def submit(self, fn: Any, task: Any, /) -> Future[Any]:  # type: ignore[override]
        """Run `fn(task)` now."""
        future = super().submit(fn, task)
        self.done += 1
        if self.done == 1:
            self._disk.fill(0)
        return future


def commit(disk: Disk, small: Path, roomy: Path) -> str:
    """A commit does not fit into the database; what was done is not done again."""
    executor = FillingExecutor(disk)
    url = f"sqlite:///{small / 'aero.db'}"
    conf: dict[str, Any] = {"executor": executor, "database_url": url}
    with loopback() as server, make_app(roomy, clock=FrozenClock(), **conf) as app:
        server.script(Answer(body=BIG, headers={"ETag": '"one"'}))
        flow = source(app, f"{server.url}/series", "series")
        run_id = app.run_flow(flow["id"], wait=False)["id"]
        with pytest.raises(SystemExit) as ended, reporting():
            app.engine.run_ready()
        assert ended.value.code == 1
        assert app.get_run(run_id)["status"] == "RUNNING"
        assert check_invariants(app.db, store=app.settings.store) == []
        disk.free()
        app.engine.run_ready()
        run = app.get_run(run_id)
        assert (run["status"], run["attempt"], executor.done) == ("SUCCEEDED", 1, 1)
        assert left_behind(app) == []
        recover(app, flow, status="UNCHANGED")
    return "the run was held, and committed when there was room"


def main(means: str, folder: str) -> None:
    """Play every scenario and print what the run said."""
    for scenario in (download, store, commit):
        small, roomy = (Path(folder, scenario.__name__, n) for n in ("small", "roomy"))
        small.mkdir(parents=True)
        roomy.mkdir()
        disk = Tmpfs(small) if means == "tmpfs" else Limit(small)
        print(f"{scenario.__name__}: {scenario(disk, small, roomy)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
