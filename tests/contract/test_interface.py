"""`Aero` and `AeroClient`: the same methods, the same answers, the same errors."""

import inspect
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from aero import AeroOutput, aero_format
from aero.app import Aero
from aero.client import AeroClient
from aero.error import (
    AmbiguousError,
    ClientError,
    ConflictError,
    DuplicateError,
    ForbiddenError,
    InvalidTypeError,
    InvalidValueError,
    NotFoundError,
)
from aero.hashing import sha256_text
from aero.server.serving import serving
from aero.testing import make_app
from tests.conftest import Publisher

NOT_OVER_HTTP = {
    "acting_as",
    "add_member",
    "busy",
    "create_token",
    "distrust_version",
    "doctor",
    "list_members",
    "list_tokens",
    "open_version",
    "remove_member",
    "revoke_token",
    "start",
    "stop",
}


@pytest.fixture(params=["embedded", "http"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with make_app(tmp_path / "home") as app:
        if request.param == "embedded":
            yield app
            return
        with serving(app) as url, AeroClient(url) as client:
            yield client


def shout(cases, mark="!"):
    from pathlib import Path

    print("shouting")
    Path("loud.txt").write_text(Path(cases).read_text().upper() + mark)
    return AeroOutput("loud", "loud.txt")


def broken(cases):
    raise ValueError("no good")


@pytest.fixture
def cases(workspace: Any, publisher: Publisher) -> Any:
    made = workspace.create_source(
        "cases", publisher.publish("cases.csv", "one"), policy="INGESTION"
    )
    workspace.run_until_idle(20)
    return made


@pytest.fixture
def loud(workspace: Any, cases: Any) -> Any:
    flow = workspace.register_flow(
        "local",
        workspace.register_function(shout),
        {"cases": {"id": cases["id"]}},
        {"loud": {}},
        {"mark": "?"},
        policy="ANY",
        description="louder",
        tags=["noise"],
    )
    workspace.run_until_idle(20)
    return workspace.get_flow(flow["id"], inputs_only=False)


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_they_have_the_same_methods() -> None:
    assert public(Aero).keys() - NOT_OVER_HTTP == public(AeroClient).keys()


def test_methods_take_the_same_arguments() -> None:
    there = public(AeroClient)
    for name, here in public(Aero).items():
        if name not in NOT_OVER_HTTP:
            assert list(here.parameters.values()) == list(
                there[name].parameters.values()
            ), name


def test_what_is_registered_is_found(workspace: Any, cases: Any, loud: Any) -> None:
    assert loud["function_name"] == "shout"
    assert loud["function_args"]["kwargs"]["mark"] == "?"
    assert workspace.get_flow(loud["id"])["mark"] == "?"
    assert workspace.flow_id("louder") == loud["id"]
    assert "def shout" in workspace.get_function(loud["function_id"])["source"]
    assert [data["name"] for data in loud["contributed_to"]] == ["loud"]
    assert workspace.get_data("loud")["available_versions"] == 1
    assert [d["name"] for d in workspace.search_sources("noise")] == ["loud"]
    roles = {f["flow_id"]: f["role"] for f in workspace.get_data_flows("cases")}
    assert roles == {cases["flow_id"]: "ingestion", loud["id"]: "analysis"}


def test_the_same_source_has_the_same_id(workspace: Any) -> None:
    first = workspace.register_function(shout, description="loud")
    assert workspace.register_function(shout) == first
    assert workspace.get_function(first)["description"] == "loud"


def test_versions_and_their_bytes(
    workspace: Any, loud: Any, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.publish("cases.csv", "two")
    assert workspace.run_flow("cases")["status"] == "SUCCEEDED"
    workspace.run_until_idle(20)
    listed = list(workspace.list_versions("loud"))
    assert [version["version"] for version in listed] == [2, 1]
    newest = workspace.get_version("loud")
    assert newest == workspace.get_version("loud", 2)
    assert newest["checksum"] == sha256_text("TWO?")
    target = tmp_path / "loud.txt"
    assert workspace.fetch_version("loud", target, 1)["version"] == 1
    assert target.read_text() == "ONE?"
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []


def test_lists_are_paged_newest_first(
    workspace: Any, cases: Any, publisher: Publisher
) -> None:
    for number in range(40):
        publisher.publish("cases.csv", f"content {number}")
        workspace.run_flow("cases")
    numbers = [v["version"] for v in workspace.list_versions("cases")]
    assert numbers == list(range(41, 0, -1))
    runs = list(workspace.list_runs("cases", "succeeded"))
    assert len({run["id"] for run in runs}) == 41
    assert runs == sorted(runs, key=lambda run: run["created_at"], reverse=True)
    records = workspace.list_metadata("prov")
    assert len(list(islice(records, 20))) == 20
    assert len(list(records)) == 21
    assert len(list(workspace.list_metadata("data"))) == 1
    assert len(list(workspace.list_metadata("flow"))) == 1


def test_where_a_result_came_from(workspace: Any, cases: Any, loud: Any) -> None:
    up = workspace.lineage("loud")
    assert [node["name"] for node in up.nodes.values()] == ["loud", "cases"]
    assert up.neighbours(up.root) == [workspace.get_version("cases")["id"]]
    down = workspace.lineage("cases@1", "down", 1)
    assert len(down.nodes) == 2
    assert json.loads(json.dumps(down.record())) == down.record()
    run = next(workspace.list_runs(loud["id"]))
    record = workspace.get_provenance(run["id"])
    assert record == workspace.get_provenance(record["id"])
    assert record["function"]["name"] == "shout"
    assert record["derived_from"][0]["checksum"] == sha256_text("one")
    assert record["contributed_to"][0]["is_new"] is True


def test_a_run_in_full(workspace: Any, loud: Any) -> None:
    run = workspace.run_flow(loud["id"])
    assert (run["status"], run["trigger_kind"]) == ("UNCHANGED", "manual")
    assert run["runs"] == [workspace.get_run(run["id"])]
    assert run["log_tail"] == "shouting\n"
    assert [step["name"] for step in run["steps"]] == ["get_versions", "function"]
    assert [(i["name"], i["version"]) for i in run["inputs"]] == [("cases", 1)]


def test_a_sweep(workspace: Any, cases: Any, tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps([{"mark": "a"}, {"mark": "b"}]))
    flow = workspace.register_flow(
        "local",
        workspace.register_function(shout),
        {"cases": {"id": "cases"}},
        {"loud": {}},
        config=path,
    )
    found = workspace.run_flow(flow["id"])
    assert [run["task"] for run in found["runs"]] == [0, 1]
    assert workspace.get_data("loud")["available_versions"] == 2


def test_a_failed_run_is_retried_and_explained(workspace: Any, cases: Any) -> None:
    flow = workspace.register_flow(
        "local",
        workspace.register_function(broken),
        {"cases": {"id": "cases"}},
        {"loud": {}},
    )
    run = workspace.run_flow(flow["id"])
    assert (run["status"], run["error_type"]) == ("FAILED", "ValueError")
    assert "no good" in run["traceback"]
    assert "no good" in workspace.explain(flow["id"])["reason"]
    again = workspace.retry_run(run["id"])
    assert (again["id"], again["attempt"]) == (run["id"], 2)
    workspace.run_until_idle(20)
    assert workspace.get_run(run["id"])["status"] == "FAILED"
    with pytest.raises(NotFoundError, match="left no provenance"):
        workspace.get_provenance(run["id"])


def test_pause_resume_delete(workspace: Any, loud: Any) -> None:
    paused = workspace.pause_flow(loud["id"], "holidays")
    assert (paused["enabled"], paused["paused_reason"]) == (False, "holidays")
    waiting = workspace.run_flow(loud["id"])
    assert waiting["status"] == "PENDING"
    assert workspace.cancel_run(waiting["id"])["status"] == "CANCELLED"
    assert workspace.resume_flow(loud["id"])["enabled"] is True
    assert workspace.delete_flow(loud["id"])["id"] == loud["id"]
    with pytest.raises(NotFoundError):
        workspace.get_flow(loud["id"])
    [entry] = workspace.delete_data_flows("cases")
    assert entry["role"] == "ingestion"
    assert workspace.get_data("loud")["available_versions"] == 1


def test_types_and_notifications(workspace: Any, publisher: Publisher) -> None:
    url = publisher.publish("a/1.csv", "one")
    made = workspace.create_source(
        "grouped", publisher.url("a/*.csv"), type_name="counts"
    )
    assert workspace.get_source_type("counts")["data_id"] == made["id"]
    [kind] = workspace.list_source_types()
    added = workspace.add_type_url("counts", publisher.url("b/2.csv"))
    assert len(added["urls"]) == len(kind["urls"]) + 1
    run = workspace.notify({"url": url}, delivery_id="d1")
    assert workspace.notify(url=url, delivery_id="d1")["id"] == run["id"]
    in_bucket = workspace.notify({"bucket": "a", "key": "1.csv"})
    assert (in_bucket["flow_id"], in_bucket["source_key"]) == (
        run["flow_id"],
        "a/1.csv",
    )
    workspace.run_until_idle(20)
    assert workspace.get_version("grouped")["source_key"] == "a/1.csv"


def test_a_result_of_steps_that_were_chained_elsewhere(
    workspace: Any, loud: Any
) -> None:
    kwargs = workspace.get_flow(loud["id"])
    kwargs["aero"] = workspace.pin_inputs(kwargs["aero"])
    assert kwargs["aero"]["input_data"]["cases"]["version"] == 1
    done = aero_format(shout)(**kwargs | {"mark": "again"})
    record = workspace.commit_result(done)
    assert record == workspace.commit_result(done["aero"])
    assert record == workspace.get_provenance(record["id"])
    assert record["contributed_to"][0]["version"] == 2
    with pytest.raises(ForbiddenError) as caught:
        workspace.commit_result({**done["aero"], "output_data": {"other": {}}})
    assert caught.value.outputs == ["other"]
    # Nothing that was not sent is made up, such as a run.
    pinned = workspace.pin_inputs({"flow_id": loud["id"]})
    assert pinned.keys() == {"flow_id", "input_data", "output_data"}
    with pytest.raises(NotFoundError):
        workspace.pin_inputs({"flow_id": "nothing"})
    with pytest.raises(InvalidValueError, match="schema 9"):
        workspace.commit_result({"schema": 9})
    with pytest.raises(InvalidTypeError, match="is no JSON"):
        workspace.commit_result({**done["aero"], "log_tail": {1}})
    ended = {"run_id": record["run_id"], "attempt": 1}
    with pytest.raises(ConflictError, match="is SUCCEEDED"):
        workspace.commit_result({**done["aero"], **ended})


def test_keys_make_creation_count_once(
    workspace: Any, cases: Any, publisher: Publisher
) -> None:
    function = workspace.register_function(shout)

    def register(key: str) -> Any:
        return workspace.register_flow(
            "local",
            function,
            {"cases": {"id": "cases"}},
            {"loud": {}},
            idempotency_key=key,
        )

    first = register("k")
    assert register("k")["id"] == first["id"]
    with pytest.raises(DuplicateError) as caught:
        register("another")
    assert caught.value.flow_id == first["id"]
    url = publisher.publish("more.csv", "x")
    made = [
        workspace.create_source("more", url, idempotency_key="s")["id"] for _ in "ab"
    ]
    assert made[0] == made[1]
    runs = {
        workspace.run_flow(first["id"], idempotency_key="r")["id"] for _ in range(2)
    }
    assert len(runs) == 1


def test_errors_are_the_same(workspace: Any, cases: Any, loud: Any) -> None:
    with pytest.raises(NotFoundError, match="There is no Data 'nothing'"):
        workspace.get_data("nothing")
    with pytest.raises(NotFoundError, match="no version 9; its newest is 1"):
        workspace.get_version("cases", 9)
    with pytest.raises(InvalidValueError, match="cron"):
        workspace.register_flow(
            "local", loud["function_id"], policy="TIMER", cron="nonsense"
        )
    with pytest.raises(InvalidTypeError, match="kwargs"):
        workspace.register_flow("local", loud["function_id"], kwargs=[1])
    with pytest.raises(InvalidValueError, match="'data', 'flow' or 'prov'"):
        list(workspace.list_metadata("runs"))
    with pytest.raises(InvalidValueError, match="no run status"):
        list(workspace.list_runs(status="BAD"))
    with pytest.raises(InvalidValueError, match="'up' or 'down'"):
        workspace.lineage("loud", "sideways")
    with pytest.raises(ConflictError, match="only a failed"):
        workspace.retry_run(next(workspace.list_runs())["id"])
    with pytest.raises(InvalidValueError, match="does not say what changed"):
        workspace.notify({})


def test_patience_ends(workspace: Any, cases: Any) -> None:
    flow = workspace.register_flow(
        "local",
        workspace.register_function(broken),
        {"cases": {"id": "cases"}},
        {"loud": {}},
        retries=9,
    )
    with pytest.raises(TimeoutError):
        workspace.run_flow(flow["id"], timeout=0.2)
    with pytest.raises(TimeoutError):
        workspace.run_until_idle(0.2)
    assert workspace.idle() is False


def test_limits_and_priorities(workspace: Any, loud: Any) -> None:
    changed = workspace.set_flow(loud["id"], priority=5, max_running=2)
    assert (changed["priority"], changed["max_running"]) == (5, 2)
    assert workspace.set_flow(loud["id"], max_running=None)["priority"] == 5
    workspace.set_limit("local", 3)
    [limit] = workspace.limits()
    assert (limit["endpoint"], limit["max_running"]) == ("local", 3)
    assert workspace.set_limit("local", None)["max_running"] is None
    assert workspace.limits() == []
    with pytest.raises(InvalidValueError):
        workspace.set_limit("local", 0)
    with pytest.raises(ClientError):
        workspace.set_flow(loud["id"], colour="red")


def test_whom_a_flow_tells(workspace: Any, loud: Any, publisher: Publisher) -> None:
    assert (loud["email"], loud["notify"]) == ([], [])
    hook = publisher.url("hook/s3cr3t")
    changed = workspace.set_flow(loud["id"], notify=hook)
    assert changed["notify"] == [hook.replace("hook/s3cr3t", "***")]
    assert workspace.get_flow(loud["id"], inputs_only=False) == changed
    told = workspace.explain(loud["id"])
    assert (told["failing_since"], told["undelivered"]) == (None, [])
    assert workspace.status()["notices_waiting"] == 0
    with pytest.raises(InvalidValueError, match="no address for mail"):
        workspace.set_flow(loud["id"], email="nobody")
    with pytest.raises(InvalidTypeError, match="notify is no list"):
        workspace.set_flow(loud["id"], notify=5)
    assert workspace.set_flow(loud["id"], notify=[])["notify"] == []


def test_an_ambiguous_name_lists_the_candidates(
    workspace: Any, cases: Any, publisher: Publisher
) -> None:
    workspace.create_source("cases", publisher.publish("other.csv", "x"))
    with pytest.raises(AmbiguousError) as caught:
        workspace.get_data("cases")
    assert len(caught.value.candidates) == 2


def test_sharing_and_who_did_it(workspace: Any, cases: Any, loud: Any) -> None:
    seen = {"private": {}, "group": {"group": "lab"}, "public": {"public": True}}
    things = {
        "data": (cases["id"], workspace.get_data),
        "flow": (loud["id"], lambda ref: workspace.get_flow(ref, inputs_only=False)),
        "function": (loud["function_id"], workspace.get_function),
    }
    for kind, (ref, get) in things.items():
        record = get(ref)
        assert (record["visibility"], record["group"]) == ("private", None)
        owner = record["owner"]
        for visibility, asked in seen.items():
            shared = workspace.share(kind, ref, **asked)
            assert shared == get(ref)
            assert shared["visibility"] == visibility
            assert (shared["group"], shared["owner"]) == (asked.get("group"), owner)
    log = list(workspace.audit())
    assert len([e for e in log if e["about"].get("visibility")]) == 9
    assert {e["who"] for e in log} == {owner}
    assert log[0]["about"]["ids"] == [loud["function_id"]]
    assert log == sorted(log, key=lambda e: e["at"], reverse=True)
    for wrong in ({"public": True, "group": "lab"}, {"group": ""}, {"public": 1}):
        with pytest.raises((InvalidValueError, InvalidTypeError)):
            workspace.share("data", cases["id"], **wrong)
    with pytest.raises(InvalidValueError, match="cannot be shared"):
        workspace.share("run", cases["id"])
    with pytest.raises(NotFoundError, match="There is no Data 'nothing'"):
        workspace.share("data", "nothing")


def test_what_is_made_is_shared_as_asked(workspace: Any, publisher: Publisher) -> None:
    made = workspace.create_source(
        "seen", publisher.publish("seen.csv", "x"), public=True
    )
    function = workspace.register_function(shout, group="lab")
    assert workspace.get_function(function)["group"] == "lab"
    assert workspace.register_function(shout) == function
    assert workspace.get_function(function)["visibility"] == "group"
    flow = workspace.register_flow(
        "local", function, {"cases": {"id": "seen"}}, {"loud": {}}, group="lab"
    )
    [data] = flow["contributed_to"]
    assert (flow["group"], data["group"]) == ("lab", "lab")
    assert workspace.get_flow(made["flow_id"], inputs_only=False)["group"] is None
    assert (made["visibility"], made["group"]) == ("public", None)


def test_housekeeping(workspace: Any, loud: Any) -> None:
    assert workspace.gc(dry_run=True)["dry_run"] is True
    assert workspace.gc()["removed"] == 0
    assert workspace.status()["runs"]["SUCCEEDED"] == 2
    assert workspace.idle() is True
    assert workspace.waiting_note() is None
    assert workspace.downloads() == []
