"""Refuses network file systems, on which SQLite loses data (locks, shared memory)."""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from aero.error import ConfigError

_MOUNTINFO = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"nfs\d?|lustre|gpfs|beegfs(_nodev)?|cifs|smb\d?|smbfs|(open)?afs|afpfs"
    r"|(fuse\.|macfuse_|osxfuse_)?sshfs|fuse\.(beegfs|lustre|gpfs|cifs|smb\w*)",
    re.IGNORECASE,
)
_OCTAL = re.compile(r"\\([0-7]{3})")

Mount = tuple[str, str]
"""(mount point, file system type)"""


def refuse_network_filesystem(
    path: Path, mounts: Iterable[Mount] | None = None
) -> None:
    """Raise unless `path` lies on a local disk; it need not exist yet.

    Args:
        path: Where an SQLite database is to be.
        mounts: The mount table, later entries covering earlier ones; default: this
            machine's.

    Raises:
        ConfigError: It lies on NFS, Lustre, GPFS, BeeGFS, CIFS, AFS or sshfs.
    """
    real = Path(os.path.realpath(path))
    table = mount_table() if mounts is None else mounts
    kind, depth = "", 0
    for point, found in table:
        place = Path(point)
        if len(place.parts) >= depth and real.is_relative_to(place):
            kind, depth = found, len(place.parts)
    if _NETWORK.fullmatch(kind):
        raise ConfigError(
            f"{real} is on a network file system ({kind}), where SQLite loses data: "
            "set AERO_HOME to a folder on a local disk, or "
            "AERO_DATABASE_URL=postgresql+psycopg://USER@HOST/DATABASE.",
            path=real,
            filesystem=kind,
        )


def mount_table() -> list[Mount]:
    """Return this machine's mounts, in the order they were made."""
    if sys.platform == "linux":
        return parse_mountinfo(_MOUNTINFO) if _MOUNTINFO.is_file() else []
    import psutil

    return [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]


def parse_mountinfo(file: Path) -> list[Mount]:
    """Return the mounts a file in the form of /proc/self/mountinfo lists."""
    mounts = []
    for line in os.fsdecode(file.read_bytes()).splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4]
        mounts.append((_OCTAL.sub(_character, point), after.split(" ")[0]))
    return mounts


def _character(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))
