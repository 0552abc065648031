"""`aero.utils`: the names that user functions import."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aero
from aero import api, jobs, utils
from aero.error import InvalidTypeError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
SEGMENT = st.text(alphabet="ab/", max_size=4)


def test_it_only_hands_on():
    assert utils.__all__ == sorted(utils.__all__)
    assert utils.PolicyEnum is aero.PolicyEnum
    assert utils.AeroOutput is aero.AeroOutput
    assert utils.aero_format is aero.aero_format
    assert utils.register_function is api.register_function
    assert utils.download is jobs.download


@given(JSON)
def test_json_survives_the_round_trip(value):
    assert json.loads(utils.serialize(value)) == value


@dataclass
class Point:
    x: int
    at: datetime


def test_what_json_does_not_know_is_written_plainly():
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    found = utils.serialize(
        {
            "point": Point(1, moment),
            "path": Path("a/b"),
            "id": UUID(int=0),
            "words": {"b", "a"},
            "map": MappingProxyType({"é": 1}),
        }
    )
    assert json.loads(found) == {
        "point": {"x": 1, "at": "2026-01-01T00:00:00+00:00"},
        "path": "a/b",
        "id": "00000000-0000-0000-0000-000000000000",
        "words": ["a", "b"],
        "map": {"é": 1},
    }
    assert "é" in found


NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001


@pytest.mark.parametrize("value", [object(), NAIVE, Point])
def test_what_cannot_be_written_is_refused(value):
    with pytest.raises(InvalidTypeError, match="cannot be written as JSON"):
        utils.serialize([value])


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        (("https://h/", "/a/", "b"), "https://h/a/b"),
        (("https://h", "", "a"), "https://h/a"),
        (("https://h/x/",), "https://h/x"),
    ],
)
def test_urls_are_joined_with_one_slash(parts, url):
    assert utils.build_url(*parts) == url
    assert utils.build_url(*parts, trailing_slash=True) == f"{url}/"


@given(st.lists(SEGMENT, max_size=4))
def test_no_slash_is_doubled_at_a_joint(segments):
    url = utils.build_url("https://h", *(s.replace("//", "/") for s in segments))
    assert "//" not in url.removeprefix("https://")
    assert not url.endswith("/")
