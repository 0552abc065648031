"""Registering functions and flows: records, duplicates, cycles, refusals."""

import json
import os
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from aero.error import (
    AmbiguousError,
    ClientError,
    ConflictError,
    DuplicateError,
    InvalidValueError,
    NotFoundError,
)
from aero.testing import make_app
from tests.scenarios import (
    analysis,
    constant,
    counts,
    length,
    made,
    source,
    statuses,
    text,
    tick,
    upper,
)

UNKNOWN_ID = "5c56d6ea-24eb-4d88-8bd0-04a1e45df0c3"

FLOW_KEYS = {
    "id",
    "function_id",
    "function_args",
    "policy",
    "timer",
    "timer_job_id",
    "last_executed",
    "endpoint",
    "description",
    "derived_from",
    "contributed_to",
}
DATA_KEYS = {
    "id",
    "name",
    "url",
    "collection_uuid",
    "collection_url",
    "description",
    "no_copy",
    "available_versions",
}


@pytest.fixture
def cases(app, publisher):
    """A source with one version."""
    flow = source(app, publisher.publish("cases.csv", "a,b\n"))
    app.run_flow(flow["id"])
    return made(flow)


# -- functions -------------------------------------------------------------------------


def test_the_same_source_is_the_same_function(app):
    first = app.register_function(upper)
    assert app.register_function(upper) == first
    assert app.register_function(length) != first
    assert counts(app)["function"] == 2


def test_a_function_is_stored_with_source_and_docstring(app):
    record = app.get_function(app.register_function(length))
    assert record["name"] == "length"
    assert record["description"] == length.__doc__
    assert "def length(cases, factor=1):" in record["source"]
    assert len(record["source_sha256"]) == 64
    assert record["python_version"]


def test_a_description_of_ones_own(app):
    assert app.get_function(app.register_function(tick, description="t"))[
        "description"
    ] == ("t")


# -- shapes ----------------------------------------------------------------------------


def test_a_flow_record_key_by_key(app, cases):
    function = app.register_function(length)
    flow = app.register_flow(
        "local",
        function,
        {"cases": {"id": cases}},
        {"n": {"collection_uuid": "u", "collection_url": "https://g.example/c/"}},
        {"factor": 3},
        description="why",
        policy="TIMER",
        timer_delay=60,
    )
    assert flow.keys() >= FLOW_KEYS
    assert flow["function_id"] == function
    assert flow["function_args"]["function"] == function
    assert flow["function_args"]["endpoint"] == flow["endpoint"] == "local"
    assert flow["policy"] == 1
    assert flow["timer"] == 60
    assert flow["timer_job_id"] == flow["id"]
    assert flow["last_executed"] is None
    assert flow["description"] == "why"
    [used] = flow["derived_from"]
    assert used.keys() >= DATA_KEYS
    assert (used["id"], used["name"]) == (cases, "cases")
    assert used["available_versions"] == 1
    assert used["url"].startswith("http://127.0.0.1")
    [new] = flow["contributed_to"]
    assert new["name"] == "n"
    assert new["collection_uuid"] == "u"
    assert new["collection_url"] == "https://g.example/c"
    assert (new["url"], new["no_copy"], new["available_versions"]) == (None, False, 0)
    kwargs = flow["function_args"]["kwargs"]
    assert kwargs["factor"] == 3
    assert kwargs["aero"]["flow_id"] == flow["id"]
    assert kwargs["aero"]["schema"] == 1
    assert kwargs["aero"]["input_data"]["cases"]["id"] == cases
    assert kwargs["aero"]["output_data"]["n"]["id"] == new["id"]
    assert "tasks" not in kwargs["aero"]
    assert app.get_flow(flow["id"]) == kwargs
    assert app.get_flow(flow["id"], inputs_only=False) == flow
    json.dumps(flow)


def test_a_flow_without_schedule_has_no_timer_job(app, cases):
    assert analysis(app, length, {"cases": cases})["timer_job_id"] is None


def test_a_version_record_key_by_key(app, cases):
    [version] = app.list_versions("cases")
    assert version.keys() >= {
        *("id", "data_id", "version", "checksum", "created_at", "source_key"),
        "data_file",
    }
    assert (version["data_id"], version["version"]) == (cases, 1)
    assert version["created_at"] == "2026-01-01T00:00:00+00:00"
    assert version["source_key"] == ""
    assert version["data_file"] == {
        "file_name": "cases.csv",
        "file_type": "csv",
        "file_size": 4,
        "encoding": None,
    }
    assert len(version["checksum"]) == 64


