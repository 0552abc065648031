from itertools import count, takewhile

from aero.delivery import pause_after


def test_pauses_double_from_a_minute_to_an_hour_for_a_day():
    pauses = list(
        takewhile(lambda p: p is not None, (pause_after(n) for n in count(1)))
    )
    assert pauses[:7] == [60, 120, 240, 480, 960, 1920, 3600]
    assert set(pauses[6:]) == {3600}
    assert 82800 < sum(pauses) <= 86400
    assert pause_after(len(pauses) + 1) is None
    assert pause_after(10_000) is None
