"""What a worker sends, value by value."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aero.error import InvalidTypeError, InvalidValueError
from aero.result import TEXT_LIMIT, result, unwrapped
from aero.storage.base import address

SHA = "ab" * 32
AT = "2026-01-01T01:00:00+01:00"
UTC = "2026-01-01T00:00:00+00:00"


def payload(**more: Any) -> dict[str, Any]:
    return {"schema": 1, "flow_id": "f", **more}


def output(schema: int | None = 1, **entry: Any) -> Any:
    given = payload(output_data={"n": {"uri": address(SHA), **entry}})
    if schema is None:
        del given["schema"]
    return result(given).outputs["n"]


def test_what_it_does_not_say_is_none() -> None:
    said = result({"flow_id": "f"})
    assert (said.flow, said.run, said.attempt, said.task) == ("f", None, None, None)
    assert (said.inputs, said.outputs, said.steps, said.environment) == ({}, {}, [], {})
    assert (said.error, said.log_tail) == (None, None)


def test_it_is_known_again_by_all_that_it_says() -> None:
    said = result({"aero": payload(later=1), "window": 7})
    assert said.sha256 == result(dict(reversed(payload(later=1).items()))).sha256
    assert said.sha256 != result(payload()).sha256


def test_only_a_payload_is_taken_out_of_arguments() -> None:
    assert unwrapped({"aero": {"a": 1}, "b": 2}) == {"a": 1}
    for whole in ({"aero": 1}, {"a": 1}, [1], None):
        assert unwrapped(whole) is whole


def test_an_output_keeps_what_a_commit_needs() -> None:
    assert output(
        id="d",
        size=3,
        sha256=SHA,
        file_bn="a/../b.csv",
        media_type="Text/CSV",
        encoding="UTF-8",
        collection_url="x",
    ) == {
        "id": "d",
        "url": None,
        "uri": address(SHA),
        "sha256": SHA,
        "size": 3,
        "file_bn": "b.csv",
        "media_type": "text/csv",
        "encoding": "utf-8",
    }


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({}, "application/octet-stream"),
        ({"file_bn": "a.csv"}, "text/csv"),
        ({"file_bn": "a", "file_format": "json"}, "application/json"),
        ({"file_bn": "a", "file_format": ".json"}, "application/json"),
        ({"file_format": ["text/plain", None]}, "text/plain"),
        ({"file_format": [None, None], "file_bn": "a.txt"}, "text/plain"),
        ({"file_format": [], "file_bn": "a.txt"}, "text/plain"),
        ({"file_format": 7}, "application/octet-stream"),
        ({"media_type": "a/b", "file_bn": "a.csv"}, "a/b"),
    ],
)
def test_the_media_type_is_told_or_guessed(entry: dict[str, Any], kind: str) -> None:
    assert output(**entry)["media_type"] == kind


def test_schema_0_names_bytes_by_their_address_alone() -> None:
    for name in (SHA, address(SHA)):
        said = output(None, uri=None, file_bn=name, size=9, sha256="no")
        assert (said["uri"], said["sha256"], said["size"]) == (address(SHA), SHA, None)
    assert output(None, uri=None)["uri"] is None
    assert output(uri=None, file_bn=SHA)["uri"] is None


def test_a_download_is_told_beside_the_bytes_or_within_raw() -> None:
    facts = {"etag": '"e"', "last_modified": "Thu", "final_url": "http://b"}
    told = {**facts, "retrieved_at": UTC}
    direct = output(url="http://a", retrieved_at=AT, **facts)
    assert direct.items() >= told.items()
    raw = output(raw={"uri": address(SHA), "retrieved_at": AT, **facts})["raw"]
    assert raw == {"uri": address(SHA), "sha256": SHA, "size": None, **told}


def test_what_is_unchanged_says_nothing_else() -> None:
    assert output(not_modified=True, etag="e\n", url="u") == {
        "id": None,
        "url": "u",
        "not_modified": True,
    }


def test_steps_as_they_went() -> None:
    step = {
        "name": "download",
        "status": "FAILED",
        "started_at": AT,
        "finished_at": None,
        "seconds": 2,
        "bytes": 7,
        "more": "ignored",
    }
    [kept] = result(payload(steps=[step])).steps
    assert kept == {
        "name": "download",
        "status": "FAILED",
        "started_at": UTC,
        "finished_at": None,
        "seconds": 2.0,
        "bytes": 7,
    }


def test_steps_as_they_were_measured() -> None:
    begun = 1_767_225_600_000_000_000
    measured = {"task_start": begun, "task_end": begun + 10**9, "duration": 10**9}
    said = result(payload(metrics={"function": measured, "download": {}}))
    assert said.steps == [
        {
            "name": "function",
            "status": "SUCCEEDED",
            "started_at": UTC,
            "finished_at": "2026-01-01T00:00:01+00:00",
            "seconds": 1.0,
        }
    ]


def test_an_error_leaves_the_outputs_aside() -> None:
    said = result(
        payload(
            output_data={"n": {"id": "d", "uri": "unfinished"}},
            error={"type": "E", "traceback": "x" * TEXT_LIMIT + "end"},
            log_tail="y" * TEXT_LIMIT + "end",
        )
    )
    assert said.outputs == {"n": {"id": "d"}}
    assert said.error is not None
    assert (said.error["fault"], said.error["message"]) == ("function", None)
    for text in (said.error["traceback"], said.log_tail):
        assert (len(text), text[-3:]) == (TEXT_LIMIT, "end")
    assert result(payload(error={})).error is None


STEP = {"name": "function", "status": "SUCCEEDED"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"flow_id": None}, "names no flow"),
    ({"flow_id": ""}, "names no flow"),
    ({"run_id": "r"}, "no attempt of run r"),
    ({"run_id": "r", "attempt": 0}, "attempt is out of bounds"),
    ({"attempt": True}, "attempt is a bool"),
    ({"task": -1}, "task is out of bounds"),
    ({"task": 1.0}, "task is a float"),
    ({"flow_id": 7}, "flow_id is a int"),
    ({"flow_id": "f" * 5000}, "flow_id has more than"),
    ({"input_data": [1]}, "input_data is a list"),
    ({"input_data": {"a": 1}}, "input_data.a is a int"),
    ({"input_data": {1: {}}}, "has the name 1"),
    ({"output_data": {"n" * 5000: {}}}, "a name over 4096 characters"),
    ({"input_data": {"a": {"version": 0}}}, r"input_data.a.version is out of bounds"),
    ({"input_data": {"a": {"id": 0}}}, r"input_data.a.id is a int"),
    ({"steps": {}}, "steps is a dict"),
    ({"steps": [1]}, "steps.0 is a int"),
    ({"steps": [{**STEP, "name": "commit"}]}, "steps.0.name is 'commit'"),
    ({"steps": [{**STEP, "status": None}]}, "steps.0.status is None"),
    ({"steps": [STEP, STEP]}, "a step twice"),
    ({"steps": [{**STEP, "seconds": -1}]}, "steps.0.seconds is -1"),
    ({"steps": [{**STEP, "seconds": True}]}, "steps.0.seconds is True"),
    ({"steps": [{**STEP, "seconds": "1"}]}, "steps.0.seconds is '1'"),
    ({"steps": [{**STEP, "bytes": 2**63}]}, "steps.0.bytes is out of bounds"),
    ({"steps": [{**STEP, "started_at": ""}]}, "steps.0.started_at is ''"),
    ({"steps": [{**STEP, "started_at": "2026-01-01T00:00:00"}]}, "with offset"),
    ({"steps": [{**STEP, "started_at": "0001-01-01T00:00:00+02:00"}]}, "with offset"),
    ({"metrics": {"function": {"task_start": 2, "task_end": 1}}}, "before it begins"),
    ({"metrics": True}, "metrics is a bool"),
    ({"environment": {"a": "x" * 300_000}}, "environment has more than"),
    ({"environment": {"a": "\0"}}, "a NUL character"),
    ({"environment": {"a": "\\\0"}}, "a NUL character"),
    ({"environment": {"a": "\ud800"}}, "is no JSON"),
    ({"environment": {"a": float("nan")}}, "is no JSON"),
    ({"environment": {"a": {1, 2}}}, "is no JSON"),
    ({"error": {"message": "no type"}}, "error has no type"),
    ({"error": {"type": "E", "fault": "mine"}}, "error.fault is 'mine'"),
    ({"error": "no"}, "error is a str"),
    ({"log_tail": 1}, "log_tail is a int"),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_what_is_wrong_is_said(change: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidValueError, InvalidTypeError), match=words):
        result(payload(**change))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"uri": "file:///etc/passwd"}, "not an object's address"),
        ({"uri": "sha256:../x"}, "not an object's address"),
        ({"uri": 7}, "uri is a int"),
        ({"sha256": "cd" * 32}, "sha256 is not that of"),
        ({"size": -1}, "size is out of bounds"),
        ({"media_type": "text\r\nX: y"}, "media type"),
        ({"encoding": "utf-8\r\n"}, "encoding"),
        ({"encoding": 'x"y'}, "encoding"),
        ({"retrieved_at": "yesterday"}, "retrieved_at"),
        ({"retrieved_at": AT, "etag": "e\r\nX: y"}, "etag is not what a header"),
        ({"retrieved_at": AT, "last_modified": "\u20ac"}, "last_modified is not"),
        ({"raw": {"uri": address(SHA)}}, "raw has no retrieved_at"),
        ({"raw": {"sha256": SHA}}, "raw has no uri"),
        ({"raw": {"uri": "x", "retrieved_at": AT}}, "not an object's address"),
    ],
)
def test_what_is_wrong_with_an_output_is_said(
    entry: dict[str, Any], words: str
) -> None:
    with pytest.raises((InvalidValueError, InvalidTypeError), match=words):
        output(**entry)


def test_a_backslash_is_no_nul() -> None:
    said = result(payload(environment={"path": "\\u0000 \\\\u0000"}))
    assert said.environment == {"path": "\\u0000 \\\\u0000"}


def test_what_is_no_payload_at_all() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for other in (None, [], "x", 7):
        with pytest.raises(InvalidTypeError, match="payload is a"):
            result(other)
    with pytest.raises(InvalidValueError, match="is no JSON"):
        result(payload(environment=deep))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)
KEYS = ("schema", "flow_id", "run_id", "attempt", "task", "input_data", "output_data")
MORE = ("steps", "metrics", "environment", "error", "log_tail", "aero")


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(KEYS + MORE), anything, max_size=4))
def test_whatever_comes_is_read_or_refused(given: dict[str, Any]) -> None:
    try:
        said = result(given)
    except (InvalidValueError, InvalidTypeError):
        return
    assert len(said.sha256) == 64
