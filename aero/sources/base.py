"""The port: where bytes come from, and the rules of asking for them."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from aero.error import InvalidValueError
from aero.types import Fetched, NotModified, Validators

CHUNK = 1 << 20
"""How many bytes are read and written at a time."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes received so far and the bytes expected, if known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchPolicy:
    """What a download may do; crosses to a worker as JSON.

    Attributes:
        allow_private_addresses: Whether private, loopback and link-local addresses
            may be connected to.
        file_roots: Folders under which `file:` URLs may be read.
        max_size: The largest download, in bytes; None is no limit.
        timeout: Seconds to wait for a connection, and for the next bytes.
        attempts: How often a source is asked before it counts as unavailable.
        credentials: A file of logins per host, see `aero.auth.hosts`.

    Raises:
        InvalidValueError: A number is out of its range.
    """

    allow_private_addresses: bool = True
    file_roots: tuple[Path, ...] = (Path("/"),)
    max_size: int | None = None
    timeout: float = 30.0
    attempts: int = 4
    credentials: Path | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InvalidValueError(
                f"A download of {self.attempts} attempts never asks: allow 1 or more."
            )
        if not self.timeout > 0:
            raise InvalidValueError(
                f"A timeout of {self.timeout} s leaves no time to answer: give a "
                "positive number of seconds."
            )
        if self.max_size is not None and self.max_size < 0:
            raise InvalidValueError(
                f"A size limit of {self.max_size} bytes cannot be met: give 0 or "
                "more, or None for no limit."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the policy in values that JSON has words for."""
        return {
            "allow_private_addresses": self.allow_private_addresses,
            "file_roots": [str(root) for root in self.file_roots],
            "max_size": self.max_size,
            "timeout": self.timeout,
            "attempts": self.attempts,
            "credentials": None if self.credentials is None else str(self.credentials),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "FetchPolicy":
        """Return the policy that `to_json` wrote; what is left out is the default.

        Raises:
            InvalidValueError: A key is unknown or a number out of its range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise InvalidValueError(
                f"A fetch policy has no {', '.join(unknown)}: it has "
                f"{', '.join(sorted(known))}."
            )
        given = dict(value)
        if "file_roots" in given:
            given["file_roots"] = tuple(Path(root) for root in given["file_roots"])
        if given.get("credentials") is not None:
            given["credentials"] = Path(given["credentials"])
        return cls(**given)


class Source(Protocol):
    """Fetches what a URL of its schemes names. Safe to share between threads."""

    def fetch(
        self,
        url: str,
        path: Path,
        *,
        previous: Validators | None = None,
        policy: FetchPolicy | None = None,
        progress: Progress | None = None,
    ) -> Fetched | NotModified:
        """Bring the bytes of `url` to `path`, unless nothing changed.

        The bytes are stored exactly as sent, in constant memory. `path` is replaced
        in one step once they are complete; on an error or on `NotModified` it is left
        as it was, and no other file stays behind. What arrives is one state of the
        source, never a mixture of two, and nothing is kept between calls: asking
        again is always harmless.

        Args:
            url: What to fetch.
            path: Where to; its folder exists.
            previous: What the last fetch of this URL gave out, to ask "changed
                since?" with.
            policy: Limits, timeouts and what is allowed; None is the default one.
            progress: Told about every piece; starts again at 0 if the download does.

        Raises:
            InvalidValueError: The URL cannot be fetched, whatever the source says.
            SourceError: The source's answer is final: missing, forbidden, too large.
            SourceUnavailableError: It did not answer as promised in all attempts.
            StorageError: The bytes could not be written at `path`.
            ConfigError: The credentials file cannot be used.
        """
        ...
