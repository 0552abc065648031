"""Sources as flows: what a poll transfers, stores, runs and remembers."""

import pytest

from aero.hashing import sha256_text
from tests.scenarios import (
    analysis,
    counts,
    failing,
    made,
    source,
    statuses,
    text,
    upper,
    written,
)


def ingest(app, function, url, **options):
    return app.register_flow(
        "local",
        app.register_function(function),
        {},
        {"cases": {"url": url}},
        **options,
    )


def test_a_304_leaves_only_the_run(app, publisher):
    flow = ingest(app, upper, publisher.publish("c.csv", "a"))
    app.run_flow(flow["id"])
    before = counts(app)
    run = app.run_flow(flow["id"])
    assert run["status"] == "UNCHANGED"
    assert [s["name"] for s in run["steps"]] == ["download"]
    assert run["steps"][0]["bytes"] == 0
    after = counts(app)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"run", "run_trigger", "run_step"}


@pytest.mark.parametrize("etag", [None, "another"])
def test_the_same_bytes_run_no_function_and_leave_only_the_run(app, publisher, etag):
    flow = ingest(app, upper, publisher.publish("c.csv", "a", etag=None))
    app.run_flow(flow["id"])
    before = counts(app)
    publisher.publish("c.csv", "a", etag=etag)
    run = app.run_flow(flow["id"])
    assert run["status"] == "UNCHANGED"
    assert [s["name"] for s in run["steps"]] == ["download"]
    assert run["steps"][0]["bytes"] == 1
    assert counts(app)["provenance"] == before["provenance"]
    assert counts(app)["data_version"] == before["data_version"]


def test_a_new_validator_of_the_same_bytes_is_remembered(app, publisher):
    flow = ingest(app, upper, publisher.publish("c.csv", "a", etag="one"))
    app.run_flow(flow["id"])
    publisher.publish("c.csv", "a", etag="two")
    transferred = [app.run_flow(flow["id"])["steps"][0]["bytes"] for _ in range(2)]
    assert transferred == [1, 0]


def test_a_failing_function_is_given_the_bytes_again(app, publisher, tmp_path):
    flag = tmp_path / "flag"
    function = written(
        tmp_path,
        "mended_later",
        f"""
        from pathlib import Path
        if not Path({str(flag)!r}).exists():
            raise ValueError("not yet")
        return AeroOutput("cases", cases)
        """,
        "cases",
    )
    flow = ingest(app, function, publisher.publish("c.csv", "a"))
    for _ in range(2):
        run = app.run_flow(flow["id"])
        assert run["status"] == "FAILED"
        assert [s["name"] for s in run["steps"]] == ["download", "function"]
        assert run["steps"][0]["bytes"] == 1
    assert counts(app)["source_state"] == 0
    flag.touch()
    assert app.run_flow(flow["id"])["status"] == "SUCCEEDED"
    assert app.run_flow(flow["id"])["status"] == "UNCHANGED"
    assert publisher.requests("c.csv") == 4


def test_a_failure_after_a_success_keeps_the_older_validators(app, publisher, tmp_path):
    function = written(
        tmp_path,
        "dislikes_b",
        """
        from pathlib import Path
        if Path(cases).read_text() == "b":
            raise ValueError("b")
        return AeroOutput("cases", cases)
        """,
        "cases",
    )
    flow = ingest(app, function, publisher.publish("c.csv", "a"))
    wanted = []
    for content in "abbac":
        publisher.publish("c.csv", content)
        wanted.append(app.run_flow(flow["id"])["status"])
    assert wanted == ["SUCCEEDED", "FAILED", "FAILED", "UNCHANGED", "SUCCEEDED"]


def test_another_function_on_the_same_source_sees_its_bytes(app, publisher, tmp_path):
    url = publisher.publish("c.csv", "a")
    old = source(app, url)
    app.run_flow(old["id"])
    app.delete_flow(old["id"])
    new = app.register_flow(
        "local",
        app.register_function(upper),
        {},
        {"cases": {"id": made(old), "url": url}},
    )
    assert app.run_flow(new["id"])["status"] == "SUCCEEDED"
    assert text(app, made(new), tmp_path) == "A"


def test_an_error_page_is_no_version(app, publisher):
    flow = source(app, publisher.publish("c.csv", "a"))
    publisher.withdraw("c.csv")
    run = app.run_flow(flow["id"])
    assert (run["status"], run["error_type"]) == ("FAILED", "SourceError")
    assert "404" in run["error_message"]
    assert app.get_data("cases")["available_versions"] == 0


def test_bytes_are_kept_as_they_are(app, publisher, tmp_path):
    content = bytes(range(256)) * 5
    flow = source(app, publisher.publish("c.bin", content))
    app.run_flow(flow["id"])
    record = app.fetch_version("cases", tmp_path / "c.bin")
    assert (tmp_path / "c.bin").read_bytes() == content
    assert record["data_file"]["file_size"] == len(content)
    assert record["name"] == "cases"


def test_the_raw_bytes_are_kept_when_a_function_transforms_them(app, publisher):
    flow = ingest(app, upper, publisher.publish("c.csv", "raw"))
    app.run_flow(flow["id"])
    [record] = app.list_metadata("prov")
    [raw] = record["sources"]
    assert raw["sha256"] == sha256_text("raw")
    assert raw["url"] == publisher.url("c.csv")
    assert raw["uri"]
    assert raw["size"] == 3
    assert record["contributed_to"][0]["checksum"] == sha256_text("RAW")
    assert [s["name"] for s in record["steps"]] == ["download", "function"]


def test_a_file_is_a_source_too(app, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("one")
    flow = source(app, path.as_uri())
    assert app.run_flow(flow["id"])["status"] == "SUCCEEDED"
    assert app.run_flow(flow["id"])["status"] == "UNCHANGED"
    path.write_text("three")
    assert app.run_flow(flow["id"])["status"] == "SUCCEEDED"


def test_going_back_to_earlier_content_is_a_version_of_its_own(app, publisher):
    flow = source(app, publisher.publish("c.csv", "a"))
    for content in "aba":
        publisher.publish("c.csv", content)
        app.run_flow(flow["id"])
    versions = list(app.list_versions("cases"))
    assert [v["version"] for v in versions] == [3, 2, 1]
    assert versions[0]["checksum"] == versions[2]["checksum"]
    assert versions[0]["uri"] == versions[2]["uri"]


def test_an_unreachable_source_is_tried_again_not_failed(app, clock):
    import socket

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        flow = source(app, f"http://127.0.0.1:{port}/x")
        app.run_flow(flow["id"], wait=False)
        app.engine.run_ready()
    run = next(app.list_runs(flow["id"]))
    assert (run["status"], run["attempt"]) == ("PENDING", 2)
    assert run["error_type"] == "SourceUnavailableError"
    assert run["not_before"] > run["created_at"]


def test_a_download_whose_dependent_fails_is_not_undone(app, publisher):
    flow = source(app, publisher.publish("c.csv", "a"))
    after = analysis(app, failing, {"cases": made(flow)})
    app.run_flow(flow["id"])
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED"]
    assert statuses(app, after) == ["FAILED"]
    assert app.get_data("cases")["available_versions"] == 1


def test_last_executed_is_when_it_last_ran(app, clock, publisher):
    flow = source(app, publisher.publish("c.csv", "a"))
    for _ in range(2):
        moment = clock.advance(5)
        app.run_flow(flow["id"])
        record = app.get_flow(flow["id"], inputs_only=False)
        assert record["last_executed"] == moment.isoformat()
