"""A worker without a database chains the steps itself, against a server or here."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aero import Aero, aero_format, api, jobs
from aero.auth.tokens import StaticTokens
from aero.error import InvalidTypeError, InvalidValueError
from aero.function_source import plain_source
from aero.hashing import canonical, sha256_text
from aero.server.serving import serving
from aero.tokens import Tokens
from tests.chains import holding, payload_of, running, worked
from tests.conftest import Publisher
from tests.invariants import check_invariants
from tests.plain_http import PlainHttp, plainly_served
from tests.scenarios import analysis, counts, length, made, source, statuses

# What an engine would run on another machine, one step after the other.
WORKER = """
import json, sys
from pathlib import Path
from aero import AeroOutput, aero_format, jobs

@aero_format
def length(cases, factor=1):
    Path("n.txt").write_text(str(len(Path(cases).read_bytes()) * factor))
    return AeroOutput("n", "n.txt")

pulling, counting = json.load(sys.stdin)
[given] = jobs.get_versions({"kwargs": pulling})
args, kwargs = jobs.download(**given["kwargs"])
ingested = jobs.database_commit(*args, **kwargs)
[given] = jobs.get_versions({"kwargs": counting | {"metrics": True}})
done = length(**given["kwargs"])
analysed = jobs.commit_analysis(done)
assert not {"sqlalchemy", "aero.db"} & sys.modules.keys()
print(json.dumps([ingested, *analysed, *jobs.commit_analysis(done)]))
"""


def worker(url: str, token: str, *given: Any) -> Any:
    """Run the worker in a process of its own; return what it was answered."""
    env = {**os.environ, "AERO_SERVER_URL": url, "AERO_TOKEN": token}
    env.pop("AERO_DATABASE_URL")
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=json.dumps(given),
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_worker_elsewhere_chains_the_steps(app: Aero, publisher: Publisher) -> None:
    pulling = source(app, publisher.publish("cases.csv", "one"))
    counting = analysis(app, length, {"cases": made(pulling)}, policy="NONE")
    watching = analysis(app, length, {"cases": made(counting)}, policy="ANY")
    token = app.create_token("worker", scopes=["write"])["token"]
    guard = StaticTokens(Tokens(app.db))
    with serving(app, authenticator=guard, api_only=True) as url:
        ingested, analysed, again = worker(
            url, token, app.get_flow(pulling["id"]), app.get_flow(counting["id"])
        )
        metrics = analysed.pop("commit_analysis")
    assert metrics.keys() == {"task_start", "task_end", "duration"}
    assert again.pop("commit_analysis")
    assert analysed == again == app.get_provenance(analysed["id"])
    assert ingested == app.get_provenance(ingested["id"])
    assert analysed["agent"].startswith(f"{app.owner}@")
    assert analysed["derived_from"][0]["id"] == ingested["contributed_to"][0]["id"]
    assert [step["name"] for step in analysed["steps"]] == [
        "get_versions",
        "function",
        "commit",
    ]
    assert statuses(app, watching) == ["PENDING"]
    logged = [e for e in app.audit() if e["what"] == "POST /prov/new"]
    assert {e["who"] for e in logged} == {app.owner}
    assert sorted(e["about"]["ids"] for e in logged) == sorted(
        [record["run_id"]] for record in (ingested, analysed)
    )
    assert check_invariants(app.db, store=app.settings.store) == []


@pytest.fixture
def here(
    isolation: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """The workspace of the active profile, embedded."""
    monkeypatch.setenv("AERO_HOME", str(isolation.parent / "home"))
    api.reset()
    yield api.client()
    api.reset()


def test_the_steps_without_a_server(here: Any, publisher: Publisher) -> None:
    flow = source(here, publisher.publish("cases.csv", "one"))
    [kwargs] = jobs.get_versions(here.get_flow(flow["id"]) | {"metrics": True})
    args, kwargs = jobs.download(**kwargs)
    record = jobs.database_commit(*args, **kwargs)
    timed = record.pop("database_commit")
    steps = [step["name"] for step in record["steps"]]
    assert steps == ["download", "get_versions", "commit"]
    assert timed["task_end"] - timed["task_start"] == timed["duration"]
    assert record == here.get_provenance(record["id"])
    counting = analysis(here, length, {"cases": made(flow)}, policy="NONE")
    [kwargs] = jobs.get_versions(here.get_flow(counting["id"]))
    [record] = jobs.commit_analysis(aero_format(length)(**kwargs))
    assert "commit_analysis" not in record
    assert record["contributed_to"][0]["version"] == 1
    with pytest.raises(InvalidTypeError, match="payload is a NoneType"):
        jobs.database_commit(window=7)
    with pytest.raises(InvalidValueError, match="names no flow"):
        jobs.get_versions({"aero": {}})


def test_the_steps_are_registered_as_they_are() -> None:
    for step in (jobs.get_versions, jobs.database_commit, jobs.commit_analysis):
        name = step.__name__
        assert plain_source(step).source == f"from aero.jobs import {name}\n"


@pytest.fixture
def counting(sqlite_app: Aero, publisher: Publisher) -> dict[str, Any]:
    cases = source(sqlite_app, publisher.publish("cases.csv", "one"))
    sqlite_app.run_flow(cases["id"])
    return analysis(sqlite_app, length, {"cases": made(cases)}, policy="NONE")


@pytest.fixture
def server(sqlite_app: Aero) -> Iterator[PlainHttp]:
    with plainly_served(sqlite_app) as http:
        yield http


def test_the_route(server: PlainHttp, sqlite_app: Aero, counting: Any) -> None:
    sent = worked(sqlite_app, counting, length)
    first = server.post("/prov/new/", {**sent, "later": {"versions": "say more"}})
    assert first.status == 200, first.body
    assert first.json["contributed_to"][0]["version"] == 1
    assert first.json == sqlite_app.get_provenance(first.json["id"])
    body = canonical({**sent, "later": {"versions": "say more"}})
    assert first.json["trigger_key"] == f"manual:{sha256_text(body)}"
    # As analyses of the older client send it: within the arguments of the step.
    wrapped = {"factor": 2, "steps": "many", "aero": sent}
    second = server.post("/prov/new", wrapped)
    assert (second.status, second.json) == (
        200,
        server.post("/prov/new", sent).json,
    )
    before = counts(sqlite_app)
    assert server.post("/prov/new", wrapped).json == second.json
    assert counts(sqlite_app) == before


def test_a_failure_is_answered_with_the_run(
    server: PlainHttp, sqlite_app: Aero, counting: Any
) -> None:
    sqlite_app.run_flow(counting["id"], wait=False)
    with holding(sqlite_app):
        run = running(sqlite_app, counting)
        sent = payload_of(counting, run) | {"error": {"type": "E", "message": "no"}}
        answer = server.post("/prov/new", sent)
    assert (answer.status, answer.json["status"]) == (200, "FAILED")
    assert answer.json == sqlite_app.get_run(run["id"])


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"flow_id": "0" * 32}, 404, "not-found"),
    ({"run_id": "0" * 32, "attempt": 1}, 404, "not-found"),
    ({"run_id": "0" * 32, "attempt": None}, 422, "invalid-value"),
    ({"flow_id": None}, 422, "invalid-value"),
    ({"schema": 2}, 422, "invalid-value"),
    ({"schema": "1"}, 422, "invalid-value"),
    ({"output_data": {"other": {}}}, 403, "forbidden"),
    ({"output_data": []}, 422, "invalid-value"),
    ({"output_data": {"n": {"uri": "file:///etc/passwd"}}}, 422, "invalid-value"),
    ({"output_data": {"n": {"uri": 1}}}, 422, "invalid-value"),
    ({"environment": {"a": "x" * 300_000}}, 422, "invalid-value"),
    ({"environment": {"a": "\0"}}, 422, "invalid-value"),
    ({"steps": [{"name": "commit", "status": "FAILED"}]}, 422, "invalid-value"),
    ({"attempt": 2**31, "run_id": "0" * 32}, 422, "invalid-value"),
    ({"log_tail": 7}, 422, "invalid-value"),
]


def test_refusals_are_problems_and_store_nothing(
    server: PlainHttp, sqlite_app: Aero, counting: Any
) -> None:
    sent = worked(sqlite_app, counting, length)
    before = counts(sqlite_app)
    for change, status, kind in REFUSED:
        answer = server.post("/prov/new", sent | change)
        assert (answer.status, answer.json["type"]) == (status, f"urn:aero:{kind}")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json["detail"].endswith(".")
    assert counts(sqlite_app) == before
    app = sqlite_app
    assert check_invariants(app.db, store=app.settings.store) == []
