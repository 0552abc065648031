"""The database goes away under load: workers go on by themselves, all is done once."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, make_url, select

from aero import query
from aero.app import Aero
from aero.db.models import DataVersion, Provenance, Run, RunTrigger
from aero.error import DatabaseUnavailableError
from aero.testing import make_app
from tests.cluster import Cluster, private_cluster
from tests.faults.outage_functions import copy, draw, idle
from tests.invariants import check_invariants
from tests.proxy import proxy
from tests.scenarios import Held

FLOWS = 8
PATIENCE = 120
BEGAN, ENDED = "it is tried until it does", "answers again"


@pytest.fixture
def server() -> Iterator[Cluster]:
    """A PostgreSQL that only this test uses."""
    with private_cluster() as found:
        yield found


class Load:
    """Two worker processes, and a caller that never stops triggering."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.url = url
        self.executed = home / "executed"
        self.rounds = 0
        self.refused = 0
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._caller = threading.Thread(target=self._keep_calling)
        self._workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Load":
        self.executed.parent.mkdir(parents=True)
        self.executed.touch()
        with make_app(self.home, database_url=self.url) as app:
            self._register(app)
        for number in range(2):
            with (self.home / f"worker{number}").open("wb") as log:
                self._workers.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "aero", "work"],
                        env=os.environ
                        | {
                            "AERO_HOME": str(self.home),
                            "AERO_DATABASE_URL": self.url,
                            "AERO_WORKERS": "1",
                        },
                        stdout=log,
                        stderr=log,
                    )
                )
        self._caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._caller.join(PATIENCE)
        for worker in self._workers:
            worker.kill()
            worker.wait(20)

    def _register(self, app: Aero) -> None:
        functions = app.register_function(draw), app.register_function(copy)
        executed = {"executed": str(self.executed)}
        self.flows = []
        for number in range(FLOWS):
            flow = app.register_flow(
                "local",
                functions[0],
                None,
                {"drawn": {}},
                {**executed, "number": number},
            )
            made = {"drawn": {"id": flow["contributed_to"][0]["id"]}}
            app.register_flow(
                "local", functions[1], made, {"copied": {}}, executed, policy="ANY"
            )
            self.flows.append(flow["id"])

    def _keep_calling(self) -> None:
        try:
            with make_app(self.home, database_url=self.url) as app:
                while not self._stop.wait(0.05):
                    for flow in self.flows:
                        self._call(app, flow)
                    self.rounds += 1
        except BaseException as error:  # noqa: BLE001 -- the test raises it
            self.error = error

    def _call(self, app: Aero, flow: str) -> None:
        """Trigger a flow; as the error says, try again."""
        for _ in range(50):
            try:
                app.run_flow(flow, wait=False, idempotency_key=f"{self.rounds}")
            except DatabaseUnavailableError:
                self.refused += 1
            else:
                return
        raise AssertionError("the database never came back")

    def said(self) -> str:
        """Return what the workers wrote."""
        return "".join(
            (self.home / f"worker{number}").read_text() for number in range(2)
        )

    def until_executed(self, count: int) -> None:
        """Wait until so many executions more were noted; workers must be working."""
        goal = len(self.executed.read_text().splitlines()) + count
        deadline = time.monotonic() + PATIENCE
        while len(self.executed.read_text().splitlines()) < goal:
            assert time.monotonic() < deadline, f"nothing is done: {self.said()}"
            assert self.error is None, self.error
            time.sleep(0.02)

    def finish(self, url: str) -> dict[str, Any]:
        """Let the workers do what is left and stop; return the figures."""
        self._stop.set()
        self._caller.join(PATIENCE)
        assert self.error is None, self.error
        with make_app(self.home, database_url=url, workers=1) as app:
            deadline = time.monotonic() + PATIENCE
            while not app.db.look(app.engine._idle):
                assert time.monotonic() < deadline, self.said()
                time.sleep(0.1)
            assert [w.poll() for w in self._workers] == [None, None], self.said()
            for worker in self._workers:
                worker.send_signal(signal.SIGTERM)
            assert [w.wait(60) for w in self._workers] == [0, 0], self.said()
            return self._check(app)

    def _check(self, app: Aero) -> dict[str, Any]:
        assert check_invariants(app.db, store=self.home / "store", idle=True) == []
        with app.db.read() as tx:
            runs = tx.execute(
                select(Run.status, Run.finished_at, Run.attempt, Run.error_message)
            ).all()
            keys = Counter(
                tuple(row)
                for row in tx.execute(
                    select(RunTrigger.flow_id, RunTrigger.key).where(
                        RunTrigger.kind == "manual"
                    )
                )
            )
            versions = tx.execute(select(func.count(DataVersion.id))).scalar_one()
            commits = tx.execute(select(func.count(Provenance.id))).scalar_one()
        assert {(run.status, run.error_message) for run in runs} == {
            ("SUCCEEDED", None)
        }
        wanted = {(f, f"manual:{n}") for f in self.flows for n in range(self.rounds)}
        assert wanted <= keys.keys()
        assert set(keys.values()) == {1}
        executions = self.executed.read_text().splitlines()
        assert len(executions) == len(set(executions)) == len(runs)
        assert versions == commits == len(runs)
        assert list((self.home / "scratch").iterdir()) == []
        ends = sorted(run.finished_at for run in runs)
        gaps = [
            (later - end).total_seconds() for end, later in itertools.pairwise(ends)
        ]
        return {
            "runs": len(runs),
            "triggers": len(keys),
            "claimed again": sum(run.attempt > 1 for run in runs),
            "told to try again": self.refused,
            "longest stall": f"{max(gaps):.1f} s",
        }


