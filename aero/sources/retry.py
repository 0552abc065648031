"""Asking again: how often, and how long to wait in between."""

import random
from collections.abc import Callable
from typing import TypeVar

from aero.error import SourceUnavailableError

FIRST_DELAY = 0.5
LONGEST_DELAY = 60.0

Sleep = Callable[[float], None]
T = TypeVar("T")


class TryAgainError(Exception):
    """An attempt failed in a way that may pass.

    Args:
        reason: What happened, a clause that fits after a colon.
        status: The HTTP status, if there was an answer.
        after: Seconds the source asked to be left alone, if it did.
    """

    def __init__(
        self, reason: str, *, status: int | None = None, after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.after = after


def delay(failures: int, after: float | None = None) -> float:
    """Return the seconds to wait after so many failures, at most 60.

    A source that says how long is taken at its word. Else the time doubles from half
    a second, with jitter, so that many clients do not return in step.
    """
    if after is not None:
        return min(max(after, 0.0), LONGEST_DELAY)
    longest = min(FIRST_DELAY * 2.0 ** (failures - 1), LONGEST_DELAY)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret


def insist(
    attempt: Callable[[], T], *, url: str, name: str, attempts: int, sleep: Sleep
) -> T:
    """Return what `attempt` returns, calling it up to `attempts` times.

    Args:
        attempt: Raises `TryAgainError` where another try may help.
        url: Fact of the error.
        name: How the error's message calls the source.
        attempts: 1 or more.
        sleep: Waits so many seconds.

    Raises:
        SourceUnavailableError: No attempt came through.
    """
    failures = 0
    while True:
        try:
            return attempt()
        except TryAgainError as error:
            failures += 1
            if failures >= attempts:
                raise SourceUnavailableError(
                    f"{name} could not be downloaded in {failures} attempts, the last "
                    f"failure was: {error}; check the address or try again later.",
                    url=url,
                    status=error.status,
                    attempts=failures,
                ) from error
            pause = delay(failures, error.after)
        sleep(pause)
