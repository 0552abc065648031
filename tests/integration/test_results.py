"""Results that workers send: committed as any other, once, or refused whole."""

import copy
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aero import Aero, AeroOutput, aero_format, jobs
from aero.error import (
    ClientError,
    ConflictError,
    ForbiddenError,
    InvalidValueError,
    NotFoundError,
)
from aero.hashing import canonical, sha256_text
from aero.storage import open_storage
from aero.testing import FrozenClock
from tests.chains import holding, payload_of, running, stored, worked
from tests.conftest import Publisher
from tests.invariants import check_invariants
from tests.scenarios import (
    analysis,
    constant,
    counts,
    failing,
    length,
    rows,
    source,
    statuses,
    text,
    tick,
)

ON_SQLITE = pytest.mark.parametrize(
    "database_url", [pytest.param("sqlite_url", id="sqlite")], indirect=True
)


@pytest.fixture
def cases(app: Aero, publisher: Publisher) -> Iterator[dict[str, Any]]:
    """A source with one version; at the end the laws must hold."""
    flow = source(app, publisher.publish("cases.csv", "one"))
    app.run_flow(flow["id"])
    yield flow
    assert check_invariants(app.db, store=app.settings.store) == []


@pytest.fixture
def counting(app: Aero, cases: dict[str, Any]) -> dict[str, Any]:
    """An analysis that runs when it is told to."""
    return analysis(app, length, {"cases": data(cases)}, policy="NONE")


def data(flow: dict[str, Any]) -> str:
    return str(flow["contributed_to"][0]["id"])


def commit_again(app: Aero, flow: dict[str, Any], publisher: Publisher) -> None:
    publisher.publish("cases.csv", "second")
    assert app.run_flow(flow["id"])["status"] == "SUCCEEDED"


# -- a run of its own -----------------------------------------------------------------


def test_a_result_without_a_run_opens_and_commits_one(
    app: Aero, cases: Any, counting: Any, tmp_path: Path
) -> None:
    watching = analysis(app, constant, {"cases": data(counting)}, policy="ANY")
    told: list[Any] = []
    app.engine.listeners.append(lambda event, facts: told.append((event, facts)))
    sent = worked(app, counting, length)
    sent["environment"] = {"python": "3.12.1"}
    record = app.commit_result(sent)
    key = f"manual:{sha256_text(canonical(sent))}"
    assert (record["trigger_key"], record["agent"]) == (key, app.agent)
    assert record["environment"] == {"python": "3.12.1"}
    assert [v["version"] for v in record["derived_from"]] == [1]
    assert record["contributed_to"][0]["is_new"] is True
    assert text(app, data(counting), tmp_path) == "3"
    assert record == app.get_provenance(record["run_id"])
    run = app.get_run(record["run_id"])
    assert (run["status"], run["trigger_kind"]) == ("SUCCEEDED", "manual")
    assert [step["name"] for step in run["steps"]] == ["commit"]
    assert statuses(app, watching) == ["PENDING"]
    [(event, facts)] = told
    assert (event, facts["status"], facts["run_id"]) == (
        "ended",
        "SUCCEEDED",
        run["id"],
    )
    assert facts["new_versions"] == [[data(counting), 1]]
    assert app.get_flow(counting["id"], inputs_only=False)["last_executed"]


def test_the_same_body_is_one_run(app: Aero, counting: Any) -> None:
    sent = worked(app, counting, length)
    first = app.commit_result(sent)
    before = counts(app)
    assert app.commit_result(json.loads(json.dumps(sent))) == first
    assert app.commit_result({"aero": sent, "factor": 2}) == first
    assert counts(app) == before
    other = app.commit_result({**sent, "log_tail": "another one"})
    assert other["run_id"] != first["run_id"]
    assert other["contributed_to"][0]["is_new"] is False
    assert app.get_run(other["run_id"])["status"] == "UNCHANGED"


