"""Frozen values that every layer speaks, and the words they are written in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from os import PathLike
from pathlib import Path
from typing import Any

from aero.error import InvalidTypeError, InvalidValueError

LOCAL = "local"
"""The endpoint that is this machine."""

PAYLOAD_SCHEMA = 1
"""Version of the `aero` payload that crosses to a worker."""

Json = dict[str, Any]

Tell = Callable[[str, int, int], None]
"""Told what is done, how much of it, and of how much."""


class PolicyEnum(IntEnum):
    """When a flow fires."""

    NONE = -1
    INGESTION = 0
    TIMER = 1
    ANY = 2
    ALL = 3
    INGESTION_EVENT = 4


class RunStatus(StrEnum):
    """Where a run is in its life."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    UNCHANGED = "UNCHANGED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"

    @property
    def ended(self) -> bool:
        """Whether nothing can happen to such a run any more."""
        return self not in {RunStatus.PENDING, RunStatus.RUNNING}


class Visibility(StrEnum):
    """Who sees what belongs to somebody, beside its owner."""

    PRIVATE = "private"
    GROUP = "group"
    PUBLIC = "public"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharing:
    """With whom a thing is shared: nobody, everybody, or the members of `group`."""

    visibility: Visibility = Visibility.PRIVATE
    group: str | None = None

    @classmethod
    def of(cls, public: object, group: object) -> "Sharing":
        """Return what the arguments `public` and `group` ask for.

        Raises:
            InvalidValueError: Both do, or the group has no name.
            InvalidTypeError: One is of the wrong type.
        """
        if not isinstance(public, bool):
            raise InvalidTypeError(f"public is {public!r}: write True or False.")
        if group is None:
            return cls(visibility=Visibility.PUBLIC if public else Visibility.PRIVATE)
        if public:
            raise InvalidValueError(
                "It cannot be public and a group's at once: give public or group."
            )
        return cls(visibility=Visibility.GROUP, group=group_name(group))

    @property
    def columns(self) -> Json:
        """The values of the columns that keep it."""
        return {"visibility": self.visibility.value, "group_id": self.group}


def shared_kind(kind: str) -> str:
    """Return `kind` if such things are shared: `data`, `flow` or `function`.

    Raises:
        InvalidValueError: They are not.
    """
    if kind not in {"data", "flow", "function"}:
        raise InvalidValueError(
            f"A {kind!r} cannot be shared: write 'data', 'flow' or 'function'."
        )
    return kind


def group_name(group: object) -> str:
    """Return the id of a group, if it can be one.

    Raises:
        InvalidValueError: It cannot.
    """
    if not isinstance(group, str) or not group.strip() or not group.isprintable():
        raise InvalidValueError(
            f"{group!r} is no group: write the id of a Globus group, or the name of "
            "one that 'aero group' made."
        )
    return group


class Step(StrEnum):
    """A part of a run."""

    DOWNLOAD = "download"
    GET_VERSIONS = "get_versions"
    FUNCTION = "function"
    COMMIT = "commit"


class AeroOutput:
    """A file that an analysis function hands back under an output's name.

    Args:
        name: The output's name in the flow's `output_data`.
        path: Where the function wrote the file.

    Raises:
        InvalidTypeError: `name` is not a string or `path` is not a path.
    """

    __slots__ = ("name", "path")

    def __init__(self, name: str, path: str | PathLike[str]) -> None:
        if not isinstance(name, str):
            raise InvalidTypeError(
                f"AeroOutput's name is a {type(name).__name__}: give the output's "
                "name as a string, AeroOutput(name, path)."
            )
        if not isinstance(path, str | PathLike):
            raise InvalidTypeError(
                f"AeroOutput {name!r} has a {type(path).__name__} for its path: give "
                "the path of the file that was written, AeroOutput(name, path)."
            )
        self.name = name
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"AeroOutput(name={self.name!r}, path={str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AeroOutput):
            return NotImplemented
        return (self.name, self.path) == (other.name, other.path)

    def __hash__(self) -> int:
        return hash((self.name, self.path))


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """Bytes at rest in a storage: where, what they hash to, how many (bytes)."""

    uri: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Validators:
    """What the last poll of a source left behind, to ask "changed since?" with."""

    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A complete download, its bytes in `path`.

    `encoding` is the charset the source declared, if any; `size` is in bytes.
    """

    path: Path
    url: str
    final_url: str
    etag: str | None
    last_modified: str | None
    sha256: str
    size: int
    media_type: str
    encoding: str | None
    file_name: str
    retrieved_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class NotModified:
    """The source says that nothing changed since `Validators` were given out."""

    url: str
    etag: str | None
    last_modified: str | None
    retrieved_at: datetime


def list_kind(kind: str) -> str:
    """Return `kind` if it is one of the lists: `data`, `flow` or `prov`.

    Raises:
        InvalidValueError: There is no such list.
    """
    if kind not in {"data", "flow", "prov"}:
        raise InvalidValueError(
            f"There is no list of {kind!r}: write 'data', 'flow' or 'prov'."
        )
    return kind
