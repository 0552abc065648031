"""Each command prints the same JSON, and exits alike, here and over a server."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aero import AeroOutput
from aero.app import Aero
from aero.cli.root import COMMANDS, aero
from aero.server.serving import serving
from aero.testing import make_app
from tests.conftest import Publisher

# What it says of this machine, the server would say of its own.
HERE = {"profile", "config_file", "note", "workers_alive"}
# These are this machine's alone, wherever the workspace is.
LOCAL_ONLY = {
    "configure": "installs this machine's own settings",
    "db": "looks after a database that this machine opens itself",
    "demo": "makes a workspace of its own and throws it away",
    "doctor": "reads every stored byte, which lies with the server",
    "group": "says who is in a group where this machine opens the database itself",
    "logout": "forgets this machine's own Globus tokens",
    "serve": "is the server",
    "token": "makes the tokens of a database that this machine opens itself",
    "work": "executes runs, which a server does by itself",
}
READING = {
    "list": [
        "list",
        "list -t flow",
        "list -t prov",
        "list -i cases",
        "list --limit 0",
    ],
    "search": ["search cases", "search nothing"],
    "get": ["get made -o {folder}"],
    "lineage": ["lineage made", "lineage cases@1"],
    "provenance": ["provenance {run}"],
    "explain": ["explain copies"],
    "runs": ["runs", "runs copies", "runs --limit 1"],
    "logs": ["logs {run}"],
    "types": ["types"],
    "status": ["status"],
    "limit": ["limit"],
    "gc": ["gc --dry-run"],
    "audit": ["audit", "audit --limit 1"],
}


def copied(cases):
    from pathlib import Path

    print("copying")
    Path("made.csv").write_text(Path(cases).read_text())
    return AeroOutput("made", "made.csv")


@pytest.fixture
def app(
    isolation: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Aero]:
    with make_app(isolation) as made:
        made.create_source(
            "cases", publisher.publish("cases.csv", "one"), policy="INGESTION"
        )
        made.create_source("grouped", "http://h/g/*", type_name="grouped")
        made.register_flow(
            "local",
            made.register_function(copied),
            {"cases": {"id": "cases"}},
            {"made": {}},
            policy="ANY",
            description="copies",
        )
        made.set_limit("local", 3)
        made.share("data", "cases", group="lab")
        made.share("flow", "copies", public=True)
        made.run_until_idle()
        yield made


def printed(command: str) -> Any:
    """Return what a command prints, which must be JSON."""
    result = CliRunner().invoke(aero, [*command.split(), "--json"], prog_name="aero")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_command_is_compared_or_said_to_be_local() -> None:
    changing = {step.command.split()[0] for step in STORY}
    assert READING.keys() | changing | LOCAL_ONLY.keys() == COMMANDS.keys()
    assert not LOCAL_ONLY.keys() & (READING.keys() | changing)


def test_commands_print_the_same_over_http(
    app: Aero, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = next(app.list_runs("copies"))["id"]
    given = {"run": run, "folder": tmp_path}
    commands = [c.format(**given) for kind in READING.values() for c in kind]
    here = {command: printed(command) for command in commands}
    (tmp_path / "made.csv").unlink()
    with serving(app, api_only=True) as url:
        monkeypatch.setenv("AERO_SERVER_URL", url)
        there = {command: printed(command) for command in commands}
    assert (tmp_path / "made.csv").read_text() == "one"
    for command in commands:
        mine, its = here[command], there[command]
        if command == "status":
            mine, its = ({k: r[k] for k in r if k not in HERE} for r in (mine, its))
        assert mine == its, command
    # What was compared was not nothing.
    assert [len(here[c]) for c in ("list", "runs", "types")] == [3, 2, 1]
    assert len(here["audit"]) == 2
    assert here["logs " + run]["log_tail"] == "copying\n"


def test_commands_fail_the_same_over_http(
    app: Aero, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = ["explain nothing", "list -i nothing", "lineage cases@9", "logs 1234"]

    def told() -> list[tuple[int, str]]:
        results = [CliRunner().invoke(aero, c.split()) for c in commands]
        return [(result.exit_code, result.output) for result in results]

    here = told()
    with serving(app, api_only=True) as url:
        monkeypatch.setenv("AERO_SERVER_URL", url)
        assert told() == here
    assert all(code == 1 and "Error: " in output for code, output in here)


# -- the same story, told to a workspace here and to one on a server -------------------


@dataclass(frozen=True)
class Step:
    """A command, and with which code it exits."""

    command: str
    code: int = 0


# Where `{run}` stands, the last run is meant that was printed; likewise `{failed}`.
STORY = [
    Step("create -n cases -u {url}/cases.csv -p INGESTION -t 3600 --tag flu"),
    Step("create -n cases -u {url}/cases.csv -p INGESTION -t 3600", code=1),
    Step("create -n cases", code=2),
    Step("create -n bad -u ftp://h/x", code=1),
    Step("create -n timed -u {url}/x -t 60", code=1),
    Step("create -n kept -u {url}/kept/* --type kept --poll-delay 3600 -d Kept"),
    Step("create --type kept -u {url}/kept.csv"),
    Step("create -n refs -u {url}/refs/*.csv --no-copy --type refs --poll-delay 0"),
    Step("create --type refs -u {url}/kept.csv", code=1),
    Step("create -f {folder}/source.yaml"),
    Step("create -f {folder}/source.yaml --exist-ok"),
    Step("types"),
    Step(
        "register --function {folder}/functions.py:copied --input cases=cases "
        "--output made -d copies mark=first"
    ),
    Step(
        "register --function {folder}/functions.py:copied --input cases=cases "
        "--output made -d copies mark=first",
        code=1,
    ),
    Step("register -f {folder}/flow.yaml -p NONE -d fails"),
    Step("register --function {folder}/functions.py:missing", code=1),
    Step("register -u 00000000-0000-0000-0000-000000000000 --output x", code=1),
    Step("register --function {folder}/functions.py:copied --input x=nothing", code=1),
    Step("share cases --public"),
    Step("share copies -t flow --group lab"),
    Step("share copies -t flow --private"),
    Step("share nothing --public", code=1),
    Step("share cases --public --group lab", code=2),
    Step("list"),
    Step("list -t flow"),
    Step("list -t prov"),
    Step("search flu"),
    Step("run copies"),
    Step("run nothing", code=1),
    Step("run kept", code=1),
    Step("run fails", code=1),
    Step("logs {run}"),
    Step("retry {run}"),
    Step("runs --status FAILED"),
    Step("retry copies", code=1),
    Step("explain fails"),
    Step("pause copies --reason 'too early'"),
    Step("pause copies"),
    Step("pause nothing", code=1),
    Step("explain copies"),
    Step("run copies --no-wait"),
    Step("set copies --priority 7 --max-running 2"),
    Step("set copies", code=2),
    Step("set copies --max-running 0", code=2),
    Step("set nothing --priority 1", code=1),
    Step("runs copies"),
    Step("cancel {run}"),
    Step("cancel {run}"),
    Step("cancel 00000000", code=1),
    Step("resume copies"),
    Step("retry {run}"),
    Step("resume nothing", code=1),
    Step("limit local 3"),
    Step("limit local none"),
    Step("limit local 0", code=2),
    Step("limit"),
    Step("get made@1 -o {folder}/got"),
    Step("get made@9 -o {folder}/got", code=1),
    Step("get nothing", code=1),
    Step("lineage made"),
    Step("lineage cases --down"),
    Step("lineage kept", code=1),
    Step("provenance {committed}"),
    Step("provenance {run}0", code=1),
    Step("list -i made"),
    Step("status"),
    Step("gc --dry-run"),
    Step("gc"),
    Step("delete-flows made -y"),
    Step("delete-flows made -y"),
    Step("delete-flows nothing -y", code=1),
    Step("list -t flow"),
    Step("runs"),
]

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
SHORT_ID = r"\b[0-9a-f]{8}\b"
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[0-9.]*(?:[+-]\d\d:\d\d|Z)"
# What takes its time, or is measured of the machine.
MEASURED = {"seconds", "environment", "database_bytes", "temp_files"}

FUNCTIONS = """
from aero import AeroOutput

