"""What scripts written for the established client rely on, over plain HTTP."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from aero import AeroOutput
from aero.app import Aero
from tests.conftest import Publisher
from tests.plain_http import PlainHttp, plainly_served


@pytest.fixture
def server(sqlite_app: Aero) -> Iterator[PlainHttp]:
    with plainly_served(sqlite_app) as http:
        yield http


def copied(cases, mark=""):
    from pathlib import Path

    Path("made.csv").write_text(Path(cases).read_text() + mark)
    return AeroOutput("made", "made.csv")


@pytest.fixture
def cases(sqlite_app: Aero, publisher: Publisher) -> Any:
    made = sqlite_app.create_source(
        "cases", publisher.publish("bucket/cases.csv", "one"), policy="INGESTION"
    )
    sqlite_app.run_until_idle()
    return made


@pytest.fixture
def function(sqlite_app: Aero) -> str:
    return sqlite_app.register_function(copied)


def flow_body(function: str, cases: Any, **more: Any) -> dict[str, Any]:
    """What the established library sends for an analysis."""
    return {
        "input_data": {"cases": {"id": cases["id"], "version": None}},
        "output_data": {
            "made": {
                "collection_uuid": "e0f1f2d2-6f8d-4a06-a3a2-77f9a7c0c2f6",
                "collection_url": "https://g-1.data.globus.org/",
            }
        },
        "description": "copies",
        "gc_endpoint": "local",
        "function_uuid": function,
        "pull_function_uuid": str(uuid.uuid4()),
        "commit_function_uuid": str(uuid.uuid4()),
        "flow_kwargs": {},
        "rule": 2,
        **more,
    }


def test_existing_routes_answer_200_with_and_without_slash(
    server: PlainHttp, sqlite_app: Aero, cases: Any, function: str
) -> None:
    flow = server.post("/flow/register", flow_body(function, cases)).json["id"]
    sqlite_app.create_source("t", "http://h/t/*", type_name="t")
    one = cases["id"]
    for path in (
        "/data",
        f"/data/{one}",
        f"/data/{one}/versions",
        f"/data/{one}/latest",
        f"/data/{one}/flows",
        "/data/types",
        "/data/types/t",
        "/flow",
        f"/flow/{flow}",
        "/prov",
    ):
        plain, slashed = server.get(path), server.get(f"{path}/")
        assert (plain.status, slashed.status) == (200, 200), path
        assert plain.json == slashed.json
    found = server.get("/data/search?query=cases")
    assert (found.status, [d["id"] for d in found.json]) == (200, [one])
    assert server.get("/data/search/?query=nothing").json == []


@pytest.mark.parametrize("slash", ["", "/"])
def test_existing_posts_answer_200_with_and_without_slash(
    server: PlainHttp, cases: Any, function: str, publisher: Publisher, slash: str
) -> None:
    source = {"name": "one", "url": publisher.url("one")}
    for path, body in (
        ("/flow/register", flow_body(function, cases)),
        ("/data/source", source),
        ("/data/source", {"name": "t", "url": "http://h/t/*", "type": "t"}),
        ("/data/types/t/urls", {"url": "http://h/u"}),
        ("/data/notify", {"url": source["url"]}),
        (f"/data/{cases['id']}/notify", {"etag": "x"}),
    ):
        reply = server.post(path + slash, body)
        assert reply.status == 200, (path, reply.body)
    deleted = server.send("DELETE", f"/data/{cases['id']}/flows{slash}")
    assert (deleted.status, len(deleted.json)) == (200, 2)


def test_unknown_keys_and_tokens_are_ignored(server: PlainHttp, cases: Any) -> None:
    source = {"name": "n", "url": "http://h/n", "colour": "red", "owner": {"a": [1]}}
    assert server.post("/data/source", source).status == 200
    assert server.post("/data/notify", {"url": "http://h/n", "x": 1}).status == 200
    assert server.get("/data?colour=red&page=1").status == 200
    # It sends whatever its file holds, and without authenticator nobody looks at it.
    assert server.get("/data", Authorization="Bearer refresh-token").status == 200


def test_it_pages_until_the_first_answer_that_is_not_200(
    server: PlainHttp, sqlite_app: Aero
) -> None:
    for number in range(31):
        sqlite_app.create_source(f"s{number}", f"http://h/{number}")
    assert server.get("/data/").json == server.get("/data/?page=1").json
    for path in ("/data", "/flow"):
        pages = [server.get(f"{path}/?page={number}") for number in (1, 2, 3, 4)]
        assert [page.status for page in pages] == [200, 200, 200, 404]
        assert [len(page.json) for page in pages[:3]] == [15, 15, 1]
        assert pages[3].body == b""
        assert len({r["id"] for page in pages[:3] for r in page.json}) == 31
    assert server.get("/prov/?page=2").body == b""
    assert server.get("/prov/?page=2").status == 404
    assert server.get("/data?offset=30&limit=15").json == pages_of(server)[2]


def pages_of(server: PlainHttp) -> list[Any]:
    return [server.get(f"/data?page={number}").json for number in (1, 2, 3)]


def test_an_empty_list_has_a_first_page(server: PlainHttp) -> None:
    for path in ("/data", "/flow", "/prov"):
        assert server.get(f"{path}/").json == []
        assert server.get(f"{path}/?page=1").json == []
        assert server.get(f"{path}/?page=2").status == 404


def test_it_asks_for_all_versions_at_once(
    server: PlainHttp, sqlite_app: Aero, cases: Any, publisher: Publisher
) -> None:
    for number in range(20):
        publisher.publish("bucket/cases.csv", f"content {number}")
        sqlite_app.run_flow(cases["flow_id"])
    path = f"/data/{cases['id']}/versions"
    assert [v["version"] for v in server.get(path).json] == list(range(21, 0, -1))
    assert len(server.get(f"{path}?page=1").json) == 15
    assert len(server.get(f"{path}?page=2").json) == 6
    assert server.get(f"{path}?page=3").body == b""


def test_latest_is_the_version_itself(server: PlainHttp, cases: Any) -> None:
    latest = server.get(f"/data/{cases['id']}/latest").json
    assert latest["data_id"] == cases["id"]
    assert latest["version"] == 1
    assert latest["data_file"]["file_name"] == "cases.csv"
    assert {"id", "checksum", "created_at", "source_key"} < latest.keys()
    assert latest["data_file"].keys() == {
        "file_name",
        "file_type",
        "file_size",
        "encoding",
    }


def test_records_have_the_fields_they_had(
    server: PlainHttp, sqlite_app: Aero, cases: Any, function: str
) -> None:
    body = flow_body(function, cases, output_data={"made": {}})
    flow = server.post("/flow/register", body).json
    sqlite_app.run_until_idle()
    assert {
        "id",
        "name",
        "url",
        "collection_uuid",
        "collection_url",
        "description",
        "no_copy",
        "available_versions",
    } <= server.get(f"/data/{cases['id']}").json.keys()
    assert {
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
    } <= flow.keys()
    assert flow["function_args"].keys() == {"kwargs", "function", "endpoint"}
    assert flow["function_args"]["kwargs"]["aero"]["flow_id"] == flow["id"]
    assert flow["derived_from"][0]["id"] == cases["id"]
    found = server.get("/prov").json
    [record] = [each for each in found if each["flow_id"] == flow["id"]]
    assert {"id", "flow_id", "derived_from", "contributed_to"} <= record.keys()
    assert record["flow_id"] == flow["id"]
    assert record["derived_from"][0]["version"] == 1
    assert record["contributed_to"][0]["data_file"]["file_name"] == "made.csv"
    assert server.get("/prov").headers["Content-Type"] == "application/json"


def test_register_takes_what_it_sends(
    server: PlainHttp, cases: Any, function: str
) -> None:
    body = flow_body(function, cases, timer_delay=None, tags=["a"], email="me@uni.edu")
    flow = server.post("/flow/register", body)
    assert (flow.status, flow.json["policy"], flow.json["timer"]) == (200, 2, None)
    assert flow.json["email"] == ["me@uni.edu"]
    timed = flow_body(function, cases, rule=1, timer=3600, flow_kwargs={"mark": "t"})
    flow = server.post("/flow/register", timed)
    assert (flow.json["timer"], flow.json["timer_job_id"]) == (3600, flow.json["id"])
    delayed = flow_body(
        function, cases, rule=1, timer_delay=60, flow_kwargs={"mark": "d"}
    )
    assert server.post("/flow/register", delayed).json["timer"] == 60
    none = flow_body(function, cases, rule=None, flow_kwargs={"mark": "n"})
    assert server.post("/flow/register", none).json["policy"] == -1


def test_a_sweep_comes_with_its_first_kwargs(
    server: PlainHttp, cases: Any, function: str
) -> None:
    tasks = [{"mark": "a"}, {"mark": "b"}]
    body = flow_body(function, cases, flow_kwargs=tasks[0], tasks=tasks)
    flow = server.post("/flow/register", body)
    assert flow.status == 200, flow.body
    kwargs = flow.json["function_args"]["kwargs"]
    assert (kwargs["mark"], kwargs["aero"]["tasks"]) == ("a", tasks)
    again = flow_body(function, cases, flow_kwargs=tasks)
    assert server.post("/flow/register", again).json["flow_id"] == flow.json["id"]
    other = flow_body(function, cases, flow_kwargs={"mark": "c"}, tasks=tasks)
    assert server.post("/flow/register", other).status == 422


def test_what_is_taken_and_not_used_is_said(server: PlainHttp) -> None:
    schemas = server.get("/openapi.json").json["components"]["schemas"]
    fields = schemas["FlowBody"]["properties"]
    for name in ("pull_function_uuid", "commit_function_uuid"):
        assert "not used" in fields[name]["description"], name
    assert {"gc_endpoint", "rule", "timer", "timer_delay", "tasks"} < fields.keys()


def test_a_duplicate_is_409_with_the_flow_it_is(
    server: PlainHttp, cases: Any, function: str
) -> None:
    first = server.post("/flow/register", flow_body(function, cases))
    second = server.post("/flow/register", flow_body(function, cases))
    assert second.status == 409
    assert second.headers["Content-Type"] == "application/problem+json"
    assert second.json["flow_id"] == first.json["id"]
    assert second.json["detail"]


def test_a_typed_source_that_is_copied_is_registered_as_a_flow(
    server: PlainHttp, sqlite_app: Aero, publisher: Publisher, function: str
) -> None:
    entry = {
        "url": publisher.publish("counts/1.csv", "1"),
        "collection_uuid": None,
        "collection_url": "https://g-1.data.globus.org/",
        "type": "counts",
    }
    body = flow_body(function, {"id": ""}, rule=4, output_data={"counts": entry})
    body |= {"input_data": {}, "function_uuid": None}
    flow = server.post("/flow/register", body)
    assert flow.status == 200, flow.body
    [made] = flow.json["contributed_to"]
    found = server.get("/data/types/counts").json
    urls = [{"url": entry["url"], "object_key": "counts/1.csv"}]
    assert (found["data_id"], found["urls"]) == (made["id"], urls)
    assert server.post("/flow/register", body).status == 409
    assert server.get("/data/types/nothing").status == 404


def test_source_body(server: PlainHttp, publisher: Publisher) -> None:
    body = {
        "name": "counts",
        "url": publisher.url("counts/*.csv"),
        "type": "counts",
        "no_copy": True,
        "collection_uuid": None,
        "collection_url": None,
        "description": "cases per day",
    }
    made = server.post("/data/source", body)
    assert made.status == 200
    assert made.json["no_copy"] is True
    assert server.get(f"/data/{made.json['id']}").json["description"] == "cases per day"
    assert server.get("/data/types/counts").json["data_id"] == made.json["id"]


@pytest.fixture
def untouched(server: PlainHttp, publisher: Publisher) -> Any:
    """A no-copy source of two objects."""
    body = {
        "name": "objects",
        "url": publisher.url("bucket/*.csv"),
        "type_name": "objects",
        "no_copy": True,
    }
    return server.post("/data/source", body).json


@pytest.mark.parametrize("how", ["file_id", "url", "key", "object id", "object key"])
def test_notify_bodies(
    server: PlainHttp, untouched: Any, publisher: Publisher, how: str
) -> None:
    url = f"{publisher.url('bucket/a%20b.csv')}"
    body = {
        "file_id": {"file_id": untouched["id"], "key": "/bucket/a b.csv/"},
        "url": {"url": f"{url}?X-Amz-Signature=1"},
        "key": {"key": "bucket/a b.csv"},
        "object id": {"file_id": url},
        "object key": {"file_id": "bucket/a b.csv", "url": f"{url}?signed"},
    }[how]
    run = server.post("/data/notify", {**body, "etag": '"e1"', "size": 7})
    assert (run.status, run.json["status"]) == (200, "SUCCEEDED"), run.body
    version = server.get(f"/data/{untouched['id']}/latest").json
    assert version["source_key"] == "bucket/a b.csv"
    assert version["data_file"]["file_size"] == 7


def test_repeats_count_per_key_unless_forced(server: PlainHttp, untouched: Any) -> None:
    def told(key: str, **more: Any) -> int:
        body = {"key": key, "etag": "e1", **more}
        assert server.post(f"/data/{untouched['id']}/notify", body).status == 200
        return int(server.get(f"/data/{untouched['id']}").json["available_versions"])

    assert told("bucket/a.csv") == 1
    assert told("bucket/a.csv") == 1
    assert told("bucket/b.csv") == 2
    assert told("bucket/a.csv", dedup=False) == 3


def test_a_notice_without_etag_asks_the_object(
    server: PlainHttp, untouched: Any, publisher: Publisher
) -> None:
    publisher.publish("bucket/a.csv", "x", etag="asked")
    assert server.post("/data/notify", {"key": "bucket/a.csv"}).status == 200
    latest = server.get(f"/data/{untouched['id']}/latest").json
    assert latest["checksum"].strip('"') == "asked"
    publisher.publish("bucket/b.csv", "x", etag=None)
    refused = server.post("/data/notify", {"key": "bucket/b.csv"})
    assert refused.status == 400
    assert "etag" in refused.json["detail"]


def test_a_notice_about_the_one_object_needs_no_body(
    server: PlainHttp, publisher: Publisher
) -> None:
    made = server.post("/data/source", {"name": "one", "url": publisher.url("one")})
    path = f"/data/{made.json['id']}/notify"
    assert server.send("POST", path).json["status"] == "PENDING"
    assert server.post(path, {}).status == 200


def test_errors_name_what_is_missing_and_what_is_malformed(
    server: PlainHttp, untouched: Any
) -> None:
    missing = str(uuid.uuid4())
    for path in (f"/data/{missing}", f"/flow/{missing}", "/data/types/none"):
        reply = server.get(path)
        assert reply.status == 404
        assert path.rpartition("/")[2] in reply.json["detail"]
    assert server.post("/data/notify", {"key": "no/such"}).status == 404
    for body in ({}, {"url": "http://h/a", "key": "b"}, {"key": 1}, {"size": -1}, []):
        reply = server.post("/data/notify", body)
        assert reply.status == 422, body
        assert json.loads(reply.body)["detail"].endswith(".")


def test_delete_keeps_data_versions_and_provenance(
    server: PlainHttp, cases: Any
) -> None:
    path = f"/data/{cases['id']}"
    [entry] = server.get(f"{path}/flows").json
    assert {"flow_id", "role", "policy", "description"} <= entry.keys()
    assert entry["role"] == "ingestion"
    deleted = server.send("DELETE", f"{path}/flows")
    assert (deleted.status, deleted.json[0]["flow_id"]) == (200, entry["flow_id"])
    assert server.get(f"{path}/flows").json == []
    assert server.get(path).json["available_versions"] == 1
    assert len(server.get("/prov").json) == 1


def test_types_are_told_apart_by_what_it_prints(server: PlainHttp) -> None:
    """Its `types` reads no_copy, and of every URL whether its key is a pattern."""
    body = {"name": "t", "url": "http://h/t/**/*.gz", "type": "t", "no_copy": True}
    made = server.post("/data/source", body).json
    added = server.post("/data/types/t/urls", {"url": "http://h/u/a%20b.gz?v=1"}).json
    for found in (added, server.get("/data/types/t").json):
        assert (found["name"], found["data_id"]) == ("t", made["id"])
    [listed] = server.get("/data/types").json
    assert listed == added
    assert listed["no_copy"] is True
    assert listed["urls"] == [
        {"url": "http://h/t/**/*.gz", "object_key": "t/**/*.gz"},
        {"url": "http://h/u/a%20b.gz?v=1", "object_key": "u/a b.gz"},
    ]


def test_flows_of_a_data_are_shown_and_deleted_as_it_prints_them(
    server: PlainHttp, cases: Any, function: str
) -> None:
    """Before it asks it shows timer_job_id, afterwards timer and provenance_deleted."""
    event = flow_body(function, cases, rule=2)
    assert server.post("/flow/register", event).status == 200
    path = f"/data/{cases['id']}/flows"
    shown = {entry["role"]: entry for entry in server.get(path).json}
    assert shown.keys() == {"ingestion", "analysis"}
    assert shown["ingestion"]["timer_job_id"] == shown["ingestion"]["flow_id"]
    assert shown["analysis"]["timer_job_id"] is None
    assert (shown["analysis"]["policy"], shown["analysis"]["description"]) == (
        2,
        "copies",
    )
    deleted = server.send("DELETE", path).json
    assert {entry["role"] for entry in deleted} == shown.keys()
    for entry in deleted:
        # Here the records of what ran stay.
        assert entry["provenance_deleted"] == 0
        assert entry["timer"] == shown[entry["role"]]["timer"]


def test_a_timer_driven_source_is_a_flow_with_a_timer(
    server: PlainHttp, publisher: Publisher, function: str
) -> None:
    """What its `create -p INGESTION -t 300` sends, with and without a type."""
    for number, named in enumerate(({}, {"type": "made"})):
        url = publisher.publish(f"made{number}", "x")
        entry = {"url": url, "collection_uuid": "u", "collection_url": "https://c/"}
        body = flow_body(function, {"id": ""}, rule=0, timer=300)
        body |= {"input_data": {}, "output_data": {"made": entry | named}}
        flow = server.post("/flow/register", body | {"function_uuid": None})
        assert flow.status == 200, flow.body
        assert (flow.json["policy"], flow.json["timer"]) == (0, 300)
        assert flow.json["timer_job_id"] == flow.json["id"]


def test_its_download_step_finds_the_output_by_the_name_of_the_data(
    server: PlainHttp, publisher: Publisher
) -> None:
    """It asks for the flow, takes its first Data, and fills in output_data[name]."""
    url = publisher.publish("one", "x")
    entry = {"url": url, "collection_uuid": "u", "collection_url": "https://c/"}
    body = flow_body("", {"id": ""}, rule=4, output_data={"one": entry}, input_data={})
    flow = server.post("/flow/register", body | {"function_uuid": None}).json
    first = server.get(f"/flow/{flow['id']}").json["contributed_to"][0]
    assert (first["url"], first["name"]) == (url, "one")
    payload = flow["function_args"]["kwargs"]["aero"]
    assert payload["output_data"][first["name"]]["id"] == first["id"]
    assert payload["output_data"]["one"]["collection_url"] == "https://c"


def test_an_analysis_may_store_its_own_results(
    server: PlainHttp, cases: Any, sqlite_app: Aero
) -> None:
    """Its `register` without output_data prints no output id."""
    function = sqlite_app.register_function(shown)
    body = flow_body(function, cases, output_data={})
    flow = server.post("/flow/register", body)
    assert (flow.status, flow.json["contributed_to"]) == (200, [])
    sqlite_app.run_until_idle(20)
    [record] = [r for r in server.get("/prov").json if r["flow_id"] == flow.json["id"]]
    assert record["contributed_to"] == []


def shown(cases):
    print(cases)


def test_one_task_is_no_sweep_to_it(
    server: PlainHttp, cases: Any, function: str
) -> None:
    """Of a config with one entry it sends the kwargs, and no tasks."""
    body = flow_body(function, cases, flow_kwargs={"mark": "a"})
    flow = server.post("/flow/register", body).json
    kwargs = flow["function_args"]["kwargs"]
    assert kwargs["mark"] == "a"
    assert "tasks" not in kwargs["aero"]


def test_its_analysis_steps_read_where_the_newest_version_is(
    server: PlainHttp, cases: Any, function: str
) -> None:
    """Of the flow's payload it completes each unpinned input, by id, with `latest`."""
    flow = server.post("/flow/register", flow_body(function, cases)).json
    entry = flow["function_args"]["kwargs"]["aero"]["input_data"]["cases"]
    assert entry["version"] is None
    assert {"id", "collection_uuid", "collection_url"} < entry.keys()
    latest = server.get(f"/data/{entry['id']}/latest").json
    assert (latest["version"], latest["data_file"]["file_name"]) == (1, "cases.csv")
    assert "encoding" in latest["data_file"]
