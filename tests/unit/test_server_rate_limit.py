import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.server.rate_limit import Buckets, _place


class Ticking:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_burst_and_fills_as_time_goes_by() -> None:
    time = Ticking()
    buckets = Buckets(2.0, 3.0, seconds=time)
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert buckets.take("b") == 0
    time.now = 0.25
    assert buckets.take("a") == 0.25
    time.now = 0.5
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    time.now = 100.0
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_what_is_given_back_can_be_taken_and_no_more() -> None:
    buckets = Buckets(1.0, 2.0, seconds=Ticking())
    buckets.give_back("a")
    for _ in range(10):
        assert buckets.take("a") == 0
        buckets.give_back("a")
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 1]


def test_the_slowest_rate_lets_one_through() -> None:
    buckets = Buckets(0.01, 0.05, seconds=Ticking())
    assert [buckets.take("a") for _ in range(2)] == [0, 100]


def test_memory_is_bounded_and_the_last_ones_are_kept() -> None:
    buckets = Buckets(1.0, 1.0, most=3, seconds=Ticking())
    for key in "abcd":
        assert buckets.take(key) == 0
    assert len(buckets._left) == 3
    assert buckets.take("d") == 1
    assert buckets.take("a") == 0


@given(
    st.floats(0.1, 100),
    st.floats(1, 50),
    st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_nobody_gets_more_than_the_burst_and_the_rate(
    rate: float, burst: float, pauses: list[float]
) -> None:
    time = Ticking()
    buckets = Buckets(rate, burst, seconds=time)
    let_in = 0
    for pause in pauses:
        time.now += pause
        wait = buckets.take("a")
        let_in += wait == 0
        assert 0 <= wait <= 1 / rate + 1e-9
        assert let_in <= burst + rate * time.now + 1e-6


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("", "a name", True),
    ],
)
def test_an_address_is_one_place_and_so_is_a_network(
    one: str, other: str, same: bool
) -> None:
    places = [_place({"client": (address, 1)}) for address in (one, other)]
    assert (places[0] == places[1]) == same


def test_who_has_no_address_has_a_place_too() -> None:
    assert _place({"client": None}) == _place({}) == "address unknown"
