"""Killed at any instruction: on restart every run ends, nothing is lost or doubled."""

import contextlib
import itertools
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import func, select

from aero.db.models import DataVersion, Provenance, Run, RunTrigger
from aero.testing import make_app
from tests.faults.zygote import MARK, Lives
from tests.invariants import check_invariants
from tests.loopback import Answer, Loopback, loopback

KILLS = 100
SOURCES, ROUNDS = 10, 10
SMALL = {"sources": 1, "rounds": 1}


@pytest.fixture
def server() -> Iterator[Loopback]:
    """Serves series that are different in every round."""
    with loopback() as found:
        yield found


def _publish(server: Loopback, *, sources: int, rounds: int) -> None:
    reached = [-1]

    def advance(number: int) -> Answer:
        reached[0] = max(reached[0], number)
        return Answer(body=b"")

    for number in range(rounds):
        server.at(f"/round/{number}", lambda _, number=number: advance(number))
    for number in range(sources):
        server.at(
            f"/{number}",
            lambda _, number=number: Answer(
                body=f"series {number} of round {reached[0]}".encode()
            ),
        )


def _check(home: Path, executed: Path, *, sources: int, rounds: int) -> str:
    """Assert that all is done once and nothing is left; return the figures."""
    # The first round's bytes may be what registration's own poll found already.
    with make_app(home) as app:
        found = check_invariants(app.db, store=home / "store", idle=True)
        assert found == []
        with app.db.read() as tx:
            statuses = dict(
                tx.execute(select(Run.status, func.count()).group_by(Run.status)).all()
            )
            versions = tx.execute(select(func.count(DataVersion.id))).scalar_one()
            commits = tx.execute(select(func.count(Provenance.id))).scalar_one()
            keys = Counter(
                key
                for (key,) in tx.execute(
                    select(RunTrigger.key).where(RunTrigger.kind == "manual")
                )
            )
    assert set(statuses) <= {"SUCCEEDED", "UNCHANGED"}
    assert keys == {f"manual:round-{n}": sources for n in range(rounds)}
    # Registration polls too, before the first round or together with it.
    least, most = 2 * sources * rounds, 2 * sources * (rounds + 1)
    assert least <= versions <= most
    assert commits == versions == statuses["SUCCEEDED"]
    executions = executed.read_text().splitlines()
    assert len(executions) >= commits
    assert len(set(executions)) == commits
    assert list((home / "scratch").iterdir()) == []
    return (
        f"{sum(statuses.values())} runs, {len(executions)} executions, "
        f"{commits} commits, {versions} versions"
    )


def _temporary(home: Path) -> list[Path]:
    return [p for p in (home / "store" / "tmp").rglob("*") if p.is_file()]


def _others(mark: str, known: int) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(MARK) == mark
        except psutil.Error:
            continue
        if marked and process.pid != known and process.status() != "zombie":
            found.append(" ".join(process.cmdline()))
    return found


def test_killed_a_hundred_times_at_random(tmp_path: Path, server: Loopback) -> None:
    seeded = random.Random(1849)
    home, executed = tmp_path / "home", tmp_path / "executed"
    _publish(server, sources=SOURCES, rounds=10 * ROUNDS)
    life: dict[str, Any] = {
        "home": str(home),
        "server": server.url,
        "executed": str(executed),
        "sources": SOURCES,
        "rounds": ROUNDS,
        "began": time.time(),
    }
    mark = str(uuid.uuid4())
    began, kills, started, ready = time.monotonic(), 0, 0, 0
    with Lives(mark, tmp_path / "stderr") as lives:
        while True:
            pid = lives.begin(**life)
            started += 1
            if kills < KILLS:
                if seeded.random() < 0.8 and lives.said("ready") == "":
                    ready += 1
                    time.sleep(seeded.uniform(0.0, 0.5))
                else:
                    time.sleep(seeded.uniform(0.0, 0.5))
                with contextlib.suppress(ProcessLookupError):
                    (os.killpg if kills % 3 == 0 else os.kill)(pid, signal.SIGKILL)
            said = lives.said("done")
            if said.startswith("ended -9"):
                kills += 1
                continue
            assert not said.startswith("ended"), said
            assert lives.said("ended") in {"0", "-9"}
            if kills >= KILLS:
                break
            # A quick machine: there must be work for as long as there are kills.
            life["rounds"] += 1
        seconds = time.monotonic() - began
        deadline = time.monotonic() + 10
        while _others(mark, lives.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _others(mark, lives.pid) == []
    figures = _check(home, executed, sources=SOURCES, rounds=life["rounds"])
    print(
        f"{kills} kills ({ready} at work), {started} starts, {figures}, {seconds:.0f} s"
    )
    assert kills >= KILLS
    assert _temporary(home) == []


def test_killed_once_at_every_boundary_of_a_transaction(
    tmp_path: Path, server: Loopback
) -> None:
    boundaries = 0
    with Lives(str(uuid.uuid4()), tmp_path / "stderr") as lives:
        for number in itertools.count(1):
            for place in ("before", "after"):
                home = tmp_path / f"{place}{number}"
                life: dict[str, Any] = {
                    "home": str(home),
                    "server": server.url,
                    "executed": str(tmp_path / f"executed-{place}{number}"),
                    "began": time.time(),
                    "inline": True,
                    **SMALL,
                }
                _publish(server, **SMALL)
                lives.begin(**life, deaths={place: number})
                said = lives.said("done")
                if said.startswith("ended"):
                    assert said == "ended -9"
                    boundaries += 1
                    lives.begin(**life)
                    assert not lives.said("done").startswith("ended")
                assert lives.said("ended") == "0"
                _check(home, Path(life["executed"]), **SMALL)
                assert _temporary(home) == []
            if not said.startswith("ended"):
                break
    print(f"{boundaries} boundaries of transactions")
    assert boundaries > 20


def test_a_new_process_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left = [tmp_path / "store" / "tmp" / "0a", tmp_path / "scratch" / "gone.1.0a" / "f"]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_text("half")
    with make_app(tmp_path) as app:
        app.start()
        app.stop()
        assert [path for path in left if path.exists()] == []
