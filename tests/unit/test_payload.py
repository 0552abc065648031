from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from aero.db.queries.definitions import FlowDefinition
from aero.runs import payload
from aero.types import PAYLOAD_SCHEMA


def definition(**values):
    return FlowDefinition(
        **{
            "id": "flow",
            "function_id": "f",
            "function_name": "count",
            "source": "def count(): ...",
            "source_sha256": "0" * 64,
            "endpoint": "local",
            "kwargs": {"window": 7},
            "policy": 2,
            "retries": 0,
            "timeout": 9.0,
            "outputs": {},
            "fetch": {},
            **values,
        }
    )


def data(data_id="d", url=None):
    return SimpleNamespace(id=data_id, url=url, no_copy=False)


def used(name="cases"):
    return SimpleNamespace(
        id="v",
        name=name,
        data_id="d",
        version=3,
        uri="aero:sha256:ff",
        sha256="ff",
        size=5,
        file_name="cases.csv",
        media_type="text/csv",
        encoding="utf-8",
    )


STATE = SimpleNamespace(etag='"e"', last_modified="yesterday", raw_sha256="aa")


def outputs(flow, states=None, event=None):
    return payload.output_entries(flow, storage="s", states=states or {}, event=event)


def test_the_payload_key_by_key():
    made = payload.aero_payload(
        definition(), run_id="r", attempt=2, task=1, inputs={"a": {}}, outputs={}
    )
    assert made == {
        "schema": PAYLOAD_SCHEMA,
        "flow_id": "flow",
        "run_id": "r",
        "attempt": 2,
        "task": 1,
        "input_data": {"a": {}},
        "output_data": {},
    }


def test_an_input_entry_key_by_key():
    assert payload.input_entries(definition(), [used()], "s") == {
        "cases": {
            "id": "d",
            "version": 3,
            "uri": "aero:sha256:ff",
            "sha256": "ff",
            "size": 5,
            "file_name": "cases.csv",
            "media_type": "text/csv",
            "encoding": "utf-8",
            "storage": "s",
        }
    }


def test_an_opted_out_input_says_so():
    flow = definition(fetch={"cases": False, "other": True})
    entries = payload.input_entries(flow, [used(), used("other")], "s")
    assert entries["cases"]["fetch"] is False
    assert "fetch" not in entries["other"]


def test_an_output_that_is_no_download_is_only_named():
    assert (
        outputs(definition(outputs={"n": data()}))["n"].items()
        >= {
            "id": "d",
            "storage": "s",
        }.items()
    )
    assert "url" not in outputs(definition(outputs={"n": data()}))["n"]


def test_a_download_is_asked_for_with_what_the_last_poll_left():
    flow = definition(outputs={"n": data(url="https://x")})
    [entry] = outputs(flow).values()
    assert (entry["url"], entry["etag"], entry["last_modified"]) == (
        "https://x",
        None,
        None,
    )
    assert "raw_sha256" not in entry
    [entry] = outputs(flow, {"d": STATE}).values()
    assert (entry["etag"], entry["last_modified"]) == ('"e"', "yesterday")
    assert entry["raw_sha256"] == "aa"


def test_an_event_says_which_object_changed():
    flow = definition(outputs={"n": data(url="https://x/*")})
    [entry] = outputs(flow, event={"url": "https://x/1"}).values()
    assert entry["url"] == "https://x/1"
    [entry] = outputs(flow, event={"etag": "e"}).values()
    assert entry["url"] == "https://x/*"


def task(flow, output_data, number=0):
    run = SimpleNamespace(
        id="r", attempt=1, task=number, started_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    body = {"output_data": output_data}
    return payload.build_task(flow, run, body, workdir=Path("/w/d"), fetch={"a": 1})


def test_the_task_is_what_the_worker_needs():
    made = task(definition(), {"n": {}})
    assert made["download"] is False
    assert (made["source"], made["name"]) == ("def count(): ...", "count")
    assert made["kwargs"] == {"window": 7}
    assert (made["workdir"], made["timeout"]) == ("/w/d", 9.0)
    assert made["secrets"] == []
    assert made["fetch"] == {"a": 1}
    assert task(definition(), {"n": {"url": "u"}})["download"] is True


def test_a_flow_without_a_function_has_no_name():
    made = task(definition(source=None, function_name=None), {})
    assert (made["source"], made["name"]) == (None, None)


def test_a_task_of_a_sweep_has_its_own_kwargs():
    flow = definition(kwargs=[{"window": 7}, {"window": 14}])
    assert task(flow, {}, 1)["kwargs"] == {"window": 14}


def test_secrets_are_named_and_not_resolved(monkeypatch):
    monkeypatch.setenv("TOKEN", "value")
    kwargs = {"a": [{"$secret": "TOKEN"}], "b": {"c": {"$secret": "ABSENT"}}}
    made = task(definition(kwargs=kwargs), {})
    assert made["secrets"] == ["ABSENT", "TOKEN"]
    assert made["kwargs"] == kwargs


@given(st.lists(st.dictionaries(st.text(), st.integers()), min_size=1), st.data())
def test_task_kwargs_are_a_copy_of_the_entry(sweep, chosen):
    number = chosen.draw(st.integers(0, len(sweep) - 1))
    flow = definition(kwargs=sweep)
    got = flow.task_kwargs(number)
    assert got == sweep[number]
    got["new"] = 1
    assert flow.task_kwargs(number) == sweep[number]
    assert flow.task_kwargs(number) is not sweep[number]
