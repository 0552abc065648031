"""Every example does what it prints and asserts, as a person would run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SAYS = {
    "01-ingest.py": r"polled again: UNCHANGED\npolled after a change: SUCCEEDED\n",
    "02-rerun-on-new-data.py": r"^inputs:cases=2 SUCCEEDED counted 19\n",
    "03-schedule.py": r"next due 2026-04-03T04:00:00",
    "04-sweep.py": r"curve@\d of \{'r0': 2.0\}: peak \d+",
    "05-lineage.py": r"^total@1 .*\n└── cases@1 .*\n    └── file:///",
}


def test_every_example_is_known_here() -> None:
    """An example that nobody runs would not stay true."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example_runs_from_any_folder_and_leaves_nothing(
    name: str, tmp_path: Path
) -> None:
    """It needs no workspace, no guard and no network, and cleans up after itself."""
    folders = {kind: tmp_path / kind for kind in ("home", "elsewhere", "tmp")}
    for folder in folders.values():
        folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        cwd=folders["elsewhere"],
        env={
            "HOME": str(folders["home"]),
            "PATH": os.environ["PATH"],
            "TMPDIR": str(folders["tmp"]),
            "PYTHONUTF8": "1",
        },
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert re.search(SAYS[name], done.stdout), done.stdout
    assert [path for folder in folders.values() for path in folder.iterdir()] == []


@pytest.mark.parametrize("name", SAYS)
def test_example_is_short_and_has_no_guard(name: str) -> None:
    """Workers never import a script, so it may be written straight down."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")

    assert "__main__" not in text
    assert len(text.splitlines()) <= 65
