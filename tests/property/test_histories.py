"""Random histories never lose, double or reorder a run or version."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.histories import EVENTS, Event, make_template, play

EVENT = st.tuples(st.sampled_from(EVENTS), st.integers(0, 11), st.integers(0, 11))
START: list[Event] = [("source", 0, 0), ("source", 1, 1), ("analysis", 0, 0)]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@given(st.lists(EVENT, min_size=20, max_size=60))
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_a_random_history_obeys_the_laws(
    template: Path, tmp_path_factory: pytest.TempPathFactory, history: list[Event]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    try:
        play([*START, *history], folder / "home", template)
    finally:
        shutil.rmtree(folder)
