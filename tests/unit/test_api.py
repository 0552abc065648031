"""The functional API: one lazily opened workspace, one kind of error."""

import inspect
import json
import subprocess
import sys
import threading

import pytest

from aero import AeroOutput, ClientError, PolicyEnum, api
from aero.config import ClientConf
from aero.error import (
    DuplicateError,
    InvalidTypeError,
    InvalidValueError,
    NotFoundError,
    ServerError,
)
from aero.jobs import download
from aero.server.serving import serving
from aero.testing import make_app


def clean(cases):
    """Write the cases in capitals."""
    from pathlib import Path

    out = Path("out.csv")
    out.write_text(Path(cases).read_text().upper())
    return AeroOutput("cases", out)


def count(cases, k=1):
    from pathlib import Path

    out = Path("n.txt")
    out.write_text(str(len(Path(cases).read_text()) * k))
    return AeroOutput("n", out)


@pytest.fixture(autouse=True)
def closed():
    """Forget the workspace of the test before and after."""
    api.reset()
    yield
    api.reset()


@pytest.fixture
def inline(isolation, database_url, monkeypatch):
    """Let functions run in this thread."""
    conf = {"database_url": database_url}
    monkeypatch.setattr(api, "open_workspace", lambda: make_app(isolation, **conf))
    yield
    api.reset()


@pytest.fixture
def url(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("a,b\n")
    return file.as_uri()


@pytest.fixture
def ingestion(inline, url):
    return api.register_flow(
        "local",
        api.register_function(clean),
        output_data={"cases": {"url": url}},
        policy=PolicyEnum.INGESTION,
    )


@pytest.fixture
def analysis(ingestion):
    data_id = ingestion["contributed_to"][0]["id"]
    return api.register_flow(
        "local",
        api.register_function(count),
        {"cases": {"id": data_id}},
        {"n": {}},
        {"k": 2},
        policy="ANY",
        tags=["numbers"],
    )


def test_importing_it_opens_and_reads_nothing(isolation):
    code = "import sys, aero.api; print('aero.app' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
    assert not isolation.exists()


def test_all_is_sorted_and_defined():
    assert api.__all__ == sorted(api.__all__)
    assert all(getattr(api, name).__doc__ for name in api.__all__)


def test_the_signatures_are_those_of_the_older_client():
    flow = inspect.signature(api.register_flow).parameters
    assert list(flow)[:11] == [
        "endpoint_uuid",
        "function_uuid",
        "input_data",
        "output_data",
        "kwargs",
        "config",
        "description",
        "policy",
        "timer_delay",
        "pull_function_uuid",
        "commit_function_uuid",
    ]
    added = {n for n, p in flow.items() if p.kind is p.KEYWORD_ONLY}
    assert added == {
        *("cron", "timezone", "retries", "timeout", "priority", "max_running"),
        *("tags", "storage", "email", "notify", "exist_ok", "public", "group"),
        "poll_delay",
    }
    source = inspect.signature(api.create_source).parameters
    assert list(source)[:12] == [
        *("name", "url", "collection_uuid", "collection_url", "endpoint_uuid"),
        *("function_uuid", "description", "kwargs", "type_name", "no_copy"),
        *("policy", "timer_delay"),
    ]
    assert api.create_data_source is api.create_source


def test_one_workspace_is_shared_by_all_threads_until_reset():
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(api.client())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(each) for each in found}) == 1
    api.reset()
    assert api.client() is not found[0]


def test_after_a_reset_the_then_active_profile_counts(tmp_path, monkeypatch):
    first = api.client().settings.home
    monkeypatch.setenv("AERO_HOME", str(tmp_path / "other"))
    assert api.client().settings.home == first
    api.reset()
    assert api.client().settings.home == tmp_path / "other"


def test_a_script_closes_its_workspace_when_it_ends(isolation):
    code = "from aero import api; list(api.list_metadata('data')); api.client().start()"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; api.reset()"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (isolation / "aero.db").is_file()


def test_a_profile_with_a_server_asks_that_server(monkeypatch, tmp_path):
    with make_app(tmp_path / "there") as app, serving(app) as url:
        monkeypatch.setenv("AERO_SERVER_URL", url)
        with pytest.raises(NotFoundError, match="There is no Data 'cases'"):
            api.list_versions("cases")
        api.reset()
    with pytest.raises(ServerError, match="cannot be reached"):
        api.list_versions("cases")


def test_settings_of_ones_own(tmp_path):
    with api.open_workspace(ClientConf(home=tmp_path / "mine")) as app:
        assert app.settings.home == tmp_path / "mine"


def test_a_flow_from_registration_to_lineage(ingestion, analysis):
    api.run_until_idle()
    assert [v["version"] for v in api.list_versions("n")] == [1]
    assert api.get_flow(analysis["id"])["k"] == 2
    assert api.get_flow(analysis["id"], False)["policy"] == PolicyEnum.ANY
    assert api.run_flow(analysis["id"])["status"] == "UNCHANGED"
    assert "newer version" in api.explain("n")["reason"]
    graph = api.lineage("n@1", "up", 5).record()
    assert [node["name"] for node in graph["nodes"]] == ["n", "cases"]
    assert [data["name"] for data in api.search_sources("numbers")] == ["n"]


def test_pages_are_lists_of_up_to_15_and_end(inline, url):
    for number in range(17):
        api.create_source(f"s{number}", f"{url}?{number}")
    pages = api.list_metadata("data")
    assert inspect.isgenerator(pages)
    assert [len(page) for page in pages] == [15, 2]
    assert list(api.list_metadata("prov")) == []
    with pytest.raises(InvalidValueError, match="'data', 'flow' or 'prov'"):
        api.list_metadata("nonsense")