def test_a_provenance_record_key_by_key(app, cases):
    flow = analysis(app, length, {"cases": cases})
    app.run_until_idle(10)
    records = app.list_metadata("prov")
    record = next(r for r in records if r["flow_id"] == flow["id"])
    assert record.keys() >= {"id", "flow_id", "derived_from", "contributed_to"}
    assert record["flow_id"] == flow["id"]
    assert [v["data_id"] for v in record["derived_from"]] == [cases]
    assert [v["data_id"] for v in record["contributed_to"]] == [made(flow)]
    assert record["function"]["source_sha256"]
    assert record["environment"]["python"]
    assert [s["name"] for s in record["steps"]] == ["get_versions", "function"]
    assert app.get_provenance(record["id"]) == record
    assert app.get_provenance(record["run_id"]) == record


def test_data_flows_say_their_role(app, cases):
    ingestion = next(e for e in app.get_data_flows("cases") if e["role"] == "ingestion")
    flow = analysis(app, length, {"cases": cases})
    entries = {e["flow_id"]: e for e in app.get_data_flows("cases")}
    assert entries[flow["id"]]["role"] == "analysis"
    assert entries[flow["id"]].keys() >= {"policy", "description"}
    assert set(entries) == {ingestion["flow_id"], flow["id"]}


def test_lists_end_and_are_newest_first(app, clock):
    function = app.register_function(tick)
    made_ids = []
    for number in range(31):
        clock.advance(1)
        flow = (
            app.register_flow("local", function, {}, {"out": {}}, {}, tags=["t"])
            if (number == 0)
            else app.register_flow("local", function, {}, {f"out{number}": {}})
        )
        made_ids.append(flow["id"])
    listed = [record["id"] for record in app.list_metadata("flow")]
    assert listed == made_ids[::-1]
    assert [d["name"] for d in app.list_metadata("data")][-1] == "out"
    assert [d["tags"] for d in app.list_metadata("data")][-1] == ["t"]
    assert list(app.list_metadata("prov")) == []
    with pytest.raises(InvalidValueError, match="'data', 'flow' or 'prov'"):
        app.list_metadata("everything")


# -- duplicates, writers, cycles -----------------------------------------------------


def test_a_duplicate_is_refused_with_the_id_of_the_one_there_is(app, cases):
    flow = analysis(app, length, {"cases": cases}, kwargs={"factor": 2})
    before = counts(app)
    with pytest.raises(DuplicateError) as caught:
        analysis(app, length, {"cases": cases}, kwargs={"factor": 2}, policy="ALL")
    assert caught.value.flow_id == flow["id"]
    assert caught.value.code == 409
    assert counts(app) == before
    again = analysis(app, length, {"cases": cases}, kwargs={"factor": 2}, exist_ok=True)
    assert again == flow
    assert counts(app) == before


def test_what_makes_a_flow_another_one(app, cases):
    ids = {
        analysis(app, length, {"cases": cases})["id"],
        analysis(app, length, {"cases": cases}, kwargs={"factor": 2})["id"],
        analysis(app, length, {"cases": {"id": cases, "version": 1}})["id"],
        analysis(app, length, {"cases": {"id": cases, "fetch": False}})["id"],
        analysis(app, length, {"cases": cases}, outputs=("m",))["id"],
        analysis(app, constant, {"cases": cases})["id"],
    }
    assert len(ids) == 6


def test_a_deleted_flow_is_no_duplicate(app, cases):
    flow = analysis(app, length, {"cases": cases})
    app.delete_flow(flow["id"])
    assert analysis(app, length, {"cases": cases})["id"] != flow["id"]


def test_of_two_at_once_one_wins(tmp_path, database_url):
    with make_app(tmp_path / "home", database_url=database_url) as app:
        function = app.register_function(tick)

        def register(_):
            try:
                return app.register_flow("local", function, {}, {"o": {}})["id"]
            except DuplicateError as error:
                return error.flow_id

        with ThreadPoolExecutor(4) as pool:
            ids = set(pool.map(register, range(8)))
        assert len(ids) == 1
        assert counts(app)["flow"] == 1


def test_data_has_one_living_writer(app, cases):
    flow = analysis(app, length, {"cases": cases})
    function = app.register_function(constant)
    before = counts(app)
    with pytest.raises(ConflictError) as caught:
        app.register_flow(
            "local", function, {"cases": {"id": cases}}, {"n": {"id": made(flow)}}
        )
    assert (caught.value.flow_id, caught.value.data_id) == (flow["id"], made(flow))
    assert counts(app) == before


