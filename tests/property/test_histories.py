"""Random histories never lose, double or reorder a run or version."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.databases import Postgres
from tests.histories import EVENTS, Event, make_template, play

EVENT = st.tuples(st.sampled_from(EVENTS), st.integers(0, 11), st.integers(0, 11))
START: list[Event] = [("source", 0, 0), ("source", 1, 1), ("analysis", 0, 0)]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@given(st.lists(EVENT, min_size=20, max_size=60))
@settings(
    max_examples=20,
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


@pytest.mark.usefixtures("clock")
@given(st.lists(EVENT, min_size=20, max_size=60))
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_and_on_postgresql_at_the_same_times(
    postgres: Postgres,
    postgres_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    history: list[Event],
) -> None:
    postgres.reset()
    folder = tmp_path_factory.mktemp("history")
    try:
        play([*START, *history], folder / "home", postgres_url)
    finally:
        shutil.rmtree(folder)


def test_updates_that_arrive_while_a_flow_runs_are_not_lost(
    template: Path, tmp_path: Path
) -> None:
    poll: list[Event] = [("forwards", 0, 2), ("tick", 0, 0), ("claim", 0, 0)]
    history: list[Event] = [
        ("source", 0, 0),
        ("analysis", 0, 0),
        ("claim", 0, 0),
        ("finish", 0, 0),
        ("claim", 0, 0),
        # The analysis has version 1 in its hands from here on.
        ("publish", 0, 2),
        *poll,
        ("finish", 1, 0),
        ("publish", 0, 3),
        *poll,
        ("finish", 1, 0),
        ("finish", 0, 0),
        ("claim", 0, 0),
        ("finish", 0, 0),
    ]
    world = play(history, tmp_path / "home", template)
    source, analysis = world.model.flows.values()
    assert [c for _, c in world.model.versions[source.outputs["out"]]] == [
        "a",
        "b",
        "c",
    ]
    assert world.model.used[analysis.id, 0, "x"] == 3
    assert analysis.records == 2


def test_a_process_long_unheard_of_is_seen_to_be_gone(
    template: Path, tmp_path: Path
) -> None:
    """Though its lease still runs, since the clock was put back meanwhile."""
    asleep: list[Event] = [("claim", 0, 0), ("forwards", 0, 5), ("backwards", 0, 0)]
    play([*START, *asleep, ("crash", 0, 0)], tmp_path / "home", template)
