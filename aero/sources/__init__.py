"""Where data is downloaded from: one adapter per family of URL schemes."""

from pathlib import Path

from aero.error import InvalidValueError
from aero.sources.ask import Head, head
from aero.sources.base import FetchPolicy, Progress, Source
from aero.sources.file import FileSource
from aero.sources.http import HttpSource
from aero.types import Fetched, NotModified, Validators

__all__ = ["FetchPolicy", "Head", "Progress", "Source", "fetch", "head", "source_for"]

_ADAPTERS: tuple[type[HttpSource] | type[FileSource], ...] = (HttpSource, FileSource)


def source_for(url: str) -> Source:
    """Return the adapter for the scheme of `url`.

    Raises:
        InvalidValueError: None speaks it.
    """
    scheme = url.partition(":")[0].lower() if ":" in url else ""
    for adapter in _ADAPTERS:
        if scheme in adapter.schemes:
            return adapter()
    schemes = [name for adapter in _ADAPTERS for name in adapter.schemes]
    raise InvalidValueError(
        f"A URL with the scheme {scheme[:40]!r} cannot be downloaded: use one of "
        f"{', '.join(schemes)}."
    )


def fetch(
    url: str,
    path: Path,
    *,
    previous: Validators | None = None,
    policy: FetchPolicy | None = None,
    progress: Progress | None = None,
) -> Fetched | NotModified:
    """Bring the bytes of `url` to `path`, unless nothing changed.

    The contract, with its errors, is that of `aero.sources.base.Source.fetch`.
    """
    return source_for(url).fetch(
        url, path, previous=previous, policy=policy, progress=progress
    )