def test_two_outputs_cannot_be_the_same_data(app, cases):
    flow = analysis(app, length, {"cases": cases})
    app.delete_flow(flow["id"])
    function = app.register_function(constant)
    outputs = {"n": {"id": made(flow)}, "m": {"id": made(flow)}}
    with pytest.raises(InvalidValueError, match="same Data"):
        app.register_flow("local", function, {"cases": {"id": cases}}, outputs)


def test_data_that_no_living_flow_writes_continues_its_numbering(app, cases, tmp_path):
    old = analysis(app, length, {"cases": cases})
    app.run_until_idle(10)
    app.delete_flow(old["id"])
    function = app.register_function(constant)
    new = app.register_flow(
        "local", function, {"cases": {"id": cases}}, {"n": {"id": made(old)}}
    )
    assert made(new) == made(old)
    app.run_flow(new["id"])
    assert [v["version"] for v in app.list_versions(made(old))] == [2, 1]
    assert text(app, made(old), tmp_path, 1) == "4"
    assert text(app, made(old), tmp_path, 2) == "the same"


def test_a_source_that_moved_keeps_its_history(app, publisher, cases, tmp_path):
    [writer] = app.get_data_flows(cases)
    app.delete_flow(writer["flow_id"])
    url = publisher.publish("moved.csv", "a,b\n1,2\n")
    flow = app.register_flow("local", None, {}, {"cases": {"id": cases, "url": url}})
    assert flow["contributed_to"][0]["url"] == url
    app.run_flow(flow["id"])
    assert text(app, cases, tmp_path, 2) == "a,b\n1,2\n"
    assert app.lineage(cases).record()["nodes"][0]["source"]["url"] == url


def test_an_analysis_does_not_write_into_a_source(app, cases):
    other = source(app, app.get_data(cases)["url"], "other")
    [writer] = app.get_data_flows(cases)
    app.delete_flow(writer["flow_id"])
    function = app.register_function(length)
    before = counts(app)
    with pytest.raises(InvalidValueError, match="url"):
        app.register_flow(
            "local", function, {"cases": {"id": made(other)}}, {"n": {"id": cases}}
        )
    assert counts(app) == before


def test_a_flow_that_feeds_itself_is_refused(app, cases):
    flow = analysis(app, length, {"cases": cases})
    app.delete_flow(flow["id"])
    function = app.register_function(constant)
    before = counts(app)
    with pytest.raises(ConflictError, match="feed itself"):
        app.register_flow(
            "local", function, {"cases": {"id": made(flow)}}, {"n": {"id": made(flow)}}
        )
    assert counts(app) == before


def test_a_cycle_through_others_is_refused(app, cases):
    first = analysis(app, length, {"cases": cases})
    second = analysis(app, constant, {"cases": made(first)}, ("second",))
    third = analysis(app, upper, {"cases": made(second)}, ("cases",))
    app.delete_flow(first["id"])
    function = app.register_function(constant)
    before = counts(app)
    with pytest.raises(ConflictError, match="feed itself"):
        app.register_flow(
            "local",
            function,
            {"cases": {"id": made(third)}},
            {"n": {"id": made(first)}},
        )
    assert counts(app) == before


# -- what is asked for -----------------------------------------------------------------


def test_data_and_flows_go_by_id_prefix_and_name(app, cases):
    flow = analysis(app, length, {"cases": cases}, description="how many")
    for ref in (cases, cases[:8], cases[:13], cases.upper(), "cases"):
        assert app.get_data(ref)["id"] == cases
    for ref in (flow["id"], flow["id"][:8], "how many", "length", "n"):
        assert app.get_flow(ref, inputs_only=False)["id"] == flow["id"]
    by_name = analysis(app, constant, {"cases": "cases"}, ("c",))
    assert [d["id"] for d in by_name["derived_from"]] == [cases]


@pytest.mark.parametrize("ref", ["unknown", "0" * 8, UNKNOWN_ID, "12", "a@1"])
def test_an_unknown_reference_is_named(app, cases, ref):
    with pytest.raises(NotFoundError) as caught:
        app.lineage(ref)
    assert caught.value.code == 404
    for ask in (app.get_flow, app.run_flow, app.pause_flow, app.explain, app.get_run):
        with pytest.raises(NotFoundError, match=ref):
            ask(ref)


