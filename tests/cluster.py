"""A PostgreSQL cluster of a test's own, to be stopped and started as it likes."""

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import lacking

_CONF = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
max_connections = 60
shared_buffers = 32MB
fsync = on
synchronous_commit = on
"""


class Cluster:
    """A running server; see `cluster`."""

    def __init__(self, binaries: Path, folder: Path, user: str | None) -> None:
        self.folder = folder
        self._binaries = binaries
        self._user = user
        self._data = folder / "data"
        self.port = _free_port()

    @property
    def url(self) -> str:
        """The URL of its database `postgres`."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        """Make it and start it."""
        self._run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
        conf = _CONF.format(port=self.port, folder=self.folder)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(conf)
        self.start()

    def start(self) -> None:
        """Start it again; return once it answers."""
        self._pg_ctl("start")

    def crash(self) -> None:
        """Stop it as a crash would, and let it recover; return once it answers."""
        self._pg_ctl("restart", "-m", "immediate")

    def stop(self) -> None:
        """End it."""
        self._pg_ctl("stop", "-m", "immediate")

    def _pg_ctl(self, *arguments: str) -> None:
        log = str(self.folder / "log")
        self._run("pg_ctl", "-w", "-t", "60", "-l", log, *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        # Not a pipe: the server would hold it open.
        with (self.folder / "out").open("w+") as out:
            done = subprocess.run(
                [self._binaries / program, "-D", self._data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                timeout=120,
                check=False,
                user=self._user,
            )
            out.seek(0)
            assert done.returncode == 0, out.read()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Give a new cluster; nothing is left of it.

    Raises:
        FileNotFoundError: PostgreSQL's programs are not on this machine.
    """
    binaries = _binaries()
    # Its socket's path must be short, and another user must reach it.
    folder = Path(tempfile.mkdtemp(prefix="aero-pg-"))
    made = Cluster(binaries, folder, _own_to_other(folder))
    try:
        made.create()
        yield made
        made.stop()
    finally:
        _end(folder)
        shutil.rmtree(folder)


@contextmanager
def private_cluster() -> Iterator[Cluster]:
    """Likewise; without PostgreSQL's programs the test is skipped, or fails."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(cluster())
        except FileNotFoundError as error:
            lacking(f"There is no PostgreSQL to start and stop: {error}.")
        yield found


def _end(folder: Path) -> None:
    """Kill a server that a failed test left."""
    pid_file = folder / "data" / "postmaster.pid"
    if pid_file.exists():
        os.kill(int(pid_file.read_text().split()[0]), 9)


def _own_to_other(folder: Path) -> str | None:
    """Return the user to run the server as, since it refuses to be root's."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, found.pw_uid, found.pw_gid)
        return name
    raise FileNotFoundError("there is no user to run a server as")


def _binaries() -> Path:
    found = [Path(p).resolve().parent for p in [shutil.which("pg_ctl")] if p]
    if config := shutil.which("pg_config"):
        asked = [config, "--bindir"]
        found.append(Path(subprocess.check_output(asked, text=True).strip()))
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version)[::-1]
    for folder in found:
        if all((folder / each).exists() for each in ("initdb", "pg_ctl", "postgres")):
            return folder
    raise FileNotFoundError("PostgreSQL's programs (initdb, pg_ctl) are not here")


def _version(folder: Path) -> int:
    return int(re.sub(r"\D", "", folder.parent.name) or 0)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
