"""README.md is true: its code runs, its commands exist, its tables are the code's."""

import configparser
import os
import plistlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from aero.cli.root import aero
from aero.cron import parse_cron
from aero.types import PolicyEnum

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SPANS = [
    " ".join(span.split())
    for span in re.findall(r"`([^`]+)`", re.sub(r"(?ms)^```.*?^```$", "", README))
]
QUICKSTART = (
    "python3 -m venv .venv && . .venv/bin/activate && "
    "pip install '.[demo]' && aero demo\n",
    "python3 -m venv .venv && . .venv/bin/activate && "
    "pip install -e '.[test]' && pytest\n",
)
SHELL = [text for kind, text in BLOCKS if kind == "sh" and text not in QUICKSTART]
MENTIONED = sorted(
    {
        line
        for line in [*SPANS, *"".join(SHELL).splitlines()]
        if re.match(r"aero [a-z]", line)
    }
)


def block(kind: str) -> str:
    (text,) = [text for found, text in BLOCKS if found == kind]
    return text


def run(command: list[str], folder: Path) -> str:
    """Run a command in a workspace of its own below `folder`; return its output."""
    scripts = str(Path(sys.executable).parent)
    done = subprocess.run(
        command,
        cwd=folder,
        env={
            "AERO_HOME": str(folder / "home"),
            "HOME": str(folder),
            "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
            "PYTHONUTF8": "1",
        },
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_quickstart_is_these_two_commands() -> None:
    shell = [text for kind, text in BLOCKS if kind == "sh"]
    assert tuple(shell[:2]) == QUICKSTART


def test_the_code_and_the_commands_run_as_printed(tmp_path: Path) -> None:
    """From the first to the last, in one folder, and they print what is promised."""
    printed = ""
    for kind, text in BLOCKS:
        if kind == "python":
            named = re.match(r"# (\w+\.py)\n", text)
            assert named, "a block of Python begins with the name to save it under"
            script = tmp_path / named[1]
            script.write_text(text, encoding="utf-8")
            printed += run([sys.executable, "-W", "error", script.name], tmp_path)
        elif kind == "sh" and text not in QUICKSTART:
            printed += run(["bash", "-euo", "pipefail", "-c", text], tmp_path)
    promised = block("text").replace("/home/ada", str(tmp_path))
    assert promised in printed
    assert "15 cases in 2 days\n" in printed


def test_the_first_flow_has_twenty_lines() -> None:
    first = next(text for kind, text in BLOCKS if kind == "python")
    assert len([line for line in first.splitlines() if line.strip()]) <= 20


@pytest.mark.parametrize("line", MENTIONED)
def test_every_command_and_flag_that_is_named_exists(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command | None = aero
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
    assert command is not None, line
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert {word for word in words if re.match(r"--?[a-z]", word)} <= flags
    assert command.get_help(click.Context(command))


def test_every_command_is_named() -> None:
    named = {line.split()[1] for line in MENTIONED}
    assert named == set(aero.list_commands(click.Context(aero)))


def test_the_policies_are_those_there_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \((-?\d)\) \|", README, re.MULTILINE)
    assert rows == [(policy.name, str(policy.value)) for policy in PolicyEnum]


def test_what_keeps_it_running_can_be_read_by_what_reads_it() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.read_string(block("ini"))
    assert unit["Service"]["ExecStart"].endswith("/bin/aero work")

    job = plistlib.loads(block("xml").encode())
    assert job["ProgramArguments"][1:] == ["work"]

    *when, command = block("crontab").split(maxsplit=5)
    parse_cron(" ".join(when))
    assert "/bin/aero work --once" in command


def test_what_it_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert (ROOT / "docs" / "figure.png").stat().st_size < 150_000