@pytest.mark.parametrize("ref", ["", None, 5])
def test_no_reference_is_an_invalid_value(app, cases, ref):
    for ask in (app.get_data, app.get_flow, app.get_run, app.list_versions):
        with pytest.raises(InvalidValueError):
            ask(ref)


def test_an_ambiguous_name_lists_id_flow_and_version(app, publisher, cases):
    other = source(app, publisher.publish("other.csv", "x"))
    with pytest.raises(AmbiguousError) as caught:
        app.get_data("cases")
    listed = {c["id"]: c for c in caught.value.candidates}
    assert listed[made(other)] == {
        "id": made(other),
        "flow": other["id"],
        "version": 0,
    }
    assert listed[cases]["version"] == 1
    assert cases in str(caught.value)
    with pytest.raises(AmbiguousError) as caught:
        app.get_flow("cases")
    listed = {c["id"]: c for c in caught.value.candidates}
    assert listed[other["id"]] == {"id": other["id"], "outputs": "cases@0"}


@pytest.mark.parametrize(
    ("ref", "error"),
    [
        ("cases@2", NotFoundError),
        ("cases@0", NotFoundError),
        ("cases@x", InvalidValueError),
        ("cases@²", InvalidValueError),
        ("cases@" + "9" * 18, NotFoundError),
        ("cases@" + "9" * 5000, InvalidValueError),
    ],
)
def test_a_version_that_there_is_not(app, cases, ref, error):
    with pytest.raises(error):
        app.lineage(ref)


@pytest.mark.parametrize("number", [0, -1, 2, 10**30, -(10**30)])
def test_a_version_number_that_there_is_not(app, cases, number):
    with pytest.raises(NotFoundError, match="newest is 1"):
        app.get_version("cases", number)


def test_data_without_a_version_says_so(app, publisher):
    source(app, publisher.publish("x", "x"))
    with pytest.raises(NotFoundError, match="no version yet"):
        app.get_version("cases")


# -- refusals store nothing ------------------------------------------------------------

