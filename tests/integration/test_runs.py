"""The life of a run: failure, retry, cancel, pause, coalescing, waiting."""

import os
import threading
import time
from datetime import datetime, timedelta

import pytest
from sqlalchemy import event

from aero.error import ConflictError, NotFoundError
from aero.testing import make_app
from tests.scenarios import (
    analysis,
    another,
    constant,
    counts,
    failing,
    length,
    made,
    rows,
    source,
    statuses,
    text,
    upper,
    written,
)

RUN_KEYS = {
    *("id", "flow_id", "status", "trigger_kind", "trigger_key", "attempt"),
    *("created_at", "started_at", "finished_at", "error_type", "error_message"),
}


@pytest.fixture
def origin(app, publisher):
    """A source with one version, and its flow."""
    flow = source(app, publisher.publish("cases.csv", "a,b\n"))
    app.run_flow(flow["id"])
    return flow


def update(app, publisher, origin, content):
    """Publish something new and take it in."""
    app.db.clock.advance(1)
    publisher.publish("cases.csv", content)
    assert app.run_flow(origin["id"])["status"] == "SUCCEEDED"


def test_a_run_record_key_by_key(app, origin):
    run = app.run_flow(origin["id"])
    assert run.keys() >= RUN_KEYS | {"traceback", "log_tail", "inputs", "steps"}
    assert run["flow_id"] == origin["id"]
    assert run["trigger_kind"] == "manual"
    assert run["trigger_key"].startswith("manual:")
    assert (run["attempt"], run["error_type"]) == (1, None)
    assert run["created_at"] == run["finished_at"] == "2026-01-01T00:00:00+00:00"
    [listed] = [r for r in app.list_runs(origin["id"]) if r["id"] == run["id"]]
    assert listed.keys() >= RUN_KEYS
    assert [r["id"] for r in run["runs"]] == [run["id"]]


def test_failure_keeps_type_message_traceback_and_log(app, origin):
    flow = analysis(app, failing, {"cases": made(origin)})
    app.run_until_idle(10)
    run = app.get_run(next(app.list_runs(flow["id"]))["id"])
    assert run["status"] == "FAILED"
    assert (run["error_type"], run["error_message"]) == ("ValueError", "no good")
    assert 'raise ValueError("no good")' in run["traceback"]
    assert "aero/" not in run["traceback"]
    assert run["log_tail"] == "about to fail\n"
    assert run["finished_at"]
    assert [s["status"] for s in run["steps"]] == ["FAILED"]
    assert app.get_data(made(flow))["available_versions"] == 0


def test_only_the_end_of_a_long_log_is_kept(app, origin, tmp_path):
    function = written(
        tmp_path,
        "talks",
        """
        print("first words")
        print("x" * 100_000)
        print("last words")
        """,
        "cases",
    )
    flow = analysis(app, function, {"cases": made(origin)}, ())
    run = app.run_flow(flow["id"])
    assert run["status"] == "SUCCEEDED"
    assert len(run["log_tail"].encode()) <= 64 * 1024
    assert run["log_tail"].endswith("x\nlast words\n")
    assert "first words" not in run["log_tail"]


def test_retries_wait_and_then_give_up(app, clock, origin, tmp_path):
    trace = tmp_path / "trace"
    function = written(
        tmp_path,
        "flaky",
        f"""
        with open({str(trace)!r}, "a") as file:
            file.write("x")
        raise ValueError("no good")
        """,
        "cases",
    )
    flow = analysis(app, function, {"cases": made(origin)}, retries=2)
    waits = []
    for _ in range(5):
        app.engine.run_ready()
        run = next(app.list_runs(flow["id"]))
        if run["status"] == "FAILED":
            break
        assert run["status"] == "PENDING"
        waits.append(datetime.fromisoformat(run["not_before"]) - clock())
        app.engine.run_ready()
        clock.advance(waits[-1])
    assert trace.read_text() == "xxx"
    assert (run["status"], run["attempt"]) == ("FAILED", 3)
    assert len(waits) == 2
    assert timedelta(seconds=0.75) <= waits[0] <= timedelta(seconds=1.25)
    assert timedelta(seconds=1.5) <= waits[1] <= timedelta(seconds=2.5)
    assert {s["attempt"] for s in app.get_run(run["id"])["steps"]} == {1, 2, 3}


