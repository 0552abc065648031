import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.error import InvalidValueError
from aero.sources import FetchPolicy, fetch, source_for
from aero.sources.file import FileSource
from aero.sources.http import HttpSource

paths = st.text("abc/. ", min_size=1, max_size=20).map(lambda text: Path("/" + text))
policies = st.builds(
    FetchPolicy,
    allow_private_addresses=st.booleans(),
    file_roots=st.lists(paths, max_size=3).map(tuple),
    max_size=st.none() | st.integers(0, 2**50),
    timeout=st.floats(0.001, 1e6),
    attempts=st.integers(1, 100),
    credentials=st.none() | paths,
)


@given(policies)
def test_a_policy_survives_json(policy: FetchPolicy) -> None:
    assert FetchPolicy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


def test_what_json_leaves_out_is_the_default() -> None:
    assert FetchPolicy.from_json({}) == FetchPolicy()


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="no retries"):
        FetchPolicy.from_json({"retries": 3})


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"timeout": 0.0},
        {"timeout": -1.0},
        {"timeout": float("nan")},
        {"max_size": -1},
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidValueError):
        FetchPolicy(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "adapter"),
    [
        ("http://h/", HttpSource),
        ("HTTPS://h/", HttpSource),
        ("file:///x", FileSource),
    ],
)
def test_the_scheme_chooses_the_adapter(url: str, adapter: type) -> None:
    assert isinstance(source_for(url), adapter)


@pytest.mark.parametrize("url", ["ftp://h/x", "data.csv", "", "s3://b/k", "//h/x"])
def test_other_schemes_are_refused_by_name(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="http, https, file"):
        fetch(url, tmp_path / "x")
