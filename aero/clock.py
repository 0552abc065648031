"""This process's clock: the one place that asks what time it is."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time now, aware and in UTC."""
    return datetime.now(UTC)


def isoformat(moment: datetime | None) -> str | None:
    """Return `moment` as ISO 8601 with offset, or None for None."""
    return None if moment is None else moment.astimezone(UTC).isoformat()
