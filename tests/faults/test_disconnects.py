"""Connections that are lost, and commits whose answer is: all is done once."""

import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from aero.app import Aero
from aero.error import ConflictError, DuplicateError
from aero.runs import lifecycle
from aero.runs.claiming import Claimer
from aero.testing import make_app
from tests.conftest import Publisher
from tests.invariants import check_invariants
from tests.scenarios import Held


def _ingest(app: Aero, url: str) -> None:
    app.register_flow("local", None, None, {"series": {"url": url}}, policy="INGESTION")
    app.run_until_idle(20)


def _once(app: Aero) -> None:
    (run,) = app.list_runs()
    assert (run["status"], run["attempt"]) == ("SUCCEEDED", 1)
    assert [each["version"] for each in app.list_versions("series")] == [1]
    assert len(list(app.list_metadata("prov"))) == 1
    assert check_invariants(app.db, store=app.settings.store, idle=True) == []


def test_a_commit_whose_answer_is_lost_is_looked_up(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = publisher.publish("series", "1")
    with make_app(tmp_path) as app:
        dialect = app.db.engine.dialect
        commit, lost = dialect.do_commit, []

        def committed(connection: Any) -> None:
            found = sqlite3.Cursor(connection.driver_connection).execute(
                "SELECT count(*) FROM provenance"
            )
            commit(connection)
            if found.fetchone()[0] and not lost:
                lost.append(True)
                raise sqlite3.OperationalError("database is locked")

        monkeypatch.setattr(dialect, "do_commit", committed)
        _ingest(app, url)
        assert lost
        _once(app)


class LostAnswer:
    """Loses the answer to the next commit that wrote, once it is asked to."""

    def __init__(self, app: Aero, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wanted = False
        self._dialect = app.db.engine.dialect
        self._commit = self._dialect.do_commit
        monkeypatch.setattr(self._dialect, "do_commit", self._losing)

    def __call__(self, call: Callable[[], Any]) -> Any:
        self.wanted = True
        found = call()
        assert not self.wanted, "nothing was committed"
        return found

    def _losing(self, connection: Any) -> None:
        self._commit(connection)
        if self.wanted:
            self.wanted = False
            raise sqlite3.OperationalError("database is locked")


def _noting(number: int) -> None:
    """Write nothing."""


def test_what_was_done_before_its_answer_was_lost_is_known_again(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a caller asked for once is neither refused as a duplicate nor done twice."""
    with make_app(tmp_path) as app:
        lost = LostAnswer(app, monkeypatch)
        function = lost(lambda: app.register_function(_noting))
        args = ("local", function, None, None, {"number": 1})
        flow = lost(lambda: app.register_flow(*args))
        with pytest.raises(DuplicateError):
            app.register_flow(*args)
        url = publisher.publish("a/1.csv", "1")
        source = lost(lambda: app.create_source("s", url, type_name="kind"))
        assert source["type_name"] == "kind"
        with pytest.raises(ConflictError):
            app.create_source("s", url, type_name="kind")
        run = lost(lambda: app.run_flow(flow["id"], wait=False))
        assert lost(lambda: app.cancel_run(run["id"]))["status"] == "CANCELLED"
        again = lost(lambda: app.retry_run(run["id"]))
        assert (again["id"], again["attempt"]) == (run["id"], 2)
        with pytest.raises(ConflictError, match="PENDING"):
            app.retry_run(run["id"])
        lost(lambda: app.notify(url=url))
        app.run_until_idle(20)
        assert [r["status"] for r in app.list_runs()] == ["SUCCEEDED"] * 2
        assert len(list(app.list_versions("s"))) == 1
        assert len(list(app.list_metadata("flow"))) == 2
        lost(lambda: app.delete_flow(flow["id"]))
        assert check_invariants(app.db, store=app.settings.store, idle=True) == []


def _ask(app: Aero) -> None:
    noting = app.register_function(_noting)
    flow = app.register_flow("local", noting, kwargs={"number": 1})
    app.run_flow(flow["id"], wait=False)


def test_a_claim_whose_answer_is_lost_is_known_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the first attempt: a newer run that waits would put an end to a second."""
    with make_app(tmp_path) as app:
        _ask(app)
        claim, lost = Claimer._take, []

        def losing(*args: Any, **more: Any) -> Any:
            found = claim(*args, **more)
            if found and not lost:
                lost.append(found)
                answer.wanted = True
            return found

        answer = LostAnswer(app, monkeypatch)
        monkeypatch.setattr(Claimer, "_take", losing)
        app.run_until_idle(20)
        assert lost
        (run,) = app.list_runs()
        assert (run["status"], run["attempt"]) == ("SUCCEEDED", 1)
        assert check_invariants(app.db, idle=True) == []


def test_a_claim_that_was_forgotten_is_found_at_the_next_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only when its lease ran out: it carries the name of a living process."""
    with make_app(tmp_path, lease=3600.0, heartbeat=0.05) as app:
        _ask(app)
        take, lost = Claimer.take, []

        def forgetting(claimer: Claimer, room: int) -> Any:
            found = take(claimer, room)
            if found and not lost:
                lost.append(found)
                return []
            return found

        monkeypatch.setattr(Claimer, "take", forgetting)
        app.run_until_idle(20)
        assert lost
        (run,) = app.list_runs()
        assert (run["status"], run["attempt"]) == ("SUCCEEDED", 2)


def test_after_an_outage_those_who_live_keep_their_runs(
    postgres_url: str, tmp_path: Path
) -> None:
    """Their leases ran out meanwhile; whoever is back first takes nothing at once."""
    options: dict[str, Any] = {"database_url": postgres_url, "heartbeat": 1800.0}
    with (
        make_app(tmp_path / "h", executor=Held(), lease=3600.0, **options) as one,
        make_app(tmp_path / "h", executor=Held(), lease=3600.0, **options) as two,
    ):
        flow = one.register_flow(
            "local", one.register_function(_noting), kwargs={"number": 1}
        )
        run = one.run_flow(flow["id"], wait=False)["id"]
        first, second = one.engine._ready(), two.engine._ready()
        first.step()
        second.step()
        expire = "UPDATE run SET lease_expires = clock_timestamp() - interval '1 s'"
        one.db.write(lambda tx: tx.execute(text(expire)))
        _outage(two)
        second._beat()
        assert one.get_run(run)["status"] == "RUNNING"
        first._beat()
        two.db.outages._ended = -math.inf
        second._beat()
        assert one.get_run(run)["status"] == "RUNNING"
        one.db.write(lambda tx: tx.execute(text(expire)))
        second._beat()
        assert one.get_run(run)["status"] == "PENDING"


def _outage(app: Aero) -> None:
    refused = [OperationalError(None, None, Exception("connection refused"))]

    def work() -> None:
        if refused:
            raise refused.pop()

    app.db.outages.repeat(work)


def test_a_connection_lost_within_a_commit_repeats_it(
    postgres_url: str,
    tmp_path: Path,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge, lost = lifecycle.judge, []

    def losing(tx: Any, *args: Any) -> Any:
        if not lost:
            lost.append(tx.execute(text("SELECT pg_backend_pid()")).scalar_one())
            _terminate(postgres_url, lost[0])
        return judge(tx, *args)

    monkeypatch.setattr(lifecycle, "judge", losing)
    url = publisher.publish("series", "1")
    with make_app(tmp_path, database_url=postgres_url) as app:
        _ingest(app, url)
        assert lost
        _once(app)


def _terminate(url: str, backend: int) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})
    engine.dispose()
