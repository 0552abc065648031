"""Results that are sent while others end the same run, twice at once, or unanswered."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aero import Aero, committing
from aero.client import AeroClient
from aero.error import ConflictError
from aero.server.serving import serving
from aero.storage.base import address
from aero.testing import make_app
from tests.chains import holding, running, worked
from tests.conftest import Publisher
from tests.faults.test_disconnects import LostAnswer
from tests.invariants import check_invariants
from tests.scenarios import analysis, another, length, made, source

ROUNDS = 3


@pytest.fixture
def counting(app: Aero, publisher: Publisher) -> dict[str, Any]:
    """An analysis of a source with one version."""
    cases = source(app, publisher.publish("cases.csv", "one"))
    app.run_flow(cases["id"])
    return analysis(app, length, {"cases": made(cases)}, policy="NONE")


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Make calls in as many threads, together; return what came of each."""
    together, found = threading.Barrier(len(calls)), [None] * len(calls)

    def call(number: int) -> None:
        together.wait(20)
        try:
            found[number] = calls[number]()
        except ConflictError as error:
            found[number] = error

    threads = [threading.Thread(target=call, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def records_of(app: Aero, run: dict[str, Any]) -> list[Any]:
    return [r for r in app.list_metadata("prov") if r["run_id"] == run["id"]]


def test_of_a_worker_and_the_holder_only_one_commits(app: Aero, counting: Any) -> None:
    with another(app, clock=app.db.clock) as worker:
        for _ in range(ROUNDS):
            app.run_flow(counting["id"], wait=False)
            dispatcher = app.engine._ready()
            dispatcher.wake()
            dispatcher.step()
            # Its function has returned, and nothing is committed yet.
            run = running(app, counting)
            sent = worked(worker, counting, length, run)
            _, answer = at_once(dispatcher.step, lambda s=sent: worker.commit_result(s))
            [record] = records_of(app, run)
            if isinstance(answer, ConflictError):
                assert [s["name"] for s in record["steps"]][-1] == "function"
            else:
                assert answer == record
            assert app.get_run(run["id"])["status"] in {"SUCCEEDED", "UNCHANGED"}
    assert app.get_data(made(counting))["available_versions"] == 1
    assert check_invariants(app.db, store=app.settings.store, idle=True) == []


def test_the_same_result_at_once_is_one_run(app: Aero, counting: Any) -> None:
    sent = worked(app, counting, length)
    with another(app, clock=app.db.clock) as other:
        calls = [lambda w=each: w.commit_result(sent) for each in (app, other) * 3]
        answers = at_once(*calls)
    assert len({answer["id"] for answer in answers}) == 1
    assert len(list(app.list_runs(counting["id"]))) == 1
    assert check_invariants(app.db, store=app.settings.store, idle=True) == []


def test_of_a_cancellation_and_a_result_one_is_first(app: Aero, counting: Any) -> None:
    for _ in range(ROUNDS):
        app.run_flow(counting["id"], wait=False)
        with holding(app) as holder:
            run = running(app, counting)
            sent = worked(app, counting, length, run)
            _, answer = at_once(
                lambda r=run: app.cancel_run(r["id"]),
                lambda s=sent, h=holder: h.commit_result(s),
            )
            cancelled = app.get_run(run["id"])["status"] == "CANCELLED"
            assert cancelled is isinstance(answer, ConflictError)
            assert len(records_of(app, run)) == (not cancelled)
    assert check_invariants(app.db, store=app.settings.store, idle=True) == []


def test_a_result_whose_answer_was_lost_is_known_again(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_app(tmp_path) as app:
        cases = source(app, publisher.publish("cases.csv", "one"))
        app.run_flow(cases["id"])
        flow = analysis(app, length, {"cases": made(cases)}, policy="NONE", retries=1)
        told: list[Any] = []
        app.engine.listeners.append(lambda _, facts: told.append(facts["status"]))
        lost = LostAnswer(app, monkeypatch)
        record = lost(lambda: app.commit_result(worked(app, flow, length)))
        assert app.get_run(record["run_id"])["status"] == "SUCCEEDED"
        app.run_flow(flow["id"], wait=False)
        with holding(app):
            sent = worked(app, flow, length, running(app, flow))
            assert lost(lambda: app.commit_result(sent))["run_id"] == sent["run_id"]
        app.run_flow(flow["id"], wait=False)
        with holding(app):
            run = running(app, flow)
            failed = {"run_id": run["id"], "attempt": 1, "error": {"type": "E"}}
            assert lost(lambda: app.commit_result(failed))["attempt"] == 2
            assert app.commit_result(failed)["attempt"] == 2
        assert told == ["SUCCEEDED", "UNCHANGED", "PENDING"]
        assert len(list(app.list_metadata("prov"))) == 3
        assert check_invariants(app.db, store=app.settings.store) == []


def test_a_request_whose_answer_was_lost_is_sent_again(
    app: Aero, counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To another replica, which has not heard of it: the database knows it again."""
    commit, lost = Aero.commit_result, []

    def losing(workspace: Aero, payload: Any) -> Any:
        record = commit(workspace, payload)
        if not lost:
            lost.append(record)
            raise TimeoutError("The answer is lost.")
        return record

    sent = worked(app, counting, length)
    monkeypatch.setattr(Aero, "commit_result", losing)
    with serving(app, api_only=True) as url, AeroClient(url) as client:
        assert client.commit_result(sent) == lost[0]
    assert len(list(app.list_runs(counting["id"]))) == 1
    assert check_invariants(app.db, store=app.settings.store, idle=True) == []


@pytest.mark.parametrize(
    "database_url", [pytest.param("sqlite_url", id="sqlite")], indirect=True
)
def test_without_its_mechanisms_the_laws_break(
    app: Aero, counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = worked(app, counting, length)
    with monkeypatch.context() as off:
        off.setattr(committing, "done", lambda *_: None)
        first, second = (app.commit_result(sent) for _ in "ab")
    assert first["run_id"] != second["run_id"]
    with monkeypatch.context() as off:
        off.setattr(committing, "_verified", lambda *_: 1)
        sent["output_data"]["n"] |= {"uri": address("0" * 64), "sha256": "0" * 64}
        app.commit_result(sent)
    broken = check_invariants(app.db, store=app.settings.store)
    assert any("is due to no trigger" in each for each in broken)
    assert any("@2" in each for each in broken)
