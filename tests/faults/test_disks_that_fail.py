"""Disks that are full, and stored bytes that are gone or no longer what they were."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from aero.app import Aero
from aero.error import StorageError
from tests.conftest import Publisher
from tests.faults.ordeal import PATIENCE, endure, is_one_sentence, recover, suffer
from tests.scenarios import analysis, length, made, source, upper

# Disk full


@pytest.mark.parametrize("means", ["tmpfs", "limit"])
def test_a_full_disk(means: str, tmp_path: Path) -> None:
    namespace = _namespace(tmp_path) if means == "tmpfs" else []
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.faults.full_disk", means, tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    print(done.stdout or done.stderr, end="")
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert [each.partition(":")[0] for each in told] == ["download", "store", "commit"]


def _namespace(folder: Path) -> list[str]:
    """Return the command that lets its arguments mount a file system of their own."""
    unshare = ["unshare", "--map-root-user", "--mount"]
    mount = [*unshare, "mount", "-t", "tmpfs", "none", str(folder)]
    if not shutil.which("unshare") or subprocess.run(mount, check=False).returncode:
        pytest.skip("Nobody may mount a small disk here; the limit stands for it.")
    return unshare


def keeps(note: str) -> None:
    """Make nothing, with much in its record."""
    assert note


def test_a_database_without_room_for_a_result(sqlite_app: Aero) -> None:
    app = sqlite_app
    limit = 1 << 30

    @event.listens_for(app.db.engine, "checkout")
    def limited(connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={limit}").close()

    function = app.register_function(keeps)
    flow = app.register_flow("local", function, {}, {}, {"note": "x" * 1_000_000})
    with app.db.read() as tx:
        limit = tx.exec_driver_sql("PRAGMA page_count").scalar_one() + 20

    def more() -> None:
        nonlocal limit
        limit = 1 << 30

    says = r"did not take the result \(database or disk is full\): check"
    run = endure(app, flow, more, kind="OperationalError", says=says)
    assert is_one_sentence(run["error_message"])


# Stored bytes


def flip(file: Path) -> None:
    """Change one bit."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)


def cut(file: Path) -> None:
    """Lose the end."""
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES: dict[Callable[[Path], None], tuple[str, str]] = {
    flip: ("CorruptObjectError", "is damaged, .* hash to .*: restore it .* or run the"),
    cut: ("CorruptObjectError", "is damaged, .* hash to .*: restore it .* or run the"),
    Path.unlink: ("MissingObjectError", "is not in .*: restore it .* or run the flow"),
}


@pytest.fixture(params=DAMAGES, ids=lambda each: each.__name__)
def damage(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """What happens to a stored file."""
    return request.param


def stored_file(app: Aero, data: str) -> Path:
    """Return where the newest version of `data` is stored."""
    sha256 = app.get_version(data)["uri"].removeprefix("sha256:")
    return app.settings.store / "objects" / sha256[:2] / sha256


@pytest.mark.parametrize("function", [None, upper], ids=["stored", "transformed"])
def test_the_error_of_a_damaged_file_says_how_to_mend_it(
    function: Any, damage: Callable[[Path], None], app: Aero, publisher: Publisher
) -> None:
    """To run the flow that made it mends it, though its source did not change."""
    url = publisher.publish("cases", "one two three")
    uuid = function and app.register_function(function)
    origin = app.register_flow("local", uuid, None, {"cases": {"url": url}})
    recover(app, origin)
    user = analysis(app, length, {"cases": made(origin)}, policy="NONE")
    recover(app, user)
    file = stored_file(app, "cases")
    sound = file.read_bytes()
    damage(file)
    kind, says = DAMAGES[damage]
    suffer(app, user, kind=kind, says=says, status="PENDING", sound=False)
    assert app.run_flow(origin["id"], timeout=PATIENCE)["status"] == "UNCHANGED"
    assert file.read_bytes() == sound
    recover(app, user, status="UNCHANGED")
    assert [each["version"] for each in app.list_versions("cases")] == [1]


def test_a_reader_that_finds_damage_has_it_mended_as_well(
    app: Aero, publisher: Publisher, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    origin = source(app, publisher.publish("cases", "one two three"))
    recover(app, origin)
    damage(stored_file(app, "cases"))
    with pytest.raises(StorageError, match=DAMAGES[damage][1]):
        app.fetch_version("cases", tmp_path / "copy")
    recover(app, origin, status="UNCHANGED")
    app.fetch_version("cases", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "one two three"


def test_the_analysis_that_made_a_damaged_file_makes_it_again(
    app: Aero, publisher: Publisher, damage: Callable[[Path], None]
) -> None:
    origin = source(app, publisher.publish("cases", "one two three"))
    made_by = analysis(app, length, {"cases": made(origin)})
    recover(app, origin)
    file = stored_file(app, "n")
    sound = file.read_bytes()
    damage(file)
    recover(app, made_by, status="UNCHANGED")
    assert file.read_bytes() == sound