def copied(cases, mark=""):
    from pathlib import Path
    print("copying")
    Path("made.csv").write_text(Path(cases).read_text() + mark)
    return AeroOutput("made", "made.csv")

def failing(cases):
    print("failing")
    raise ValueError("no good")
"""
FLOW = """
function: functions.py:failing
input_data:
  cases: {id: cases, version: 1}
output_data:
  never: {}
priority: 3
"""
SOURCE = """
name: from a file
url: URL/cases.csv?again
tags: [a, b]
retries: 2
"""


class World:
    """A workspace that commands are told to, and what they said of it."""

    def __init__(self, app: Aero, folder: Path, url: str) -> None:
        self._app = app
        self._ids: dict[str, str] = {}
        self._given = {"url": url, "folder": str(folder), "run": "none"}
        folder.mkdir()
        (folder / "functions.py").write_text(FUNCTIONS)
        (folder / "flow.yaml").write_text(FLOW)
        (folder / "source.yaml").write_text(SOURCE.replace("URL", url))

    def tell(self, step: Step) -> tuple[int, Any]:
        """Return how a command exits, and the JSON or else the error it prints."""
        arguments = shlex.split(step.command.format(**self._given))
        done = CliRunner().invoke(aero, [*arguments, "--json"], prog_name="aero")
        self._app.run_until_idle(30)
        if done.exit_code == 0 or done.stdout.startswith("{"):
            found = json.loads(done.stdout)
        else:
            found = [line for line in done.stderr.splitlines() if "Error: " in line]
        self._remember(found)
        return done.exit_code, self._normal(found)

    def _remember(self, found: Any) -> None:
        if isinstance(found, dict) and "trigger_key" in found and "status" in found:
            self._given["run"] = found["id"]
            if found["status"] in {"SUCCEEDED", "UNCHANGED"}:
                self._given["committed"] = found["id"]

    def _normal(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                self._normal(key): type(each).__name__
                if key in MEASURED
                else self._normal(each)
                for key, each in value.items()
                if key not in HERE
            }
        if isinstance(value, list):
            return [self._normal(each) for each in value]
        if not isinstance(value, str):
            return value
        text = value.replace(str(self._app.settings.home), "HOME")
        text = text.replace(self._given["folder"], "FOLDER")
        text = re.sub(MOMENT, "TIME", text)
        text = re.sub(UUID, lambda found: self._number(found[0]), text)
        return re.sub(SHORT_ID, lambda found: self._number(found[0]), text)

    def _number(self, found: str) -> str:
        """Return a name for an id: how many came before it."""
        short = found[:8]
        return self._ids.setdefault(short, f"ID{len(self._ids)}")


def test_a_story_is_the_same_here_and_on_a_server(
    tmp_path: Path,
    isolation: Path,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("cases.csv", "cases.csv?again", "kept.csv", "kept/1.csv"):
        publisher.publish(name, "day,cases\n1,4\n")
    url = publisher.url("").rstrip("/")
    with make_app(isolation) as app:
        world = World(app, tmp_path / "here", url)
        here = [world.tell(step) for step in STORY]
    # Its functions run elsewhere: what they print here would be the commands'.
    with (
        make_app(tmp_path / "server", executor=None, workers=1) as app,
        serving(app) as server,
    ):
        monkeypatch.setenv("AERO_SERVER_URL", server)
        world = World(app, tmp_path / "there", url)
        there = [world.tell(step) for step in STORY]
    for step, mine, its in zip(STORY, here, there, strict=True):
        assert mine == its, step.command
        assert mine[0] == step.code, (step.command, mine)
        assert mine[1] not in ([], {}, None) or step.command in NOTHING, step.command
    # What was compared was not nothing.
    assert sum(len(json.dumps(said)) for _, said in here) > 20_000


# Of what there is none at that time in the story.
NOTHING = {"limit", "delete-flows made -y"}