def test_a_server_that_crashes_again_and_again(server: Cluster, tmp_path: Path) -> None:
    seeded = random.Random(1849)
    crashes = 4
    with Load(tmp_path / "home", server.url) as load:
        for _ in range(crashes):
            load.until_executed(10)
            time.sleep(seeded.uniform(0.0, 0.3))
            server.crash()
        load.until_executed(10)
        figures = load.finish(server.url)
        said = load.said()
    print(f"{crashes} crashes of PostgreSQL: {figures}")
    # Once for each outage and no more, from each of the two.
    assert 2 <= said.count(BEGAN) <= 2 * crashes
    assert said.count(ENDED) == said.count(BEGAN)
    assert "Traceback" not in said
    assert figures["runs"] >= 10 * crashes


def test_connections_cut_in_mid_transaction(postgres_url: str, tmp_path: Path) -> None:
    url = make_url(postgres_url)
    assert url.host is not None
    with proxy(url.host, url.port or 5432, seed=1849) as line:
        through = url.set(host="127.0.0.1", port=line.port)
        through = through.update_query_dict({"connect_timeout": "2"})
        shown = through.render_as_string(hide_password=False)
        with Load(tmp_path / "home", shown) as load:
            load.until_executed(1)
            line.cutting = True
            for _ in range(2):
                load.until_executed(20)
                line.fall_silent(2.5)
            load.until_executed(20)
            line.cutting = False
            figures = load.finish(postgres_url)
            said = load.said()
        print(
            f"{line.cuts} connections cut in mid-transaction, {line.lost_answers} with "
            f"the statement's answer, {line.holes} silences of 2.5 s: {figures}"
        )
        assert line.cuts > 20
        assert 0 < line.lost_answers < line.cuts
    assert said.count(ENDED) == said.count(BEGAN)
    assert "Traceback" not in said


def test_a_worker_stops_while_the_database_is_away(
    postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = make_url(postgres_url)
    assert url.host is not None
    with proxy(url.host, url.port or 5432, seed=1849) as line:
        through = url.set(host="127.0.0.1", port=line.port)
        shown = through.render_as_string(hide_password=False)
        with make_app(tmp_path, executor=Held(), database_url=shown) as app:
            flow = app.register_flow("local", app.register_function(idle))
            app.start()
            run = app.run_flow(flow["id"], wait=False)["id"]
            app.engine.run_until(lambda tx: query.run_detail(tx, run)["started_at"], 60)
            line.stop()
            began = time.monotonic()
            app.stop()
            seconds = time.monotonic() - began
    print(f"stopped in {seconds:.1f} s while the database was away")
    assert seconds < PATIENCE / 2
    assert "Others go on with what ran here" in caplog.text
    assert "Traceback" not in caplog.text
    with make_app(tmp_path, database_url=postgres_url) as app:
        assert app.get_run(run)["status"] == "RUNNING"
        assert check_invariants(app.db) == []
