"""Each command that reads prints the same JSON here and from a server."""

import json
from collections.abc import Iterator
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
# These change something, go on, or look after this machine's own files.
NOT_READING = {
    "token",
    "cancel",
    "configure",
    "create",
    "db",
    "delete-flows",
    "demo",
    "doctor",
    "group",
    "logout",
    "pause",
    "register",
    "resume",
    "retry",
    "run",
    "serve",
    "set",
    "share",
    "work",
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


def test_every_command_reads_or_is_said_not_to() -> None:
    assert READING.keys() | NOT_READING == COMMANDS.keys()


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
