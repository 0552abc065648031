import dataclasses
import pickle
from pathlib import Path

import pytest

from aero.error import InvalidTypeError
from aero.types import (
    AeroOutput,
    PolicyEnum,
    RunStatus,
    Step,
    StoredObject,
    Validators,
)


def test_the_policies_have_the_numbers_users_know():
    assert {p.name: p.value for p in PolicyEnum} == {
        "NONE": -1,
        "INGESTION": 0,
        "TIMER": 1,
        "ANY": 2,
        "ALL": 3,
        "INGESTION_EVENT": 4,
    }


def test_only_pending_and_running_have_not_ended():
    living = {status for status in RunStatus if not status.ended}
    assert living == {RunStatus.PENDING, RunStatus.RUNNING}


def test_statuses_and_steps_are_their_own_words():
    assert RunStatus("UNCHANGED") == "UNCHANGED"
    assert [str(step) for step in Step] == [
        "download",
        "get_versions",
        "function",
        "commit",
    ]


@pytest.mark.parametrize("path", ["out.csv", Path("out.csv")])
def test_an_output_has_a_name_and_a_path(path):
    output = AeroOutput("n", path)
    assert (output.name, output.path) == ("n", Path("out.csv"))
    assert repr(output) == "AeroOutput(name='n', path='out.csv')"


def test_outputs_are_equal_by_value():
    assert AeroOutput("n", "a") == AeroOutput("n", Path("a"))
    assert len({AeroOutput("n", "a"), AeroOutput("n", Path("a"))}) == 1
    assert AeroOutput("n", "a") != AeroOutput("n", "b")
    assert AeroOutput("n", "a") != AeroOutput("m", "a")
    assert AeroOutput("n", "a") != "n"


def test_an_output_survives_pickling():
    output = AeroOutput("n", "a")
    assert pickle.loads(pickle.dumps(output)) == output


@pytest.mark.parametrize(
    ("name", "path"), [(5, "a"), (None, "a"), ("n", 5), ("n", b"a")]
)
def test_an_output_of_wrong_types_says_what_to_write(name, path):
    with pytest.raises(InvalidTypeError, match="AeroOutput") as caught:
        AeroOutput(name, path)
    assert isinstance(caught.value, TypeError)


def test_an_output_has_no_other_attributes():
    with pytest.raises(AttributeError):
        AeroOutput("n", "a").other = 1


@pytest.mark.parametrize(
    "value", [StoredObject(uri="u", sha256="s", size=1), Validators(etag="e")]
)
def test_values_are_frozen(value):
    field = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, "other")
