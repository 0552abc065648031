import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from aero.auth.recent import Once, Recent


def test_an_answer_ends() -> None:
    now = [0.0]
    recent: Recent[str] = Recent(10, lambda: now[0])
    recent.keep("k", "v", until=5.0)
    now[0] = 4.9
    assert recent.get("k") == "v"
    now[0] = 5.0
    assert recent.get("k") is None
    now[0] = 0.0
    assert recent.get("k") is None


def test_the_one_not_asked_for_longest_goes_first() -> None:
    recent: Recent[int] = Recent(2, lambda: 0.0)
    recent.keep("a", 1, until=9)
    recent.keep("b", 2, until=9)
    assert recent.get("a") == 1
    recent.keep("c", 3, until=9)
    assert [recent.get(key) for key in "abc"] == [1, None, 3]
    recent.drop("a")
    recent.drop("never there")
    assert recent.get("a") is None


def test_one_asks_for_all_and_the_next_asks_again() -> None:
    once: Once[int] = Once()
    began, go, asked = threading.Event(), threading.Event(), []

    def question() -> int:
        asked.append(1)
        began.set()
        assert go.wait(20)
        return len(asked)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(once.ask, "k", question)
        assert began.wait(20)
        others = [pool.submit(once.ask, "k", question) for _ in range(3)]
        waiting = once._under_way["k"]._condition._waiters  # type: ignore[attr-defined]
        while len(waiting) < 3:
            threading.Event().wait(0.005)
        go.set()
        assert {each.result(20) for each in [first, *others]} == {1}
    assert once.ask("k", question) == 2


def test_what_goes_wrong_goes_wrong_for_all_and_is_forgotten() -> None:
    once: Once[int] = Once()

    def fail() -> int:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            once.ask("k", fail)
    assert once.ask("k", lambda: 1) == 1