def test_a_retry_that_succeeds_forgets_the_error(app, clock, origin, tmp_path):
    flag = tmp_path / "flag"
    function = written(
        tmp_path,
        "second_time_lucky",
        f"""
        from pathlib import Path
        if not Path({str(flag)!r}).exists():
            Path({str(flag)!r}).touch()
            raise ValueError("not yet")
        Path("n").write_text("n")
        return AeroOutput("n", "n")
        """,
        "cases",
    )
    flow = analysis(app, function, {"cases": made(origin)}, retries=1)
    app.engine.run_ready()
    clock.advance(2)
    app.engine.run_ready()
    run = app.get_run(next(app.list_runs(flow["id"]))["id"])
    assert (run["status"], run["attempt"]) == ("SUCCEEDED", 2)
    assert (run["error_type"], run["error_message"], run["traceback"]) == (None,) * 3


def test_a_retry_takes_no_place_from_a_newer_run(app, clock, publisher, origin):
    flow = analysis(app, failing, {"cases": made(origin)}, retries=5)
    app.engine.run_ready()
    assert statuses(app, flow) == ["PENDING"]
    update(app, publisher, origin, "more\n")
    assert statuses(app, flow) == ["PENDING"]
    run = app.get_run(next(app.list_runs(flow["id"]))["id"])
    assert [i["version"] for i in run["inputs"]] == [2]


def test_retry_run_takes_the_newest_inputs(app, publisher, origin, tmp_path):
    flag = tmp_path / "flag"
    function = written(
        tmp_path,
        "until_mended",
        f"""
        from pathlib import Path
        if not Path({str(flag)!r}).exists():
            raise ValueError("not yet")
        Path("n").write_text(Path(cases).read_text())
        return AeroOutput("n", "n")
        """,
        "cases",
    )
    flow = analysis(app, function, {"cases": made(origin)})
    app.run_until_idle(10)
    [failed] = app.list_runs(flow["id"])
    app.pause_flow(flow["id"])
    update(app, publisher, origin, "more\n")
    flag.touch()
    app.resume_flow(flow["id"])
    retried = app.retry_run(failed["id"])
    assert retried["status"] == "PENDING"
    app.run_until_idle(10)
    assert text(app, made(flow), tmp_path) == "more\n"


def test_retry_of_an_ended_run_is_the_same_run_again(app, publisher, origin, tmp_path):
    flow = analysis(app, failing, {"cases": made(origin)})
    app.run_until_idle(10)
    [failed] = app.list_runs(flow["id"])
    retried = app.retry_run(failed["id"])
    assert (retried["id"], retried["attempt"]) == (failed["id"], 2)
    assert retried["finished_at"] is None
    app.run_until_idle(10)
    assert statuses(app, flow) == ["FAILED"]


def speechless(cases):
    """Fail without a word."""
    raise LookupError


def test_a_failure_without_a_message_is_named(app, origin):
    flow = analysis(app, speechless, {"cases": made(origin)})
    app.run_until_idle(10)
    [failed] = app.list_runs(flow["id"])
    assert failed["error_message"] == "LookupError"


def test_a_committed_run_is_not_retried(app, origin):
    run = next(app.list_runs(origin["id"]))
    before = counts(app)
    with pytest.raises(ConflictError, match="SUCCEEDED"):
        app.retry_run(run["id"])
    unchanged = app.run_flow(origin["id"])
    with pytest.raises(ConflictError, match="UNCHANGED"):
        app.retry_run(unchanged["id"])
    waiting = app.run_flow(origin["id"], wait=False)
    with pytest.raises(ConflictError, match="PENDING"):
        app.retry_run(waiting["id"])
    assert counts(app)["provenance"] == before["provenance"]


def test_a_run_of_a_deleted_flow_is_not_retried(app, origin):
    flow = analysis(app, failing, {"cases": made(origin)})
    app.run_until_idle(10)
    [run] = app.list_runs(flow["id"])
    app.delete_flow(flow["id"])
    with pytest.raises(NotFoundError, match="deleted"):
        app.retry_run(run["id"])


