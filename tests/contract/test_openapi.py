"""Schemathesis asks the server what its OpenAPI document promises, all checks on.

AERO_TEST_SCHEMATHESIS_EXAMPLES sets how many requests it makes up for each operation
beside those for the bounds of every value; from 20 on it also follows what one answer
says to others, and asks a server on PostgreSQL for anything.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aero.app import Aero
from aero.server.serving import serving
from aero.testing import make_app

EXAMPLES = int(os.environ.get("AERO_TEST_SCHEMATHESIS_EXAMPLES", "1"))
THOROUGH = 20

# No schema tells a cron expression or a URL from other text, nor an id that is known
# from others: what is well-formed may be refused, as long as the document says so.
REFUSALS = """
[checks]
positive_data_acceptance = { expected-statuses = ["2xx", "304", "4xx"] }
"""
KNOWN = """
[parameters]
"path.ref" = "cases"
"path.number" = 1
"path.name" = "counts"
"""


@pytest.fixture
def app(tmp_path: Path, database_url: str) -> Iterator[Aero]:
    home = tmp_path / "home"
    # It notifies of objects at hosts that it makes up.
    with make_app(home, http_timeout=0.5, database_url=database_url) as made:
        source = tmp_path / "cases.csv"
        source.write_text("one")
        made.create_source("cases", source.as_uri(), policy="INGESTION")
        made.create_source("many", "http://127.0.0.1:9/*", type_name="counts")
        made.run_until_idle()
        yield made


def schemathesis(
    url: str, folder: Path, config: str
) -> "subprocess.CompletedProcess[str]":
    """Let it try everything, the same in every session."""
    path = folder / "schemathesis.toml"
    path.write_text(config)
    phases = ["coverage", "fuzzing", *(["stateful"] if EXAMPLES >= THOROUGH else [])]
    command = [
        Path(sys.executable).with_name("schemathesis"),
        f"--config-file={path}",
        "run",
        f"{url}/openapi.json",
        "--checks=all",
        f"--phases={','.join(phases)}",
        f"--max-examples={EXAMPLES}",
        "--generation-deterministic",
        "--request-timeout=20",
        "--continue-on-failure",
        "--warnings=off",
        "--no-color",
    ]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240 + 60 * EXAMPLES,
    )


RUNS = [
    pytest.param("sqlite_url", KNOWN, id="what is there, sqlite"),
    pytest.param("postgres_url", "", id="anything, postgresql"),
]


# Here a warning, which is what an unused key is, would be an error of the server.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("database_url", "known"),
    RUNS if EXAMPLES >= THOROUGH else RUNS[:1],
    indirect=["database_url"],
)
def test_the_server_keeps_what_openapi_promises(
    app: Aero, tmp_path: Path, known: str
) -> None:
    with serving(app, api_only=True) as url:
        done = schemathesis(url, tmp_path, REFUSALS + known)
    print(done.stdout[-1000:])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.filterwarnings("default")
def test_a_broken_promise_is_found(
    sqlite_app: Aero, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Aero, "limits", lambda _self: [{"endpoint": 1}])
    only = '[[operations]]\nexclude-path = "/limit"\nenabled = false\n'
    with serving(sqlite_app, api_only=True) as url:
        done = schemathesis(url, tmp_path, REFUSALS + only)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Server error" in done.stdout
