"""What a process runs on: Python, platform, host, and the packages it has loaded."""

import platform
import sys
from functools import cache
from typing import Any

from aero.types import Json

DISTRIBUTION = "aero-orchestrator"


def environment() -> Json:
    """Return where this process runs and with what, for a run's provenance.

    Returns:
        `python`, `platform`, `host` and `aero` (versions and names as text), and
        `packages`: distribution -> version of all that is imported by now.
    """
    return {**_host(), "packages": _packages.loaded()}


class _Packages:
    """The distributions behind `sys.modules`, looked up again only when it grew."""

    def __init__(self) -> None:
        self._mark: tuple[int, str] | None = None
        self._tops: set[str] = set()
        self._distributions: dict[str, list[str]] = {}
        self._versions: dict[str, str] = {}

    def loaded(self) -> dict[str, str]:
        mark = len(sys.modules), next(reversed(sys.modules))
        if mark != self._mark:
            self._look_up({name.partition(".")[0] for name in list(sys.modules)})
            self._mark = mark
        return dict(self._versions)

    def _look_up(self, tops: set[str]) -> None:
        new = tops - self._tops - sys.stdlib_module_names
        if new:
            self._add(new)
        self._tops |= tops

    def _add(self, tops: set[str]) -> None:
        from importlib import metadata

        # What is not in the table may have been installed since it was read.
        if not tops <= self._distributions.keys():
            self._distributions = dict(metadata.packages_distributions())
        names = {name for top in tops for name in self._distributions.get(top, ())}
        found = {name: _version(name) for name in names if name}
        known = {name: version for name, version in found.items() if version}
        self._versions = dict(sorted({**self._versions, **known}.items()))


_packages = _Packages()


@cache
def _host() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "aero": _version(DISTRIBUTION),
    }


def _version(distribution: str) -> str | None:
    """Return a version; None if what says it is damaged or was just uninstalled."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