def test_a_run_that_still_lacks_an_input_is_not_retried(app, publisher):
    flow = source(app, publisher.publish("x", "x"))
    waits = analysis(app, length, {"cases": made(flow)}, policy="NONE")
    run = app.run_flow(waits["id"])
    assert run["status"] == "SKIPPED"
    assert "cases" in run["error_message"]
    with pytest.raises(ConflictError, match="cases"):
        app.retry_run(run["id"])
    app.run_flow(flow["id"])
    app.retry_run(run["id"])
    app.run_until_idle(10)
    assert statuses(app, waits) == ["SUCCEEDED"]


def test_cancel_a_pending_run(app, origin):
    waiting = app.run_flow(origin["id"], wait=False)
    cancelled = app.cancel_run(waiting["id"][:13])
    assert (cancelled["status"], cancelled["error_type"]) == ("CANCELLED", "Cancelled")
    assert cancelled["finished_at"]
    app.run_until_idle(10)
    assert app.get_run(waiting["id"])["status"] == "CANCELLED"
    assert app.cancel_run(waiting["id"]) == cancelled


def test_a_cancelled_trigger_is_spent(app, publisher, origin):
    flow = analysis(app, length, {"cases": made(origin)})
    [run] = app.list_runs(flow["id"])
    app.cancel_run(run["id"])
    app.pause_flow(flow["id"])
    app.resume_flow(flow["id"])
    app.run_until_idle(10)
    assert statuses(app, flow) == ["CANCELLED"]
    update(app, publisher, origin, "more\n")
    app.run_until_idle(10)
    assert statuses(app, flow) == ["CANCELLED", "SUCCEEDED"]


def test_an_ended_run_is_not_cancelled(app, origin):
    run = next(app.list_runs(origin["id"]))
    assert app.cancel_run(run["id"])["status"] == "SUCCEEDED"


def test_an_idempotency_key_counts_once(app, origin):
    one = app.run_flow(origin["id"], idempotency_key="abc")
    again = app.run_flow(origin["id"], idempotency_key="abc")
    assert one["id"] == again["id"]
    assert one["trigger_key"] == "manual:abc"
    assert app.run_flow(origin["id"], idempotency_key="abd")["id"] != one["id"]


def test_run_now_joins_what_waits(app, publisher, origin):
    flow = analysis(app, length, {"cases": made(origin)})
    [waiting] = app.list_runs(flow["id"])
    run = app.run_flow(flow["id"])
    assert run["id"] == waiting["id"]
    assert run["trigger_kind"] == "manual"
    assert statuses(app, flow) == ["SUCCEEDED"]


def test_run_now_does_not_wait_out_a_back_off(app, clock, origin):
    flow = analysis(app, failing, {"cases": made(origin)}, retries=1)
    app.engine.run_ready()
    assert statuses(app, flow) == ["PENDING"]
    run = app.run_flow(flow["id"], timeout=20)
    assert (run["status"], run["attempt"]) == ("FAILED", 2)


def test_an_analysis_that_reproduces_leaves_provenance_and_no_version(
    app, publisher, origin
):
    flow = analysis(app, constant, {"cases": made(origin)})
    after = analysis(app, length, {"cases": made(flow)})
    app.run_until_idle(10)
    update(app, publisher, origin, "more\n")
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED", "UNCHANGED"]
    assert statuses(app, after) == ["SUCCEEDED"]
    assert app.get_data(made(flow))["available_versions"] == 1
    records = [r for r in app.list_metadata("prov") if r["flow_id"] == flow["id"]]
    news = sorted(r["contributed_to"][0]["is_new"] for r in records)
    assert news == [False, True]
    assert len({r["contributed_to"][0]["id"] for r in records}) == 1
    used = sorted(r["derived_from"][0]["version"] for r in records)
    assert used == [1, 2]