def test_an_error_while_paging_is_a_client_error(inline, ingestion, monkeypatch):
    def broken(_kind):
        yield {"id": "1"}
        raise OSError("disk gone")

    monkeypatch.setattr(api.client(), "list_metadata", broken)
    with pytest.raises(ClientError, match="disk gone"):
        list(api.list_metadata("data"))


def test_pausing_resuming_and_deleting(ingestion, analysis):
    assert api.pause_flow(analysis["id"], "holiday")["paused_reason"] == "holiday"
    assert api.resume_flow(analysis["id"])["enabled"] is True
    data_id = ingestion["contributed_to"][0]["id"]
    roles = {entry["flow_id"]: entry["role"] for entry in api.get_data_flows(data_id)}
    assert roles == {ingestion["id"]: "ingestion", analysis["id"]: "analysis"}
    assert api.delete_flow(analysis["id"])["id"] == analysis["id"]
    assert [e["role"] for e in api.delete_data_flows(data_id)] == ["ingestion"]
    assert api.get_data_flows(data_id) == []


def test_cancelling_and_retrying_a_run(ingestion):
    run = api.run_flow(ingestion["id"], wait=False)
    assert api.cancel_run(run["id"])["status"] == "CANCELLED"
    assert api.retry_run(run["id"])["status"] == "PENDING"


def test_sources_and_their_types(inline, url):
    source = api.create_source("cases", url, type_name="surveillance")
    assert api.source_id(source) == source["input_data"]["cases"]["id"]
    assert api.get_source_type("surveillance")["data_id"] == api.source_id(source)
    assert api.get_source_type("nothing") is None
    changed = api.add_type_url("surveillance", f"{url}.old")
    assert [each["url"] for each in changed["urls"]] == [url, f"{url}.old"]
    assert api.list_source_types() == [changed]
    assert api.source_id(changed) == api.source_id(source)


@pytest.mark.parametrize(
    ("record", "found"),
    [({"contributed_to": [{"id": "d"}], "id": "f"}, "d"), ({}, None)],
)
def test_source_id_reads_other_records_too(record, found):
    assert api.source_id(record) == found


def test_a_flow_without_outputs_has_no_source_id():
    assert api.source_id({"contributed_to": [], "id": "f"}) is None


def test_a_duplicate_carries_the_flow_id(ingestion, url):
    again = {
        "output_data": {"cases": {"url": url}},
        "policy": PolicyEnum.INGESTION,
    }
    function = ingestion["function_id"]
    with pytest.raises(DuplicateError) as caught:
        api.register_flow("local", function, **again)
    assert caught.value.flow_id == ingestion["id"]
    record = api.register_flow("local", function, exist_ok=True, **again)
    assert record["id"] == ingestion["id"]


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: api.register_flow(), InvalidTypeError),
        (lambda: api.register_flow("local", "x", surprise=1), InvalidTypeError),
        (lambda: api.register_flow("local", "x", policy="SOMETIMES"), ValueError),
        (lambda: api.register_flow("local", "x", input_data=[]), TypeError),
        (lambda: api.register_function(3), TypeError),
        (lambda: api.run_flow("no such flow"), NotFoundError),
        (lambda: api.create_source("a b", "https://x", policy="ANY"), ValueError),
    ],
)
def test_every_error_is_a_client_error(inline, call, kind):
    with pytest.raises(ClientError) as caught:
        call()
    assert isinstance(caught.value, kind)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ValueError("no"), 422),
        (TimeoutError("late"), 504),
        (RuntimeError("no\nmore"), 500),
    ],
)
def test_whatever_goes_wrong_inside_is_one_too(inline, monkeypatch, raised, code):
    def fail(*_args):
        raise raised

    monkeypatch.setattr(api.client(), "run_until_idle", fail)
    with pytest.raises(ClientError) as caught:
        api.run_until_idle(1)
    assert caught.value.code == code
    assert caught.value.__cause__ is raised
    assert "\n" not in str(caught.value)


def test_what_waits_is_said_once_on_stderr(inline, url, capsys):
    api.create_source("cases", url, policy="INGESTION")
    assert capsys.readouterr().err == "1 run waits; run 'aero work'\n"
    api.create_source("later", url)
    api.register_flow(
        "local", None, output_data={"more": {"url": url}}, policy="INGESTION"
    )
    assert capsys.readouterr().err == "2 runs wait; run 'aero work'\n"
    assert capsys.readouterr().out == ""


def test_options_of_globus_compute_are_ignored_with_a_warning(inline):
    with pytest.warns(UserWarning, match="was ignored") as caught:
        first = api.register_function(clean, endpoint="there", description="d")
    assert caught[0].filename == __file__
    assert api.register_function(clean, endpoint="local") == first


def test_steps_of_older_scripts_are_accepted(inline, url):
    api.register_flow(
        "local",
        None,
        output_data={"cases": {"url": url}},
        pull_function_uuid=api.register_function(download),
    )
    with pytest.warns(UserWarning, match="downloads and commits by itself") as caught:
        api.register_flow(
            "local",
            None,
            output_data={"more": {"url": url}},
            commit_function_uuid="2b1ad0d6-8b1f-4d4b-a0c5-111111111111",
        )
    assert caught[0].filename == __file__


def test_logging_out_removes_the_token_file(isolation):
    isolation.mkdir()
    tokens = isolation / "client_tokens.json"
    tokens.write_text(json.dumps({}))
    assert api.globus_logout() == tokens
    assert not tokens.exists()
    assert api.globus_logout() is None