def test_it_disturbs_neither_what_waits_nor_what_runs(
    app: Aero, cases: Any, counting: Any, clock: FrozenClock
) -> None:
    app.run_flow(counting["id"], wait=False)
    with holding(app):
        held = running(app, counting)
        app.run_flow(counting["id"], wait=False)
        app.commit_result(worked(app, counting, length))
        assert statuses(app, counting).count("SUCCEEDED") == 1
        assert running(app, counting) == held
        assert statuses(app, counting).count("PENDING") == 1


def test_inputs_are_those_it_names_or_the_newest(
    app: Aero, cases: Any, counting: Any, publisher: Publisher
) -> None:
    early = worked(app, counting, length)
    commit_again(app, cases, publisher)
    assert [v["version"] for v in app.commit_result(early)["derived_from"]] == [1]
    late = worked(app, counting, length)
    del late["input_data"]["cases"]["version"]
    assert [v["version"] for v in app.commit_result(late)["derived_from"]] == [2]
    del late["input_data"]
    assert [v["version"] for v in app.commit_result(late)["derived_from"]] == [2]


@ON_SQLITE
def test_a_pinned_input_stays_pinned(
    app: Aero, cases: Any, publisher: Publisher
) -> None:
    pinned = analysis(
        app, length, {"cases": {"id": data(cases), "version": 1}}, policy="NONE"
    )
    commit_again(app, cases, publisher)
    sent = worked(app, pinned, length)
    assert sent["input_data"]["cases"]["version"] == 1
    sent["input_data"]["cases"]["version"] = 2
    with pytest.raises(InvalidValueError, match="version 1"):
        app.commit_result(sent)
    sent["input_data"]["cases"]["version"] = None
    assert [v["version"] for v in app.commit_result(sent)["derived_from"]] == [1]


@ON_SQLITE
def test_an_input_without_a_version_is_waited_for(
    app: Aero, cases: Any, publisher: Publisher
) -> None:
    later = source(app, publisher.publish("later.csv", "x"), name="later")
    flow = analysis(app, length, {"cases": data(later)}, policy="NONE")
    for asked in (app.pin_inputs, app.commit_result):
        with pytest.raises(ConflictError, match="No version yet of cases"):
            asked({**payload_of(flow), "output_data": {"n": _no_file(app)}})


def _no_file(app: Aero) -> dict[str, Any]:
    return stored(app, app.settings.home, b"x")


