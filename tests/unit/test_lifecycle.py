from hypothesis import given
from hypothesis import strategies as st

from aero.runs.lifecycle import LOST_FOR, RETRY_CAP, input_states, retry_delay


def delay(fault, retries=0, failures=0, lost=0):
    return retry_delay(
        fault, retries=retries, function_failures=failures, lost_tries=lost
    )


def test_a_function_is_not_tried_again_unless_asked():
    assert delay("function", failures=1) is None


@given(retries=st.integers(0, 50))
def test_a_function_is_tried_again_exactly_retries_times(retries):
    tries = 1
    while delay("function", retries=retries, failures=tries) is not None:
        tries += 1
    assert tries == 1 + retries


@given(failures=st.integers(1, 10**6))
def test_the_wait_doubles_from_a_second_with_jitter_up_to_an_hour(failures):
    waited = delay("function", retries=failures, failures=failures)
    centre = min(2 ** min(failures - 1, 20), RETRY_CAP)
    assert 0.75 * centre <= waited <= 1.25 * centre


def test_the_jitter_is_not_always_the_same():
    assert len({delay("function", retries=1, failures=1) for _ in range(20)}) > 1


def test_what_is_not_the_functions_fault_is_tried_for_an_hour():
    waits = []
    while (wait := delay("lost", lost=len(waits) + 1)) is not None:
        waits.append(wait)
    assert waits[:5] == [1.0, 10.0, 60.0, 300.0, 300.0]
    assert set(waits[4:]) == {300.0}
    assert LOST_FOR - 300 < sum(waits) <= LOST_FOR


@given(retries=st.integers(0, 9), failures=st.integers(0, 9))
def test_lost_tries_do_not_depend_on_retries(retries, failures):
    assert delay("lost", retries, failures, 2) == 10.0


def test_what_a_source_answered_is_final():
    assert delay("source", retries=5, failures=0, lost=0) is None


def test_input_states_pair_candidates_with_what_was_consumed():
    class Rule:
        id = "f"

    class Candidate:
        name, pinned, version = "a", None, 3

    [state] = input_states(Rule, 1, [Candidate], {("f", 1, "a"): 2, ("f", 0, "a"): 3})
    assert (state.name, state.pinned, state.latest, state.consumed) == ("a", None, 3, 2)
    assert state.newer
