"""`aero demo`, on its own data: the first run, the next, a crash, and --serve."""

import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import urllib.request

import psutil
import pytest

import aero.demo
from aero import Aero
from aero.config.demo import demo_conf
from aero.demo import flows, session
from aero.demo.publisher import Publisher
from aero.demo.series import published_rows
from aero.demo.state import FIRST_WEEK, State, load_state
from aero.error import AeroError, ConfigError, ConflictError
from tests.waiting import until

NAMES = ["cholera_deaths", "diarrhoea_deaths", "cholera_rt", "diarrhoea_rt", "figure"]
REASON = "the demo's source is gone; aero demo --serve brings it back"


def run(home, **options):
    """Run the demo in this process; return its exit code and what it printed."""
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(shown):
        patch.setenv("AERO_HOME", str(home))
        code = aero.demo.main(**options)
    # Loky's tracker of semaphores serves the whole process.
    children = psutil.Process().children(recursive=True)
    left = [child.cmdline() for child in children]
    assert [words for words in left if not re.search("track", " ".join(words))] == []
    return code, shown.getvalue()


def opened(home):
    return Aero(demo_conf({"AERO_HOME": str(home)}))


def newest(app):
    return {name: app.get_data(name)["available_versions"] for name in NAMES}


def assert_at_rest(home):
    """Everything is paused, ended and tidied up."""
    with opened(home) as app:
        found = list(app.list_metadata("flow"))
        assert len(found) == 5
        assert {(f["enabled"], f["paused_reason"]) for f in found} == {(False, REASON)}
        assert not list(app.list_runs(status="RUNNING"))
        failed = [r["error_message"] for r in app.list_runs(status="FAILED")]
        # What was lost in a crash gives way to the newer run that waits already.
        assert [f for f in failed if not f.startswith("superseded")] == []
        for data in load_state(home).data.values():
            numbers = [v["version"] for v in app.list_versions(data)]
            assert numbers == list(range(len(numbers), 0, -1))
    assert not list((home / "scratch").iterdir())
    assert not list((home / "workers").iterdir())
    assert not [p for p in home.iterdir() if p.name.startswith(".")]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A workspace after a demo of two weeks, and what it printed."""
    home = tmp_path_factory.mktemp("demo") / "it's a workspace"
    code, shown = run(home, weeks=2)
    assert code == 0
    return home, shown


def test_the_figure_is_there_and_is_that_of_the_store(first, tmp_path):
    home, shown = first
    assert f"The figure: {home / 'figure.png'}" in shown
    picture = (home / "figure.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    with opened(home) as app:
        app.fetch_version("figure", tmp_path / "stored.png")
    assert (tmp_path / "stored.png").read_bytes() == picture


def test_each_week_made_one_version_of_everything(first):
    home, shown = first
    with opened(home) as app:
        assert newest(app) == dict.fromkeys(NAMES, 3)
    assert load_state(home).week == FIRST_WEEK + 2
    assert "deaths to 1849-07-16: figure@3" in shown


def test_polls_in_between_transferred_nothing(first):
    home, shown = first
    told = re.search(r"(\d+) polls of the source transferred nothing", shown)
    with opened(home) as app:
        unchanged = len(list(app.list_runs(status="UNCHANGED")))
    assert int(told[1]) >= 4
    assert unchanged >= 4


def test_the_lineage_reaches_both_urls_and_the_bytes_published_there(first):
    home, shown = first
    state = load_state(home)
    with Publisher(published_rows(), week=state.week, port=state.port) as publisher:
        urls, hashes = publisher.urls(), publisher.sha256s()
    with opened(home) as app:
        nodes = app.lineage("figure").nodes.values()
    sources = [node["source"] for node in nodes if node["source"]]
    assert sorted(source["url"] for source in sources) == sorted(urls)
    assert {source["sha256"] for source in sources} == hashes
    for text in [*urls, *hashes]:
        assert text in shown


def test_the_flows_are_paused_and_nothing_is_left(first):
    assert_at_rest(first[0])


def test_another_aero_demo_in_the_workspace_is_told_to_wait(first):
    home, _ = first
    state = load_state(home)
    with (
        Publisher(published_rows(), week=state.week, port=state.port),
        pytest.raises(ConflictError, match=f"Port {state.port} of 127.0.0.1"),
    ):
        run(home)


def test_the_printed_commands_work_in_a_new_shell(first, tmp_path):
    home, shown = first
    lines = [line.strip() for line in shown.partition("Try next:")[2].splitlines()]
    explain, get, serve = [line for line in lines if line]
    assert shlex.split(explain)[0] == f"AERO_HOME={home}"
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    for line in (explain, get):
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            env=clean,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
    table = (tmp_path / "cholera_rt.csv").read_text()
    assert table.startswith("date,incidence,mean,sd,lower,upper\n")
    with subprocess.Popen(
        ["/bin/sh", "-c", serve],
        env=clean,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as served:
        url = f"http://127.0.0.1:{load_state(home).port}/cholera.csv"
        until(lambda: answers(url) or served.poll() is not None)
        os.killpg(served.pid, signal.SIGTERM)
        assert "flows are paused" in served.communicate(timeout=60)[0]
    assert_at_rest(home)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_serve_brings_source_and_flows_back_until_it_is_ended(first, monkeypatch):
    home, _ = first
    monkeypatch.setattr(aero.demo, "SERVE_EVERY", 0.1)
    state = load_state(home)
    seen = []

    def end_it():
        url = f"http://127.0.0.1:{state.port}/cholera.csv"
        try:
            until(lambda: answers(url))
            until(lambda: load_state(home).week > state.week)
            with opened(home) as app:
                until(lambda: newest(app)["figure"] > 3)
                seen.extend(f["enabled"] for f in app.list_metadata("flow"))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    ender = threading.Thread(target=end_it)
    ender.start()
    code, shown = run(home, serve=True)
    ender.join()
    assert code == 0
    assert seen == [True] * 5
    assert f"http://127.0.0.1:{state.port}/cholera.csv" in shown
    assert_at_rest(home)


PROGRAM = "import sys, aero.demo; sys.exit(aero.demo.main())"


def test_a_killed_demo_is_continued_by_the_next(tmp_path):
    home = tmp_path / "home"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "AERO_HOME": str(home)},
        stdout=subprocess.DEVNULL,
    ) as killed:
        until(lambda: (home / "figure.png").exists() or killed.poll() is not None)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    week = load_state(home).week
    with opened(home) as app:
        before = {v["id"] for name in NAMES for v in app.list_versions(name)}
        mine = app.get_flow("figure", inputs_only=False)["id"]
        assert app.get_flow(mine, inputs_only=False)["enabled"]
    code, shown = run(home, weeks=1)
    assert code == 0
    assert load_state(home).week == week + 1
    with opened(home) as app:
        after = {v["id"] for name in NAMES for v in app.list_versions(name)}
        assert before < after
        assert app.get_flow("figure", inputs_only=False)["id"] == mine
        record = app.get_flow("figure", inputs_only=False)
    assert f"figure@{record['contributed_to'][0]['available_versions']}" in shown
    assert_at_rest(home)


def test_the_years_end_is_said_and_a_deleted_flow_comes_back(tmp_path):
    home = tmp_path / "home"
    State(port=load_state(home).port, week=51).save(home)
    code, shown = run(home, weeks=5)
    assert code == 0
    assert "over" not in shown
    assert load_state(home).week == 52
    with opened(home) as app:
        deleted = app.delete_flow("figure")
    code, shown = run(home)
    assert code == 0
    assert "The year 1849 is over: nothing is left to publish." in shown
    assert load_state(home).week == 52
    with opened(home) as app:
        again = app.get_flow("figure", inputs_only=False)
        assert again["id"] != deleted["id"]
        assert again["contributed_to"][0]["id"] == deleted["contributed_to"][0]["id"]
    assert_at_rest(home)


def test_the_users_own_flows_are_left_alone(first):
    home, _ = first
    with opened(home) as app:
        function = app.get_flow("figure", inputs_only=False)["function_id"]
        inputs = {c: {"id": f"{c}_rt"} for c in ("cholera", "diarrhoea")}
        own = app.register_flow(
            "local", function, inputs, {"figure": {}}, {"level": 0.5}, policy="NONE"
        )
    try:
        code, shown = run(home, weeks=0)
        assert code == 0
        with opened(home) as app:
            assert app.get_flow(own["id"], inputs_only=False)["enabled"]
            demos = load_state(home).data["figure"]
        assert f"explain {demos}" in shown
        assert own["contributed_to"][0]["id"] != demos
    finally:
        with opened(home) as app:
            app.delete_flow(own["id"])


def test_an_interrupted_demo_pauses_its_flows_too(first, monkeypatch):
    home, _ = first

    def interrupt(demo):
        os.kill(os.getpid(), signal.SIGINT)
        until(demo.stop.is_set)

    monkeypatch.setattr(session.Demo, "await_unchanged", interrupt)
    code, shown = run(home)
    assert code == 130
    assert "Try next" not in shown
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_at_rest(home)


def test_an_error_pauses_the_flows_too(first, monkeypatch):
    home, _ = first
    monkeypatch.setattr(session, "PATIENCE", 0.0)
    monkeypatch.setattr(session.Demo, "_sources", lambda demo, data: set())
    with pytest.raises(AeroError, match="in vain"):
        run(home)
    assert_at_rest(home)


def test_a_figure_of_uneven_weeks_is_drawn_again(first, monkeypatch):
    home, _ = first
    # Whatever test was before: both estimates are of the same week from here.
    assert run(home, weeks=0)[0] == 0
    state = load_state(home)
    state.week += 1
    state.save(home)
    ahead = [state.flows[name] for name in ("cholera_deaths", "cholera_rt", "figure")]
    week = Publisher(published_rows(), week=state.week, port=state.port)
    with week, opened(home) as app:
        for flow in ahead:
            app.resume_flow(flow)
        app.run_flow(ahead[0])
        app.run_until_idle(60)
        assert app.run_flow(ahead[-1])["status"] == "SUCCEEDED"
        for flow in ahead:
            app.pause_flow(flow, reason=REASON)
    with monkeypatch.context() as without:
        without.setattr(flows, "has_living_run", lambda app, flow: True)
        without.setattr(session, "PATIENCE", 4.0)
        with pytest.raises(AeroError, match="Waited 4 s for the figure"):
            run(home, weeks=0)
    assert run(home, weeks=0)[0] == 0
    assert_at_rest(home)


def test_a_failed_run_ends_the_demo_and_is_done_again_by_the_next(first, monkeypatch):
    home, _ = first
    before = load_state(home)
    with opened(home) as app:
        figure = app.get_flow("figure", inputs_only=False)["id"]

    def fails(demo):
        demo.board.heard(
            "ended", {"flow_id": figure, "status": "FAILED", "error": "no ink"}
        )

    monkeypatch.setattr(session.Demo, "await_unchanged", fails)
    with pytest.raises(AeroError, match="figure: no ink"):
        run(home)
    monkeypatch.undo()
    with opened(home) as app:
        app.cancel_run(app.run_flow(figure, wait=False)["id"])
        assert app.explain(figure)["last_run"]["status"] == "CANCELLED"
    code, _ = run(home, weeks=0)
    assert code == 0
    with opened(home) as app:
        assert app.explain(figure)["last_run"]["status"] in {"SUCCEEDED", "UNCHANGED"}
    assert load_state(home).week == before.week + 1


def test_without_its_extra_the_demo_says_what_to_install(tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setattr(aero.demo, "_NEEDED", ("numpy", "no_such_package"))
    with pytest.raises(ConfigError, match="need no_such_package: pip install") as told:
        run(home)
    assert "'aero-orchestrator[demo]'" in str(told.value)
    assert not home.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"prot": 1}'])
def test_a_damaged_memory_is_one_sentence(tmp_path, text):
    (tmp_path / "demo.json").write_text(text)
    with pytest.raises(ConfigError, match=r"demo\.json cannot be read"):
        run(tmp_path)


def test_the_memory_survives_a_round_trip(tmp_path):
    state = State(port=1, week=30, flows={"figure": "a"}, data={"figure": "b"})
    state.save(tmp_path)
    assert load_state(tmp_path) == state
    assert [p.name for p in tmp_path.iterdir()] == ["demo.json"]
    assert json.loads((tmp_path / "demo.json").read_text())["week"] == 30


def test_every_flow_comes_after_what_it_needs():
    known = set()
    for plan in flows.plans():
        assert set(plan.inputs.values()) <= known
        known.add(plan.data)
    assert sorted(known) == sorted(NAMES)