@ON_SQLITE
def test_a_task_of_a_sweep(app: Aero, cases: Any, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.json"
    sweep.write_text(json.dumps([{"factor": 1}, {"factor": 10}]))
    flow = analysis(app, length, {"cases": data(cases)}, policy="NONE", config=sweep)
    sent = worked(app, flow, length) | {"task": 1}
    record = app.commit_result(sent)
    assert (record["task"], record["kwargs"]) == (1, {"factor": 10})
    with pytest.raises(InvalidValueError, match="no task 2"):
        app.commit_result({**sent, "task": 2})


@ON_SQLITE
def test_a_flow_that_makes_nothing(app: Aero) -> None:
    flow = app.register_flow("local", app.register_function(tick))
    assert app.commit_result(payload_of(flow))["contributed_to"] == []
    assert check_invariants(app.db) == []


@ON_SQLITE
def test_a_paused_flow_takes_none_and_a_deleted_one_is_not_there(
    app: Aero, counting: Any
) -> None:
    sent = worked(app, counting, length)
    app.pause_flow(counting["id"])
    with pytest.raises(ConflictError, match="paused"):
        app.commit_result(sent)
    app.resume_flow(counting["id"])
    app.delete_flow(counting["id"])
    with pytest.raises(NotFoundError):
        app.commit_result(sent)


# -- a source -------------------------------------------------------------------------


def test_a_download_is_committed_with_its_facts(
    app: Aero, publisher: Publisher, tmp_path: Path
) -> None:
    url = publisher.publish("cases.csv", "one", etag="e1")
    flow = source(app, url)
    _, done = jobs.download(metrics=True, aero=app.pin_inputs(payload_of(flow)))
    record = app.commit_result(done)
    [kept] = record["sources"]
    assert (kept["url"], kept["etag"], kept["size"]) == (url, '"e1"', 3)
    assert text(app, data(flow), tmp_path) == "one"
    names = {step["name"]: step["status"] for step in record["steps"]}
    assert names == {"download": "SUCCEEDED", "commit": "SUCCEEDED"}
    assert record["steps"][0]["seconds"] > 0
    # The next poll asks with what this one left behind.
    assert app.run_flow(flow["id"])["status"] == "UNCHANGED"
    assert check_invariants(app.db, store=app.settings.store) == []


@ON_SQLITE
def test_what_a_function_made_of_a_download_keeps_both(
    app: Aero, publisher: Publisher, tmp_path: Path
) -> None:
    url = publisher.publish("cases.csv", "one")
    flow = app.register_flow(
        "local", app.register_function(constant), {}, {"n": {"url": url}}
    )

    def shortened(n):
        Path("short.txt").write_text(Path(n).read_text()[:1])
        return AeroOutput("n", "short.txt")

    _, kwargs = jobs.download(aero=app.pin_inputs(payload_of(flow)))
    record = app.commit_result(aero_format(shortened)(**kwargs))
    [kept] = record["sources"]
    assert kept["sha256"] == sha256_text("one")
    assert text(app, data(flow), tmp_path) == "o"
    assert check_invariants(app.db, store=app.settings.store) == []


def test_an_unchanged_source_leaves_only_the_run(
    app: Aero, cases: Any, publisher: Publisher
) -> None:
    sent = app.pin_inputs(payload_of(cases))
    sent["output_data"]["cases"]["not_modified"] = True
    answer = app.commit_result(sent)
    assert answer == app.get_run(answer["id"])
    assert answer["status"] == "UNCHANGED"
    assert app.commit_result(sent) == answer
    with pytest.raises(NotFoundError, match="left no provenance"):
        app.get_provenance(answer["id"])
    new = source(app, publisher.publish("other.csv", "x"), name="other")
    sent = app.pin_inputs(payload_of(new))
    sent["output_data"]["other"]["not_modified"] = True
    with pytest.raises(InvalidValueError, match="no version that it could be"):
        app.commit_result(sent)


@ON_SQLITE
def test_one_of_two_sources_may_be_unchanged(
    app: Aero, publisher: Publisher, tmp_path: Path
) -> None:
    urls = {name: publisher.publish(name, name) for name in ("a", "b")}
    outputs = {name: {"url": url} for name, url in urls.items()}
    flow = app.register_flow("local", None, {}, outputs)
    app.run_flow(flow["id"])
    sent = app.pin_inputs(payload_of(flow))
    sent["output_data"]["a"]["not_modified"] = True
    sent["output_data"]["b"] |= stored(app, tmp_path, b"new")
    made = {v["name"]: v for v in app.commit_result(sent)["contributed_to"]}
    assert [(n, v["version"], v["is_new"]) for n, v in sorted(made.items())] == [
        ("a", 1, False),
        ("b", 2, True),
    ]
    assert check_invariants(app.db, store=app.settings.store) == []


@ON_SQLITE
def test_what_only_notifications_know_is_not_taken(
    app: Aero, publisher: Publisher, tmp_path: Path
) -> None:
    made = app.create_source("grouped", publisher.url("a/*.csv"), type_name="counts")
    untouched = app.create_source("bare", publisher.url("b.csv"), no_copy=True)
    for each in (made, untouched):
        flow = app.get_flow(each["flow_id"], inputs_only=False)
        sent = payload_of(flow)
        name = each["name"]
        sent["output_data"] = {name: stored(app, tmp_path, b"x")}
        with pytest.raises(ConflictError, match="notify"):
            app.commit_result(sent)


# -- a run that it names --------------------------------------------------------------


def test_the_result_of_a_run_fences_off_who_holds_it(
    app: Aero, cases: Any, counting: Any, tmp_path: Path
) -> None:
    app.run_flow(counting["id"], wait=False)
    with holding(app) as holder:
        run = running(app, counting)
        held = holder.engine._ready()._held[run["id"]]
        record = app.commit_result(worked(app, counting, length, run))
        assert record["run_id"] == run["id"]
        assert app.get_run(run["id"])["status"] == "SUCCEEDED"
        # What the holder brings back comes too late.
        assert held.future is not None
        held.future.set_result({"aero": held.task["aero"], "steps": []})
        holder.engine._ready()._end(held, held.future)
        assert app.get_provenance(run["id"]) == record
    assert text(app, data(counting), tmp_path) == "3"
    assert len(list(app.list_metadata("prov"))) == 2


@ON_SQLITE
def test_who_holds_it_lets_go(app: Aero, cases: Any, counting: Any) -> None:
    app.run_flow(counting["id"], wait=False)
    with holding(app) as holder:
        dispatcher, run = holder.engine._ready(), running(app, counting)
        future = dispatcher._held[run["id"]].future
        app.commit_result(worked(app, counting, length, run))
        dispatcher._beat()
        assert not dispatcher.busy
        assert future is not None
        assert future.cancelled()


def test_the_same_result_of_a_run_is_known_again_and_another_is_not(
    app: Aero, counting: Any
) -> None:
    app.run_flow(counting["id"], wait=False)
    with holding(app):
        sent = worked(app, counting, length, running(app, counting))
        record = app.commit_result(sent)
        before = rows(app)
        assert app.commit_result(sent) == record
        with pytest.raises(ConflictError, match="is SUCCEEDED in attempt 1"):
            app.commit_result({**sent, "log_tail": "?"})
        assert rows(app) == before


def test_an_attempt_that_is_not_under_way_is_refused(
    app: Aero, cases: Any, counting: Any, clock: FrozenClock
) -> None:
    waiting = app.run_flow(counting["id"], wait=False)
    sent = worked(app, counting, length, waiting)
    with pytest.raises(ConflictError, match="is PENDING in attempt 1"):
        app.commit_result(sent)
    with holding(app) as holder:
        wrong = {**sent, "attempt": 2}
        with pytest.raises(ConflictError, match="of attempt 2, was not taken"):
            app.commit_result(wrong)
        holder.engine._ready().close()
    # It was handed back, and is the next attempt now.
    with holding(app):
        assert running(app, counting)["attempt"] == 2
        before = rows(app)
        with pytest.raises(ConflictError, match="RUNNING in attempt 2"):
            app.commit_result(sent)
        assert rows(app) == before
        assert app.commit_result(wrong)["run_id"] == waiting["id"]


def test_a_cancelled_run_commits_nothing(app: Aero, counting: Any) -> None:
    app.run_flow(counting["id"], wait=False)
    with holding(app):
        run = running(app, counting)
        sent = worked(app, counting, length, run)
        app.cancel_run(run["id"])
        before = rows(app)
        with pytest.raises(ConflictError, match="is CANCELLED"):
            app.commit_result(sent)
        assert rows(app) == before


@ON_SQLITE
def test_a_lease_that_ran_out_does_not_matter_until_the_run_is_taken(
    app: Aero, counting: Any, clock: FrozenClock
) -> None:
    app.run_flow(counting["id"], wait=False)
    with holding(app):
        sent = worked(app, counting, length, running(app, counting))
        clock.advance(timedelta(hours=1))
        assert app.commit_result(sent)["contributed_to"][0]["is_new"] is True


def test_a_run_uses_what_it_was_given(
    app: Aero, cases: Any, counting: Any, publisher: Publisher
) -> None:
    app.run_flow(counting["id"], wait=False)
    with holding(app):
        run = running(app, counting)
        commit_again(app, cases, publisher)
        sent = worked(app, counting, length, run)
        assert sent["input_data"]["cases"]["version"] == 1
        newer = copy.deepcopy(sent)
        newer["input_data"]["cases"]["version"] = 2
        with pytest.raises(InvalidValueError, match="version 1"):
            app.commit_result(newer)
        assert [v["version"] for v in app.commit_result(sent)["derived_from"]] == [1]


@ON_SQLITE
def test_a_run_of_another_flow_or_task_or_of_none(
    app: Aero, cases: Any, counting: Any
) -> None:
    app.run_flow(counting["id"], wait=False)
    with holding(app):
        sent = worked(app, counting, length, running(app, counting))
        for wrong in ({"flow_id": cases["id"]}, {"task": 1}):
            with pytest.raises(InvalidValueError, match="another flow or task"):
                app.commit_result({**sent, **wrong})
        for unknown in ("0" * 36, "nothing", "../../x"):
            with pytest.raises(NotFoundError):
                app.commit_result({**sent, "run_id": unknown})
        assert app.commit_result({**sent, "flow_id": None})["flow_id"] == counting["id"]


# -- failures -------------------------------------------------------------------------


def failed(payload: dict[str, Any], **error: Any) -> dict[str, Any]:
    """Return a payload that tells of an error."""
    told = {"type": "ValueError", "message": "no good", "traceback": "line 1"}
    return {**payload, "error": told | error, "log_tail": "printed"}


def test_a_worker_that_failed_says_so(app: Aero, cases: Any) -> None:
    flow = analysis(app, failing, {"cases": data(cases)}, policy="NONE", retries=1)
    app.run_flow(flow["id"], wait=False)
    told: list[Any] = []
    app.engine.listeners.append(lambda _, facts: told.append(facts["status"]))
    with holding(app) as holder:
        sent = failed(payload_of(flow, running(app, flow)))
        answer = app.commit_result(sent)
        assert (answer["status"], answer["attempt"]) == ("PENDING", 2)
        assert (answer["error_type"], answer["log_tail"]) == ("ValueError", "printed")
        assert app.commit_result(sent) == answer
        app.db.clock.advance(2)
        holder.engine._ready()._beat()
        holder.engine._ready().wake()
        holder.engine._ready().step()
        assert app.commit_result(sent)["status"] == "RUNNING"
        again = failed(payload_of(flow, running(app, flow)))
        assert app.commit_result(again)["status"] == "FAILED"
        assert told == ["PENDING", "FAILED"]
        with pytest.raises(ConflictError):
            app.commit_result(failed(again, message="another"))


@ON_SQLITE
def test_damaged_inputs_are_brought_again(app: Aero, cases: Any, counting: Any) -> None:
    app.run_flow(counting["id"], wait=False)
    with holding(app):
        run = running(app, counting)
        sent = failed(
            payload_of(counting, run), type="CorruptObjectError", fault="storage"
        )
        assert app.commit_result(sent)["status"] == "PENDING"
    [state] = rows(app)["source_state"]
    assert (state.etag, state.raw_sha256) == (None, None)


# -- the older client -----------------------------------------------------------------


def older(app: Aero, flow: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what the steps of 2025 sent, but for where the bytes are."""
    sha256 = stored(app, folder, "größer".encode())["sha256"]
    return {
        "flow_id": flow["id"],
        "input_data": {
            "cases": {
                "id": flow["derived_from"][0]["id"],
                "version": 1,
                "file_bn": "cases.csv",
                "encoding": None,
                "collection_uuid": None,
                "collection_url": None,
                "tmp_dir": "/scratch",
            }
        },
        "output_data": {
            "n": {
                "id": data(flow),
                "url": None,
                "collection_uuid": "4b1cf1c5-1d63-4b1c-8d1e-0f6ad9bb0d3f",
                "collection_url": "https://g-1.data.globus.org/",
                "created_at": "Thu Jan  1 00:00:00 2026",
                "checksum": "d41d8cd98f00b204e9800998ecf8427e",
                "size": 6,
                "file_bn": sha256,
                "file_format": ["text/csv", None],
            }
        },
    }


def test_a_payload_of_the_older_client(
    app: Aero, counting: Any, tmp_path: Path
) -> None:
    sent = older(app, counting, tmp_path)
    record = app.commit_result(sent)
    [made] = record["contributed_to"]
    assert made["checksum"] == sent["output_data"]["n"]["file_bn"]
    assert made["data_file"] == {
        "file_name": sent["output_data"]["n"]["file_bn"],
        "file_type": "",
        "file_size": len("größer".encode()),
        "encoding": None,
    }
    assert made["media_type"] == "text/csv"
    assert record["derived_from"][0]["version"] == 1
    assert app.commit_result({"window": 7, "metrics": False, "aero": sent}) == record
    sent["output_data"]["n"]["file_format"] = ".json"
    again = app.commit_result(sent)
    assert again["contributed_to"][0]["is_new"] is False
    sent["output_data"]["n"]["file_bn"] = "3d0f1c9e-52a3-4a5b-9a39-3b8ce17a6a3a"
    with pytest.raises(InvalidValueError, match="not an object's address"):
        app.commit_result(sent)


# -- refusals -------------------------------------------------------------------------


@ON_SQLITE
def test_what_is_not_the_flows_is_refused_by_name(
    app: Aero, cases: Any, counting: Any
) -> None:
    sent = worked(app, counting, length)
    before = rows(app)
    stolen, named = copy.deepcopy(sent), copy.deepcopy(sent)
    stolen["output_data"]["n"]["id"] = data(cases)
    named["output_data"]["cases"] = dict(sent["output_data"]["n"], id=data(cases))
    for wrong, outputs in ((stolen, ["n"]), (named, ["cases"])):
        with pytest.raises(ForbiddenError) as caught:
            app.commit_result(wrong)
        assert (caught.value.code, caught.value.outputs) == (403, outputs)
    with pytest.raises(InvalidValueError, match=r"n of flow .* are missing"):
        app.commit_result({**sent, "output_data": {}})
    for entries in (
        {"other": {"id": data(cases), "version": 1}},
        {"cases": {"id": data(counting), "version": 1}},
        {"cases": {"id": data(cases), "version": 9}},
        {"cases": {"id": data(cases), "version": 2**31 - 1}},
    ):
        with pytest.raises(InvalidValueError):
            app.commit_result({**sent, "input_data": entries})
    for flow, name in ((cases, "cases"), (counting, "n")):
        elsewhere = app.pin_inputs(payload_of(flow))
        elsewhere["output_data"][name] |= _no_file(app)
        elsewhere["output_data"][name]["url"] = "http://169.254.169.254/latest"
        with pytest.raises(InvalidValueError, match="was not downloaded from"):
            app.commit_result(elsewhere)
    with pytest.raises(InvalidValueError, match="names no run"):
        app.commit_result(failed(payload_of(counting)))
    with pytest.raises(InvalidValueError, match=r"schema 7.*schema 1") as unknown:
        app.commit_result({**sent, "schema": 7})
    assert (unknown.value.schema, unknown.value.understood) == (7, 1)
    assert rows(app) == before


AT = "2026-01-01T00:00:00Z"
NOTHING = "sha256:" + "0" * 64
NOT_STORED: list[dict[str, Any]] = [
    {"uri": None},
    {"uri": NOTHING},
    {"uri": NOTHING, "sha256": None},
    {"uri": "file:///etc/passwd"},
    {"uri": "sha256:../../../../etc/passwd"},
    {"uri": "../objects/ab"},
    {"uri": "sha256:" + "A" * 64},
    {"uri": NOTHING + "\n"},
    {"sha256": "0" * 64},
    {"size": 4},
    {"raw": {"uri": "file:///etc/passwd", "retrieved_at": AT}},
    {"raw": {"retrieved_at": AT}},
    {"raw": {"uri": NOTHING, "retrieved_at": AT}},
]


@ON_SQLITE
def test_bytes_that_are_not_stored_as_it_says_are_refused(
    app: Aero, counting: Any
) -> None:
    sent = worked(app, counting, length)
    before = rows(app)
    for change in NOT_STORED:
        wrong = copy.deepcopy(sent)
        wrong["output_data"]["n"] |= change
        with pytest.raises(InvalidValueError):
            app.commit_result(wrong)
        if not change.keys() & {"size", "sha256"}:
            with pytest.raises(InvalidValueError):
                app.commit_result(_bare(wrong))
    sha256 = sent["output_data"]["n"]["sha256"]
    kept = app.settings.store / "objects" / sha256[:2] / sha256
    kept.chmod(0o600)
    kept.write_bytes(b"4")
    with pytest.raises(InvalidValueError, match="damaged"):
        app.commit_result(sent)
    kept.unlink()
    assert rows(app) == before


@ON_SQLITE
def test_of_schema_0_neither_size_nor_sha256_is_believed(
    app: Aero, counting: Any
) -> None:
    sent = _bare(worked(app, counting, length))
    sent["output_data"]["n"] |= {"sha256": "0" * 64, "size": 4}
    [made] = app.commit_result(sent)["contributed_to"]
    assert (made["checksum"], made["data_file"]["file_size"]) == (sha256_text("3"), 1)


def _bare(payload: dict[str, Any]) -> dict[str, Any]:
    bare = copy.deepcopy({k: v for k, v in payload.items() if k != "schema"})
    if bare["output_data"]["n"]["uri"] is None:
        bare["output_data"]["n"]["file_bn"] = "../../../etc/passwd"
    return bare


@ON_SQLITE
def test_what_gc_took_out_is_kept_again(
    app: Aero, counting: Any, tmp_path: Path
) -> None:
    sent = worked(app, counting, length)
    uri, storage = sent["output_data"]["n"]["uri"], open_storage(app.storage_location)
    storage.trash(uri)
    sent["output_data"]["n"]["file_bn"] = "../../../etc/passwd"
    [version] = app.commit_result(sent)["contributed_to"]
    assert version["data_file"]["file_name"] == "passwd"
    assert uri in {each.uri for each in storage.objects()}
    assert text(app, data(counting), tmp_path) == "3"


@ON_SQLITE
def test_a_listener_that_fails_undoes_nothing(
    app: Aero, counting: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: str, facts: Any) -> None:
        raise ClientError("no")

    app.engine.listeners.append(broken)
    assert app.commit_result(worked(app, counting, length))["contributed_to"]
    assert "The listener failed." in caplog.text


@ON_SQLITE
def test_pinning_completes_what_a_step_needs(
    app: Aero, cases: Any, counting: Any
) -> None:
    given = payload_of(counting)
    before = copy.deepcopy(given)
    pinned = app.pin_inputs(given)
    assert given == before
    entry = pinned["input_data"]["cases"]
    assert (entry["version"], entry["sha256"]) == (1, sha256_text("one"))
    assert entry["storage"] == pinned["output_data"]["n"]["storage"]
    assert app.pin_inputs(pinned) == pinned
    assert (
        app.pin_inputs({"flow_id": counting["id"], "input_data": {"cases": None}})[
            "input_data"
        ]["cases"]["version"]
        == 1
    )
    with pytest.raises(ForbiddenError):
        app.pin_inputs({**given, "output_data": {"other": {}}})
    sent = app.pin_inputs(payload_of(cases))["output_data"]["cases"]
    assert sent["url"] == cases["contributed_to"][0]["url"]