REFUSED = {
    "unknown data": ({"input_data": {"cases": {"id": "nothing"}}}, NotFoundError),
    "unknown pin": ({"input_data": {"cases": {"version": 2}}}, NotFoundError),
    "huge pin": ({"input_data": {"cases": {"version": 10**30}}}, NotFoundError),
    "unknown output": ({"output_data": {"n": {"id": "nothing"}}}, NotFoundError),
    "unknown function": ({"function_uuid": str(uuid.uuid4())}, NotFoundError),
    "no function id": ({"function_uuid": "length"}, NotFoundError),
    "bad cron": ({"policy": "TIMER", "cron": "* * * *"}, InvalidValueError),
    "never": ({"policy": "TIMER", "cron": "0 0 30 2 *"}, InvalidValueError),
    "negative timer": ({"policy": "TIMER", "timer_delay": -5}, InvalidValueError),
    "identifier": ({"output_data": {"a b": {}}}, InvalidValueError),
    "kwargs": ({"kwargs": {"a": object()}}, InvalidValueError),
    "secret": ({"kwargs": {"factor": {"$secret": 5}}}, InvalidValueError),
    "secret with more": (
        {"kwargs": {"factor": [{"$secret": "A", "b": 1}]}},
        InvalidValueError,
    ),
    "tags": ({"tags": "flu"}, TypeError),
    "retries": ({"retries": -1}, InvalidValueError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_stores_nothing(app, cases, name):
    wrong, error = REFUSED[name]
    function = app.register_function(length)
    before = counts(app)
    given = {
        "endpoint_uuid": "local",
        "function_uuid": function,
        "input_data": {"cases": {"id": cases}},
        "output_data": {"n": {}},
        "kwargs": {},
        "tags": ["new tag"],
        **wrong,
    }
    entry = given["input_data"]["cases"]
    given["input_data"] = {"cases": {"id": cases, **entry}}
    with pytest.raises(error) as caught:
        app.register_flow(**given)
    assert isinstance(caught.value, ClientError)
    assert "\n" not in str(caught.value)
    assert counts(app) == before


def test_a_globus_function_is_refused_on_this_machine_and_taken_elsewhere(app, cases):
    remote = str(uuid.uuid4())
    with pytest.raises(NotFoundError, match="this machine"):
        app.register_flow("local", remote, {"cases": {"id": cases}}, {"n": {}})
    endpoint = str(uuid.uuid4())
    flow = app.register_flow(endpoint, remote, {"cases": {"id": cases}}, {"n": {}})
    assert flow["function_id"] == remote
    assert app.get_function(remote)["source"] is None
    with pytest.raises(NotFoundError, match="this machine"):
        app.register_flow("local", remote, {"cases": {"id": cases}}, {"m": {}})


def test_a_broken_config_stores_nothing(app, cases, tmp_path):
    function = app.register_function(length)
    before = counts(app)
    for content in ("", "{}", "[]", "[1]"):
        (tmp_path / "c.json").write_text(content)
        with pytest.raises(ValueError, match=r"c\.json"):
            analysis(app, length, {"cases": cases}, config=tmp_path / "c.json")
    assert counts(app) == before
    assert app.register_function(length) == function


def test_the_callers_dicts_stay_as_they_are(app, cases):
    inputs, outputs = {"cases": {"id": cases}}, {"n": {"tmp_dir": "/t"}}
    kwargs = {"factor": 2}
    before = json.dumps([inputs, outputs, kwargs])
    function = app.register_function(length)
    with pytest.warns(UserWarning, match="tmp_dir"):
        flow = app.register_flow("local", function, inputs, outputs, kwargs)
    flow["function_args"]["kwargs"]["factor"] = 5
    assert json.dumps([inputs, outputs, kwargs]) == before
    assert app.get_flow(flow["id"])["factor"] == 2


def test_nothing_is_shared_between_calls(app):
    function = app.register_function(tick)
    first = app.register_flow("local", function, {}, {"a": {}})
    second = app.register_flow("local", function, {}, {"b": {}})
    assert [d["name"] for d in first["contributed_to"]] == ["a"]
    assert [d["name"] for d in second["contributed_to"]] == ["b"]


def test_searching_finds_every_word(app, publisher):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source(app, publisher.publish("x_y.csv", "x"), "wastewater", tags=["100%"])
        source(app, publisher.publish("z.csv", "x"), "cholera")
    assert [d["name"] for d in app.search_sources("WASTE x_y")] == ["wastewater"]
    assert [d["name"] for d in app.search_sources("100%")] == ["wastewater"]
    assert app.search_sources("xay") == []
    assert len(app.search_sources("")) == 2


def test_deleting_a_flow_keeps_what_it_made(app, cases, tmp_path):
    flow = analysis(app, length, {"cases": cases})
    app.run_until_idle(10)
    before = counts(app)
    record = app.delete_flow(flow["id"])
    assert record["id"] == flow["id"]
    assert counts(app) == before
    assert text(app, made(flow), tmp_path) == "4"
    assert app.lineage(made(flow)).record()["edges"]
    with pytest.raises(NotFoundError):
        app.get_flow(flow["id"])
    assert flow["id"] not in [f["id"] for f in app.list_metadata("flow")]


def test_deleting_the_flows_of_data(app, cases):
    flow = analysis(app, length, {"cases": cases}, policy="NONE")
    app.run_flow(flow["id"], wait=False)
    entries = app.delete_data_flows("cases")
    assert {e["role"] for e in entries} == {"ingestion", "analysis"}
    assert app.get_data_flows("cases") == []
    assert counts(app)["data"] == 2
    assert [r["status"] for r in app.list_runs(status="cancelled")] == ["CANCELLED"]
    assert next(app.list_metadata("prov"))["flow_id"] in {e["flow_id"] for e in entries}


def test_a_deleted_flow_is_not_triggered(app, publisher, cases):
    flow = analysis(app, length, {"cases": cases})
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED"]
    app.delete_flow(flow["id"])
    publisher.publish("cases.csv", "new")
    [writer] = app.get_data_flows("cases")
    app.run_flow(writer["flow_id"])
    app.run_until_idle(10)
    assert app.get_data(made(flow))["available_versions"] == 1


@pytest.mark.parametrize("error", [KeyError("uid"), OSError("no name")])
def test_a_user_without_a_name_owns_things_by_number(tmp_path, monkeypatch, error):
    def nameless():
        raise error

    monkeypatch.setattr("getpass.getuser", nameless)
    with make_app(tmp_path / "nameless") as app:
        assert app.owner == str(os.getuid())


def test_what_cannot_be_downloaded_here_is_no_source(app):
    before = counts(app)
    with pytest.raises(InvalidValueError, match="cannot download"):
        source(app, "s3://bucket/cases.csv")
    assert counts(app) == before
    noted = app.create_source("objects", "s3://bucket/cases.csv", no_copy=True)
    assert app.get_data(noted["id"])["no_copy"] is True
