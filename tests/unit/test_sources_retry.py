import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.error import SourceUnavailableError
from aero.sources.retry import LONGEST_DELAY, TryAgainError, delay, insist


@given(st.integers(1, 1000))
def test_the_delay_doubles_with_jitter_up_to_a_minute(failures: int) -> None:
    longest = min(0.5 * 2.0 ** (failures - 1), LONGEST_DELAY)
    assert longest / 2 <= delay(failures) <= longest


@given(st.integers(1, 1000), st.floats(-1e9, 1e9))
def test_a_source_that_says_when_is_taken_at_its_word(
    failures: int, after: float
) -> None:
    assert delay(failures, after) == min(max(after, 0), LONGEST_DELAY)


@given(st.integers(0, 9), st.integers(1, 9))
def test_insisting_is_bounded(trouble: int, attempts: int) -> None:
    calls, slept = [], []

    def attempt() -> str:
        calls.append(1)
        if len(calls) <= trouble:
            raise TryAgainError("trouble", status=503)
        return "done"

    def insisting() -> str:
        return insist(
            attempt, url="u", name="it", attempts=attempts, sleep=slept.append
        )

    if trouble < attempts:
        assert insisting() == "done"
        assert len(slept) == trouble
    else:
        with pytest.raises(SourceUnavailableError, match="trouble") as raised:
            insisting()
        assert (raised.value.url, raised.value.status) == ("u", 503)
        assert (len(calls), len(slept)) == (attempts, attempts - 1)