def test_a_paused_flow_neither_ticks_nor_is_judged_nor_claimed(
    app, clock, publisher, origin
):
    flow = analysis(app, length, {"cases": made(origin)})
    polled = source(
        app, publisher.publish("p", "p"), "p", policy="INGESTION", timer_delay=60
    )
    record = app.pause_flow(flow["id"], "holidays")
    assert (record["enabled"], record["paused_reason"]) == (False, "holidays")
    app.pause_flow(polled["id"])
    update(app, publisher, origin, "more\n")
    clock.advance(1000)
    app.run_until_idle(10)
    assert statuses(app, flow) == ["PENDING"]
    assert statuses(app, polled) == ["PENDING"]
    record = app.resume_flow(flow["id"])
    assert (record["enabled"], record["paused_reason"]) == (True, None)
    app.run_until_idle(10)
    [run] = app.list_runs(flow["id"])
    assert run["status"] == "SUCCEEDED"
    assert [i["version"] for i in app.get_run(run["id"])["inputs"]] == [2]
    app.resume_flow(polled["id"])
    app.run_until_idle(10)
    assert statuses(app, polled) == ["SUCCEEDED"]


def test_resuming_judges_what_was_missed(app, publisher, origin):
    flow = analysis(app, length, {"cases": made(origin)})
    app.run_until_idle(10)
    app.pause_flow(flow["id"])
    update(app, publisher, origin, "more\n")
    assert statuses(app, flow) == ["SUCCEEDED"]
    app.resume_flow(flow["id"])
    assert statuses(app, flow) == ["SUCCEEDED", "PENDING"]


def test_waiting_for_a_run_of_a_paused_flow_ends_at_once(app, origin):
    app.pause_flow(origin["id"])
    run = app.run_flow(origin["id"], timeout=20)
    assert run["status"] == "PENDING"
    app.resume_flow(origin["id"])
    app.run_until_idle(10)
    assert app.get_run(run["id"])["status"] == "UNCHANGED"


def test_waiting_for_a_run_of_another_endpoint_ends_at_once(app, origin):
    elsewhere = "0a0a0a0a-0000-4000-8000-000000000000"
    flow = app.register_flow(
        elsewhere,
        app.register_function(length),
        {"cases": {"id": made(origin)}},
        {"n": {}},
    )
    assert app.run_flow(flow["id"], timeout=20)["status"] == "PENDING"
    app.run_until_idle(10)
    assert statuses(app, flow) == ["PENDING"]


def test_secrets_are_masked_and_recorded_as_references(
    app, origin, monkeypatch, tmp_path
):
    monkeypatch.setenv("MY_TOKEN", "hunter2-hunter2")
    function = written(
        tmp_path,
        "uses_secret",
        """
        from pathlib import Path
        print("token", token)
        assert token == "hunter2" + "-hunter2"
        if fail:
            raise ValueError("bad " + token)
        Path("n").write_text("n")
        return AeroOutput("n", "n")
        """,
        "cases, token, fail=False",
    )
    kwargs = {"token": {"$secret": "MY_TOKEN"}}
    good = analysis(app, function, {"cases": made(origin)}, kwargs=kwargs)
    bad = analysis(
        app,
        function,
        {"cases": made(origin)},
        ("n",),
        kwargs=kwargs | {"fail": True},
    )
    app.run_until_idle(10)
    runs = [app.get_run(next(app.list_runs(f["id"]))["id"]) for f in (good, bad)]
    assert [r["status"] for r in runs] == ["SUCCEEDED", "FAILED"]
    assert [r["log_tail"] for r in runs] == ["token ***\n"] * 2
    assert runs[1]["error_message"] == "bad ***"
    records = list(app.list_metadata("prov"))
    [record] = [r for r in records if r["flow_id"] == good["id"]]
    assert record["kwargs"] == kwargs
    assert "hunter2-hunter2" not in repr([runs, records, app.get_flow(good["id"])])
    assert "hunter2-hunter2" not in repr(rows(app))


def test_a_run_takes_three_writes_and_a_bounded_number_of_statements(app, origin):
    flow = analysis(app, length, {"cases": made(origin)}, policy="NONE")
    counted = {"n": 0}
    event.listen(
        app.db.engine,
        "before_cursor_execute",
        lambda *_: counted.update(n=counted["n"] + 1),
    )

    def cost():
        writes, statements = app.db.writes, counted["n"]
        app.run_flow(flow["id"])
        return app.db.writes - writes, counted["n"] - statements

    costs = [cost() for _ in range(60)]
    assert max(writes for writes, _ in costs) <= 4
    assert sorted(writes for writes, _ in costs)[30] <= 3
    assert max(n for _, n in costs[50:]) <= max(n for _, n in costs[5:15])


def test_run_until_idle_says_when_it_takes_too_long(app, clock, origin):
    flow = analysis(app, failing, {"cases": made(origin)}, retries=1)
    with pytest.raises(TimeoutError, match=r"0\.2"):
        app.run_until_idle(0.2)
    assert statuses(app, flow) == ["PENDING"]


# -- processes -------------------------------------------------------------------------


def slow(path, name="slow"):
    return written(
        path,
        name,
        f"""
        import os, time
        from pathlib import Path
        Path({str(path / "started")!r}).write_text(str(os.getpid()))
        time.sleep(60)
        """,
        "cases",
    )


def wait_for(holds, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture
def real(worker_app, publisher):
    """A workspace with worker processes, and a source with a version."""
    flow = source(worker_app, publisher.publish("cases.csv", "a,b\n"))
    worker_app.run_flow(flow["id"], timeout=60)
    return worker_app, flow


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_function_that_takes_too_long_fails_its_run(real, tmp_path):
    app, origin = real
    flow = analysis(app, slow(tmp_path), {"cases": made(origin)}, (), timeout=0.5)
    app.run_until_idle(60)
    run = app.get_run(next(app.list_runs(flow["id"]))["id"])
    assert (run["status"], run["error_type"]) == ("FAILED", "FunctionTimeoutError")
    assert run["attempt"] == 1


def test_cancel_a_running_run_and_its_work_is_killed(real, tmp_path):
    app, origin = real
    app.start()
    flow = analysis(app, slow(tmp_path), {"cases": made(origin)}, ())
    started = tmp_path / "started"
    wait_for(lambda: started.exists() and started.read_text())
    [run] = app.list_runs(flow["id"])
    assert run["status"] == "RUNNING"
    assert app.cancel_run(run["id"])["status"] == "CANCELLED"
    wait_for(lambda: gone(int(started.read_text())))
    app.run_until_idle(30)
    assert statuses(app, flow) == ["CANCELLED"]
    wait_for(lambda: not list((app.settings.home / "scratch").iterdir()))


def test_delete_flow_kills_what_runs(real, tmp_path):
    app, origin = real
    app.start()
    flow = analysis(app, slow(tmp_path), {"cases": made(origin)}, ())
    started = tmp_path / "started"
    wait_for(lambda: started.exists() and started.read_text())
    app.delete_flow(flow["id"])
    wait_for(lambda: gone(int(started.read_text())))
    assert [r["status"] for r in app.list_runs() if r["flow_id"] == flow["id"]] == [
        "CANCELLED"
    ]


def test_an_update_while_a_run_runs_is_not_lost(real, publisher, tmp_path):
    app, origin = real
    go = tmp_path / "go"
    function = written(
        tmp_path,
        "waits",
        f"""
        import time
        from pathlib import Path
        with open({str(tmp_path / "trace")!r}, "a") as file:
            file.write("x")
        while not Path({str(go)!r}).exists():
            time.sleep(0.01)
        Path("n").write_text(Path(cases).read_text())
        return AeroOutput("n", "n")
        """,
        "cases",
    )
    app.start()
    flow = analysis(app, function, {"cases": made(origin)})
    trace = tmp_path / "trace"
    wait_for(lambda: trace.exists())
    for content in ("second\n", "third\n"):
        publisher.publish("cases.csv", content)
        assert app.run_flow(origin["id"], timeout=30)["status"] == "SUCCEEDED"
    assert statuses(app, flow) == ["RUNNING", "PENDING"]
    go.touch()
    app.run_until_idle(30)
    assert statuses(app, flow) == ["SUCCEEDED", "SUCCEEDED"]
    assert text(app, made(flow), tmp_path) == "third\n"
    assert trace.read_text() == "xx"


def test_stop_hands_back_what_runs_and_start_goes_on(real, tmp_path):
    app, origin = real
    go = tmp_path / "go"
    function = written(
        tmp_path,
        "waits_too",
        f"""
        import time
        from pathlib import Path
        Path({str(tmp_path / "started")!r}).touch()
        while not Path({str(go)!r}).exists():
            time.sleep(0.01)
        Path("n").write_text("n")
        return AeroOutput("n", "n")
        """,
        "cases",
    )
    app.start()
    flow = analysis(app, function, {"cases": made(origin)})
    wait_for((tmp_path / "started").exists)
    app.stop()
    [run] = app.list_runs(flow["id"])
    assert (run["status"], run["error_type"]) == ("PENDING", None)
    go.touch()
    app.start()
    app.run_until_idle(30)
    assert statuses(app, flow) == ["SUCCEEDED"]
    app.stop()


def test_one_workspace_waits_for_the_run_another_executes(real, tmp_path):
    app, origin = real
    app.start()
    with another(app, executor=None, workers=1) as other:
        flow = analysis(other, length, {"cases": made(origin)}, policy="NONE")
        run = other.run_flow(flow["id"], wait=False)
        wait_for(lambda: other.get_run(run["id"])["status"] == "SUCCEEDED")
        other.run_until_idle(30)
    assert statuses(app, flow) == ["SUCCEEDED"]


def test_the_waiting_one_sees_the_end_of_what_the_other_has_begun(real, tmp_path):
    app, origin = real
    go, started = tmp_path / "go", tmp_path / "begun"
    function = written(
        tmp_path,
        "begun_elsewhere",
        f"""
        import time
        from pathlib import Path
        Path({str(started)!r}).touch()
        while not Path({str(go)!r}).exists():
            time.sleep(0.01)
        """,
        "cases",
    )
    app.start()
    flow = analysis(app, function, {"cases": made(origin)}, ())
    wait_for(started.exists)
    with another(app, executor=None, workers=1) as other:
        threading.Timer(0.3, go.touch).start()
        other.run_until_idle(30)
        assert statuses(other, flow) == ["SUCCEEDED"]


def test_leaving_the_context_leaves_no_process_and_no_scratch(
    tmp_path, database_url, publisher
):
    pids = tmp_path / "pids"
    function = written(
        tmp_path,
        "notes_pid",
        f"""
        import os
        with open({str(pids)!r}, "a") as file:
            file.write(f"{{os.getpid()}}\\n")
        """,
        "cases",
    )
    conf = {"workers": 2, "database_url": database_url}
    with make_app(tmp_path / "home", executor=None, **conf) as app:
        origin = source(app, publisher.publish("cases.csv", "a"))
        app.run_flow(origin["id"], timeout=60)
        flow = analysis(app, function, {"cases": made(origin)}, (), policy="NONE")
        for _ in range(3):
            app.run_flow(flow["id"], timeout=60)
        home = app.settings.home
    assert all(gone(int(line)) for line in pids.read_text().split())
    assert list((home / "scratch").iterdir()) == []
    assert list((home / "workers").iterdir()) == []


def test_a_function_cannot_write_into_the_store(real, tmp_path):
    app, origin = real
    function = written(
        tmp_path,
        "overwrites",
        """
        from pathlib import Path
        Path(cases).write_text("over")
        return AeroOutput("n", cases)
        """,
        "cases",
    )
    flow = analysis(app, function, {"cases": made(origin)})
    app.run_until_idle(30)
    assert text(app, made(flow), tmp_path) == "over"
    assert text(app, made(origin), tmp_path) == "a,b\n"


def test_the_listener_hears_what_starts_and_ends(tmp_path, database_url, publisher):
    from aero import Aero
    from aero.config import ClientConf
    from aero.testing import InlineExecutor

    heard = []
    with Aero(
        ClientConf(home=tmp_path / "h", database_url=database_url),
        executor=InlineExecutor(),
        listener=lambda what, facts: heard.append((what, facts)),
    ) as app:
        origin = source(app, publisher.publish("cases.csv", "a"))
        analysis(app, upper, {"cases": made(origin)}, ("cases",))
        analysis(app, failing, {"cases": made(origin)})
        app.run_flow(origin["id"])
        app.run_until_idle(10)
    assert [what for what, _ in heard].count("started") == 3
    ended = [facts for what, facts in heard if what == "ended"]
    assert [f["status"] for f in ended].count("SUCCEEDED") == 2
    assert [f["error"] for f in ended if f["status"] == "FAILED"] == ["no good"]
    assert ended[0]["new_versions"] == [[made(origin), 1]]
