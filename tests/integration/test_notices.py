"""A flow that fails tells whom it names, once; and once when it works again."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import event, select

from aero import AeroOutput, delivery
from aero.app import Aero
from aero.auth.base import EVERYTHING, Identity
from aero.cli.root import aero
from aero.client import AeroClient
from aero.clock import utc_now
from aero.db.models import Notice
from aero.db.queries import notices as queries
from aero.db.session import Database
from aero.error import (
    ConfigError,
    DatabaseUnavailableError,
    ForbiddenError,
    InvalidValueError,
)
from aero.server.serving import serving
from aero.testing import FrozenClock, make_app
from tests.conftest import Publisher
from tests.loopback import Answer, Loopback, loopback
from tests.mail_server import Mailbox, mail_server
from tests.scenarios import another, tick, written
from tests.waiting import until

SECRET = "s3cr3t"

# What Apprise imports is deprecated, or was removed.
LIBRARY = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Receiver:
    """A webhook, and what it was told."""

    def __init__(self, server: Loopback) -> None:
        self.server = server
        self.url = f"{server.url}/hook/{SECRET}?token={SECRET}"
        self.answer(200)

    def answer(self, status: int, **headers: str) -> None:
        self.server.script(Answer(status, headers=headers))

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.server.bodies]

    @property
    def kinds(self) -> list[str]:
        return [each["kind"] for each in self.told]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with loopback() as server:
        yield Receiver(server)


class Flaky:
    """A flow that fails while its file says so."""

    def __init__(
        self, app: Aero, tmp_path: Path, *, name: str = "cholera_rt", **options: Any
    ) -> None:
        self.app = app
        self.file = tmp_path / "fails"
        body = f"""
            from pathlib import Path

            print("looking at it")
            found = Path({str(self.file)!r})
            if found.exists():
                raise ValueError(found.read_text())
            Path("rt.txt").write_text("fine")
            return AeroOutput({name!r}, "rt.txt")
        """
        self.flow = app.register_flow(
            "local",
            app.register_function(written(tmp_path, "estimate", body)),
            {},
            {name: {}},
            description="R(t) of 1849",
            **options,
        )
        self.id = str(self.flow["id"])

    def run(self, error: str | None = None) -> dict[str, Any]:
        """Run it, let it fail with this error, and deliver what is due."""
        if error is None:
            self.file.unlink(missing_ok=True)
        else:
            self.file.write_text(error)
        run = self.app.run_flow(self.id)
        self.app.run_until_idle(30)
        return run


@pytest.fixture
def flaky(app: Aero, tmp_path: Path, receiver: Receiver) -> Flaky:
    return Flaky(app, tmp_path, notify=[receiver.url])


def honest(objects):
    """Fail where the file says so."""
    from pathlib import Path

    if Path(objects).read_text().startswith("bad"):
        raise ValueError("bad file")
    return AeroOutput("objects", objects)


def stored(app: Aero) -> list[Any]:
    with app.db.read() as tx:
        return list(tx.execute(select(Notice.__table__).order_by(Notice.created_at)))


# -- when ------------------------------------------------------------------------------


def test_a_flow_that_keeps_failing_tells_once_and_once_that_it_recovered(
    flaky: Flaky, receiver: Receiver, clock: FrozenClock
) -> None:
    flaky.run()
    assert receiver.kinds == []
    for _ in range(3):
        flaky.run("no good")
        clock.advance(timedelta(hours=1))
    assert receiver.kinds == ["failed"]
    since = flaky.app.explain(flaky.id)["failing_since"]
    assert since == receiver.told[0]["at"]
    for _ in range(2):
        flaky.run()
        clock.advance(timedelta(hours=1))
    assert receiver.kinds == ["failed", "recovered"]
    assert receiver.told[1]["failing_since"] == since
    assert flaky.app.explain(flaky.id)["failing_since"] is None
    flaky.run("no good again")
    assert receiver.kinds == ["failed", "recovered", "failed"]


def test_only_the_last_try_of_a_run_is_told(
    app: Aero, tmp_path: Path, receiver: Receiver, clock: FrozenClock
) -> None:
    flaky = Flaky(app, tmp_path, notify=receiver.url, retries=1)
    flaky.file.write_text("no good")
    app.run_flow(flaky.id, wait=False)
    app.engine.run_ready()
    assert stored(app) == []
    clock.advance(10)
    app.run_until_idle(30)
    assert [each["attempt"] for each in receiver.told] == [2]


def test_what_was_cancelled_or_superseded_is_not_told(
    app: Aero, tmp_path: Path, receiver: Receiver, clock: FrozenClock
) -> None:
    flaky = Flaky(app, tmp_path, notify=receiver.url, retries=1)
    flaky.file.write_text("no good")
    app.run_flow(flaky.id, wait=False)
    app.engine.run_ready()
    run = app.run_flow(flaky.id, wait=False)
    app.cancel_run(run["id"])
    assert app.get_run(run["id"])["status"] == "CANCELLED"
    app.run_until_idle(30)
    assert stored(app) == []


def test_a_run_that_is_retried_and_fails_again_is_told_again(
    flaky: Flaky, receiver: Receiver, clock: FrozenClock
) -> None:
    failed = flaky.run("no good")
    flaky.run()
    assert receiver.kinds == ["failed", "recovered"]
    flaky.file.write_text("still no good")
    flaky.app.retry_run(failed["id"])
    flaky.app.run_until_idle(30)
    first, _, again = receiver.told
    assert (again["kind"], again["run_id"]) == ("failed", first["run_id"])
    assert (again["attempt"], again["error_message"]) == (2, "still no good")
    assert again["id"] != first["id"]


def test_a_sweep_has_recovered_once_no_task_fails(
    app: Aero, tmp_path: Path, receiver: Receiver, clock: FrozenClock
) -> None:
    bad = tmp_path / "bad"
    body = f"""
        from pathlib import Path

        if mark in Path({str(bad)!r}).read_text():
            raise ValueError(mark)
        Path("made.txt").write_text(mark)
        return AeroOutput("made", "made.txt")
    """
    flow = app.register_flow(
        "local",
        app.register_function(written(tmp_path, "picky", body, "mark")),
        {},
        {"made": {}},
        config=[{"mark": mark} for mark in "abcd"],
        notify=receiver.url,
    )
    told = []
    for marks in ("ac", "ac", "c", "cb", "b", "", ""):
        bad.write_text(marks)
        app.run_flow(flow["id"])
        app.run_until_idle(30)
        told.append(receiver.kinds)
        receiver.server.bodies.clear()
        clock.advance(60)
    assert told == [["failed"], [], [], [], [], ["recovered"], []]


def test_objects_stand_for_themselves(
    app: Aero, receiver: Receiver, clock: FrozenClock, publisher: Publisher
) -> None:
    app.create_source(
        "objects",
        publisher.url("o/*"),
        function_uuid=app.register_function(honest),
        type_name="objects",
        notify=receiver.url,
    )

    def told(name: str, content: str) -> list[tuple[str, str]]:
        receiver.server.bodies.clear()
        clock.advance(60)
        app.notify(url=publisher.publish(f"o/{name}", content))
        app.run_until_idle(30)
        return [(each["kind"], each["source_key"]) for each in receiver.told]

    assert told("a", "bad 1") == [("failed", "o/a")]
    # Of what fails together one is told; what fails after others went well is news.
    assert told("b", "bad 1") == []
    assert told("c", "fine 1") == []
    assert told("d", "bad 1") == [("failed", "o/d")]
    assert told("c", "fine 2") == []
    assert told("d", "bad 2") == []
    assert told("a", "bad 2") == []
    assert told("d", "fine 2") == [("recovered", "o/d")]
    assert told("a", "bad 3") == [("failed", "o/a")]


# -- what ------------------------------------------------------------------------------


def test_a_webhook_is_told_all_of_it_and_the_record_shows_no_secret(
    flaky: Flaky, receiver: Receiver, clock: FrozenClock
) -> None:
    run = flaky.run("no good\nat all")
    (told,) = receiver.told
    (path, headers) = receiver.server.requests[0]
    assert path == f"/hook/{SECRET}?token={SECRET}"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Aero-Notice"] == told["id"]
    subject = "aero: cholera_rt failed: ValueError: no good at all"
    assert told == {
        "id": told["id"],
        "kind": "failed",
        "subject": subject,
        "text": told["text"],
        "flow_id": flaky.id,
        "flow": "cholera_rt",
        "description": "R(t) of 1849",
        "run_id": run["id"],
        "task": 0,
        "source_key": "",
        "attempt": 1,
        "at": clock().isoformat(),
        "failing_since": None,
        "error_type": "ValueError",
        "error_message": "no good\nat all",
        "log": ["looking at it"],
        "command": f"aero logs {run['id'][:8]}",
    }
    for word in (flaky.id, run["id"], "looking at it", told["command"], "no good"):
        assert word in told["text"]
    flow = flaky.app.get_flow(flaky.id, inputs_only=False)
    assert flow["notify"] == [f"{receiver.server.url}/***"]
    assert flow["email"] == []


def test_a_redirect_is_not_followed_and_its_target_not_told(
    flaky: Flaky, receiver: Receiver
) -> None:
    receiver.answer(307, Location=f"{receiver.server.url}/elsewhere")
    flaky.run("no good")
    assert len(receiver.told) == 1
    (undelivered,) = flaky.app.explain(flaky.id)["undelivered"]
    assert undelivered["error"] == (
        f"{receiver.server.url}/*** answered with status 307: name the address it "
        "redirects to."
    )


def test_private_addresses_are_refused_where_sources_may_not_have_them(
    tmp_path: Path, sqlite_url: str, clock: FrozenClock, receiver: Receiver
) -> None:
    options = {"database_url": sqlite_url, "allow_private_addresses": False}
    with make_app(tmp_path / "home", clock=clock, **options) as app:
        flaky = Flaky(app, tmp_path, notify=receiver.url)
        flaky.run("no good")
        (undelivered,) = app.explain(flaky.id)["undelivered"]
    assert "a loopback address, and those are refused" in undelivered["error"]
    assert SECRET not in json.dumps(undelivered)
    assert receiver.told == []


# -- delivery --------------------------------------------------------------------------


def test_what_was_not_taken_is_tried_again(
    flaky: Flaky, receiver: Receiver, clock: FrozenClock
) -> None:
    receiver.answer(500)
    flaky.run("no good")
    (undelivered,) = flaky.app.explain(flaky.id)["undelivered"]
    later = clock() + timedelta(minutes=1)
    assert undelivered == {
        "id": receiver.told[0]["id"],
        "run_id": receiver.told[0]["run_id"],
        "kind": "failed",
        "target": f"{receiver.server.url}/***",
        "attempts": 1,
        "error": f"{receiver.server.url}/*** answered with status 500: check the "
        "address and what is there.",
        "next_attempt": later.isoformat(),
    }
    status = flaky.app.status()
    assert (status["notices_waiting"], status["notices_undelivered"]) == (1, 1)
    clock.advance(59)
    flaky.app.run_until_idle(30)
    assert len(receiver.told) == 1
    receiver.answer(204)
    clock.advance(1)
    flaky.app.run_until_idle(30)
    assert receiver.told[0] == receiver.told[1]
    clock.advance(timedelta(days=1))
    flaky.app.run_until_idle(30)
    assert len(receiver.told) == 2
    assert flaky.app.explain(flaky.id)["undelivered"] == []
    status = flaky.app.status()
    assert (status["notices_waiting"], status["notices_undelivered"]) == (0, 0)
    (notice,) = stored(flaky.app)
    assert (notice.attempts, notice.error) == (2, None)


def test_after_a_day_it_is_given_up_and_that_is_logged_once(
    flaky: Flaky,
    receiver: Receiver,
    clock: FrozenClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.answer(500)
    began = clock()
    flaky.run("no good")
    while (at := stored(flaky.app)[0].not_before) is not None:
        assert at > clock()
        clock.set(at)
        flaky.app.run_until_idle(30)
    assert timedelta(hours=22) < clock() - began < timedelta(hours=25)
    assert 20 < len(receiver.told) < 40
    (undelivered,) = flaky.app.explain(flaky.id)["undelivered"]
    assert undelivered["next_attempt"] is None
    assert "status 500" in undelivered["error"]
    said = [r.getMessage() for r in caplog.records if "given up" in r.getMessage()]
    assert len(said) == 1
    assert SECRET not in said[0]
    assert flaky.app.status()["notices_undelivered"] == 1


def test_two_processes_send_a_notice_once(
    flaky: Flaky, receiver: Receiver, clock: FrozenClock
) -> None:
    flaky.file.write_text("no good")
    flaky.app.run_flow(flaky.id)
    both, release = threading.Barrier(2), threading.Event()

    def slow(_: Message) -> Answer:
        release.wait(10)
        return Answer(200)

    receiver.server.script(slow)

    def deliver(app: Aero) -> None:
        both.wait(10)
        app.run_until_idle(30)

    with another(flaky.app, clock=clock) as other:
        threads = [
            threading.Thread(target=deliver, args=(app,)) for app in (flaky.app, other)
        ]
        for thread in threads:
            thread.start()
        while not receiver.told:
            threading.Event().wait(0.01)
        release.set()
        for thread in threads:
            thread.join()
    assert len(receiver.told) == 1
    assert [notice.attempts for notice in stored(flaky.app)] == [1]


def test_without_the_claim_they_would_send_it_twice(
    flaky: Flaky,
    receiver: Receiver,
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flaky.file.write_text("no good")
    flaky.app.run_flow(flaky.id)
    with another(flaky.app, clock=clock) as other:
        first = flaky.app.engine._courier
        taken = flaky.app.db.write(lambda tx: first._claim(tx, 4, 0.0))
        assert len(taken) == 1
        other.run_until_idle(30)
        assert receiver.told == []
        clock.advance(60)
        monkeypatch.setattr(queries, "begin_attempt", lambda *_: None)
        taken = flaky.app.db.write(lambda tx: first._claim(tx, 4, 0.0))
        assert len(taken) == 1
        monkeypatch.undo()
        monkeypatch.setattr(type(other.db), "now", lambda db, _tx: db.clock())
        other.run_until_idle(30)
        assert len(receiver.told) == 1


def test_one_sent_by_a_process_that_died_is_sent_again_with_its_id(
    flaky: Flaky, receiver: Receiver, clock: FrozenClock
) -> None:
    with another(flaky.app, clock=clock) as dying:

        def die(_: Message) -> Answer:
            dying.engine._courier.close()
            return Answer(200)

        receiver.server.script(die, Answer(200))
        flaky.file.write_text("no good")
        dying.run_flow(flaky.id)
        dying.run_until_idle(30)
    assert len(receiver.told) == 1
    flaky.app.run_until_idle(30)
    assert len(receiver.told) == 1
    clock.advance(60)
    flaky.app.run_until_idle(30)
    first, again = receiver.told
    assert first == again
    flaky.app.run_until_idle(30)
    assert len(receiver.told) == 2


def test_one_sent_by_a_process_that_was_killed_is_sent_again(
    tmp_path: Path,
    database_url: str,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("AERO_HOME", str(home))
    killed: list[subprocess.Popen[bytes]] = []
    started = threading.Event()

    def kill(_: Message) -> Answer:
        started.wait(30)
        killed[0].kill()
        killed[0].wait(30)
        return Answer(200)

    receiver.server.script(kill, Answer(200))
    with make_app(home, database_url=database_url) as app:
        flaky = Flaky(app, tmp_path, notify=receiver.url)
        flaky.file.write_text("no good")
        app.run_flow(flaky.id)
        killed.append(subprocess.Popen([sys.executable, "-m", "aero", "work"]))
        started.set()
        assert killed[0].wait(60) == -signal.SIGKILL
        clock = FrozenClock(utc_now())
        monkeypatch.setattr(Database, "now", lambda _, __: clock())
        app.run_until_idle(30)
        assert len(receiver.told) == 1
        clock.advance(61)
        app.run_until_idle(30)
        assert len(receiver.told) == 2
        assert receiver.told[0] == receiver.told[1]
        assert stored(app)[0].attempts == 2


def test_a_receiver_that_hangs_holds_up_nothing(
    tmp_path: Path,
    database_url: str,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE", 0.2)
    monkeypatch.setattr(delivery, "AT_ONCE", 1)
    release = threading.Event()

    def hang(_: Message) -> Answer:
        release.wait(10)
        return Answer(200)

    with (
        loopback() as other,
        make_app(tmp_path / "home", database_url=database_url) as app,
    ):
        receiver.server.script(hang)
        other.script(Answer(200))
        flaky = Flaky(app, tmp_path, notify=[receiver.url])
        app.start()
        flaky.file.write_text("no good")
        assert app.run_flow(flaky.id, timeout=10)["status"] == "FAILED"
        while not receiver.told:
            threading.Event().wait(0.01)
        # Its thread still waits: runs run, and who comes next is told.
        second = Flaky(app, tmp_path, name="second", notify=[other.url])
        assert app.run_flow(second.id, timeout=10)["status"] == "FAILED"
        app.run_until_idle(10)
        assert len(other.bodies) == 1
        (undelivered,) = app.explain(flaky.id)["undelivered"]
        assert "did not answer in 0.2 s" in undelivered["error"]
        # What it takes after all is not sent again.
        release.set()
        until(lambda: all(notice.sent_at for notice in stored(app)))
        assert app.status()["notices_undelivered"] == 0


# -- whom ------------------------------------------------------------------------------


def test_whom_a_flow_tells_can_be_changed(
    flaky: Flaky, receiver: Receiver, clock: FrozenClock
) -> None:
    app = flaky.app
    receiver.answer(500)
    flaky.run("no good")
    assert len(stored(app)) == 1
    with pytest.warns(UserWarning, match="smtp_url"):
        flow = app.set_flow(flaky.id, email="ada@example.org, bob@example.org")
    assert flow["notify"] == [f"{receiver.server.url}/***"]
    assert flow["email"] == ["ada@example.org", "bob@example.org"]
    flow = app.set_flow(flaky.id, notify=[])
    assert (flow["notify"], len(flow["email"])) == ([], 2)
    # Who is no longer to be told is told nothing more, and the others of the end.
    assert stored(app) == []
    with loopback() as other:
        other.script(Answer(200))
        flow = app.set_flow(flaky.id, email=None, notify=other.url)
        assert (flow["email"], flow["notify"]) == ([], [other.url])
        flaky.run()
        assert json.loads(other.bodies[0])["kind"] == "recovered"
    app.set_flow(flaky.id, notify=None)
    flaky.run("no good")
    assert app.explain(flaky.id)["failing_since"] is None
    assert len(receiver.told) == 1


@LIBRARY
def test_from_afar_only_mail_and_webhooks_may_be_named(
    tmp_path: Path, sqlite_url: str
) -> None:
    with (
        make_app(tmp_path / "home", database_url=sqlite_url) as app,
        serving(app, api_only=True) as url,
        AeroClient(url) as client,
    ):
        function = client.register_function(tick)
        here = app.acting_as(Identity(id="a", name="A", scopes=EVERYTHING))
        for target in ("file://etc/passwd", "dbus://x", f"slack://{SECRET}"):
            with pytest.raises(ForbiddenError) as caught:
                client.register_flow("local", function, notify=target)
            assert SECRET not in str(caught.value)
            with pytest.raises(ForbiddenError):
                client.create_source("s", "http://h/x", notify=[target])
            with pytest.raises(ForbiddenError):
                here.register_flow("local", function, notify=[target])
        told = {"email": ["ada@example.org"], "notify": ["https://h.example/a/b"]}
        flow = client.register_flow("local", function, **told)
        assert flow["email"] == told["email"]
        assert flow["notify"] == ["https://h.example/***"]
        made = client.create_source("s", "http://h/x", **told)
        found = client.get_flow(made["flow_id"], inputs_only=False)
        assert (found["email"], found["notify"]) == (flow["email"], flow["notify"])
        with pytest.raises(ForbiddenError, match="aero set"):
            client.set_flow(flow["id"], notify=["syslog://x"])
        # What somebody here named stays when others are changed from afar.
        app.set_flow(flow["id"], notify="json://127.0.0.1:1/x")
        changed = client.set_flow(flow["id"], email=[])
        assert (changed["email"], changed["notify"]) == ([], ["json://***"])


@LIBRARY
def test_a_target_that_nothing_reaches_is_refused_and_nothing_is_stored(
    sqlite_app: Aero, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = sqlite_app.register_function(tick)
    with pytest.raises(InvalidValueError, match="cannot read the target slack"):
        sqlite_app.register_flow("local", function, notify=f"slack://{SECRET}")
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"aero-orchestrator\[notices\]"):
        sqlite_app.register_flow("local", function, notify="json://127.0.0.1:1/x")
    assert list(sqlite_app.list_metadata("flow")) == []


# -- what it costs, and how long it is kept --------------------------------------------


class Statements:
    """What a database is told while the block runs."""

    def __init__(self, app: Aero) -> None:
        self._engine = app.db.engine
        self.said: list[str] = []

    def __enter__(self) -> "Statements":
        event.listen(self._engine, "before_cursor_execute", self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._hear)

    def _hear(self, _: Any, __: Any, statement: str, *rest: Any) -> None:
        self.said.append(statement)

    def about(self, word: str) -> list[str]:
        return [each for each in self.said if word in each]


def test_a_flow_that_tells_nobody_costs_its_runs_nothing(
    app: Aero, tmp_path: Path, clock: FrozenClock
) -> None:
    quiet = Flaky(app, tmp_path)
    quiet.run()
    with Statements(app) as while_well:
        app.run_flow(quiet.id)
    assert while_well.about("notice") == []
    # The one that notes when it was executed last, as ever.
    assert len(while_well.about("UPDATE flow ")) == 1
    quiet.file.write_text("no good")
    with Statements(app) as while_failing:
        app.run_flow(quiet.id)
    assert while_failing.about("notice") == []
    assert while_failing.about("UPDATE flow ") == []
    writes = app.db.writes
    app.run_flow(quiet.id)
    assert app.db.writes - writes == 3
    with Statements(app) as while_idle:
        app.run_until_idle(30)
    assert len(while_idle.about("notice")) == 1


def test_what_a_flow_tells_costs_no_transaction_of_its_run(
    flaky: Flaky, receiver: Receiver, clock: FrozenClock
) -> None:
    flaky.run()
    flaky.file.write_text("no good")
    writes = flaky.app.db.writes
    flaky.app.run_flow(flaky.id)
    assert flaky.app.db.writes - writes == 3
    assert len(stored(flaky.app)) == 1


def test_a_run_is_kept_until_it_was_told_of(
    tmp_path: Path, database_url: str, clock: FrozenClock, receiver: Receiver
) -> None:
    options = {"database_url": database_url, "retention_days": 0}
    with make_app(tmp_path / "home", clock=clock, **options) as app:
        flaky = Flaky(app, tmp_path, notify=receiver.url)
        receiver.answer(500)
        flaky.run("no good")
        clock.advance(60)
        assert app.gc(dry_run=True)["pruned_runs"] == 0
        assert app.gc()["pruned_runs"] == 0
        receiver.answer(200)
        app.run_until_idle(30)
        clock.advance(60)
        assert app.gc()["pruned_runs"] == 1
        assert stored(app) == []
        # It recovers all the same, and says so.
        flaky.run()
        assert receiver.kinds[-1] == "recovered"


# -- processes -------------------------------------------------------------------------


def test_one_process_fails_and_another_one_tells(
    flaky: Flaky, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    """On PostgreSQL it is woken; on SQLite it looks."""
    on_sqlite = flaky.app.db.is_sqlite
    monkeypatch.setattr(delivery, "_LOOK_EVERY", 0.2 if on_sqlite else 600.0)
    flaky.file.write_text("no good")
    with another(flaky.app) as telling:
        telling.start()
        flaky.app.run_flow(flaky.id)
        until(lambda: receiver.told)
        telling.run_until_idle(30)
        telling.stop(grace=5)
    assert receiver.kinds == ["failed"]


def test_the_process_in_which_it_fails_tells_at_once(
    tmp_path: Path,
    database_url: str,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "_LOOK_EVERY", 600.0)
    with make_app(tmp_path / "home", database_url=database_url) as app:
        flaky = Flaky(app, tmp_path, notify=receiver.url)
        flaky.file.write_text("no good")
        app.start()
        app.run_flow(flaky.id)
        until(lambda: receiver.told)
        app.stop(grace=5)
    assert receiver.kinds == ["failed"]


def test_told_to_stop_it_lets_what_is_under_way_end(
    tmp_path: Path, sqlite_url: str, receiver: Receiver
) -> None:
    release = threading.Event()

    def slow(_: Message) -> Answer:
        release.wait(10)
        return Answer(200)

    receiver.server.script(slow)
    with make_app(tmp_path / "home", database_url=sqlite_url) as app:
        flaky = Flaky(app, tmp_path, notify=receiver.url)
        flaky.file.write_text("no good")
        app.start()
        app.run_flow(flaky.id)
        until(lambda: receiver.told)
        threading.Timer(0.2, release.set).start()
        app.stop(grace=10)
        (notice,) = stored(app)
        assert notice.sent_at is not None


def test_waiting_for_a_receiver_can_end_before_it_answers(
    flaky: Flaky, receiver: Receiver
) -> None:
    release = threading.Event()

    def slow(_: Message) -> Answer:
        release.wait(10)
        return Answer(200)

    receiver.server.script(slow)
    flaky.file.write_text("no good")
    flaky.app.run_flow(flaky.id)
    with pytest.raises(TimeoutError):
        flaky.app.run_until_idle(0.2)
    release.set()
    flaky.app.run_until_idle(30)
    assert receiver.kinds == ["failed"]


def test_a_database_that_goes_away_is_waited_for(
    app: Aero,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    courier, failed = app.engine._courier, threading.Event()
    errors = [DatabaseUnavailableError("It is away."), ValueError("a bug")]

    def broken(_: Any) -> float:
        if errors:
            raise errors.pop(0)
        failed.set()
        return 600.0

    _ = app.db
    monkeypatch.setattr(type(courier), "_due_in", broken)
    courier.start()
    for _ in range(3):
        courier.wake()
        failed.wait(1.2)
    courier.stop(lambda: False)
    said = [record.getMessage() for record in caplog.records]
    assert "It is away." in said
    assert any("Sending notices failed" in each for each in said)
    assert failed.is_set()


@pytest.mark.parametrize("error", [DatabaseUnavailableError("away"), ValueError("bug")])
def test_what_cannot_be_marked_is_sent_again(
    flaky: Flaky,
    receiver: Receiver,
    clock: FrozenClock,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(queries, "sent", broken)
        flaky.run("no good")
    assert "sent twice" in caplog.text
    clock.advance(60)
    flaky.app.run_until_idle(30)
    assert receiver.told[0] == receiver.told[1]
    assert stored(flaky.app)[0].sent_at is not None


def test_an_error_of_a_channel_ends_the_attempt_and_shows_no_secret(
    flaky: Flaky, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError(receiver.url)

    monkeypatch.setattr(delivery, "channel_for", broken)
    flaky.run("no good")
    (undelivered,) = flaky.app.explain(flaky.id)["undelivered"]
    told = f"{receiver.server.url}/*** could not be told (RuntimeError)."
    assert undelivered["error"] == told


# -- the command line ------------------------------------------------------------------


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mail_server() as found:
        yield found


FUNCTIONS = """
def estimate():
    print("looking at it")
    raise ValueError("no good")
"""


def test_the_command_line_tells_by_mail_and_by_webhook(
    tmp_path: Path,
    database_url: str,
    box: Mailbox,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AERO_SMTP_URL", box.url)
    file = tmp_path / "functions.py"
    file.write_text(FUNCTIONS)

    def cli(*args: str, code: int = 0) -> Any:
        result = CliRunner().invoke(aero, args, prog_name="aero")
        assert result.exit_code == code, result.output
        return result

    options = {"function": file.name + ":estimate", "policy": "NONE"}
    options |= {"email": "ada@example.org", "notify": [receiver.url]}
    given = tmp_path / "flow.yaml"
    given.write_text(json.dumps(options))
    made = json.loads(cli("register", "-f", str(given), "--json").stdout)
    assert made["email"] == ["ada@example.org"]
    cli("run", made["id"], code=1)
    status = cli("status")
    assert "2 to be sent" in status.stdout
    assert status.stderr == "2 notices wait; run 'aero work'\n"
    receiver.answer(500)
    cli("work", "--once")
    assert [mail["To"] for mail in box.mails] == ["ada@example.org"]
    assert "estimate failed: ValueError: no good" in box.mails[0]["Subject"]
    assert receiver.kinds == ["failed"]
    assert "1 not delivered: 'aero explain FLOW' says why" in cli("status").stdout
    explained = cli("explain", made["id"])
    assert "failing since" in explained.stdout
    assert "/*** was not told that run" in explained.stderr
    assert "(1 attempts, next attempt" in explained.stderr
    assert SECRET not in explained.output
    said = cli("set", made["id"], "--email", "bob@example.org", "--notify", "none")
    assert said.stdout.endswith("When it fails, bob@example.org is told.\n")
    shown = json.loads(cli("explain", made["id"], "--json").stdout)
    assert shown["undelivered"] == []
    record = json.loads(cli("set", made["id"], "--email", "none", "--json").stdout)
    assert (record["email"], record["notify"]) == ([], [])
    url = (tmp_path / "a.csv").as_uri()
    created = cli("create", "-n", "s", "-u", url, "-e", "a@h", "--json").stdout
    flows = json.loads(cli("list", "-t", "flow", "--json").stdout)
    (source,) = [f for f in flows if f["id"] == json.loads(created)["flow_id"]]
    assert source["email"] == ["a@h"]
    monkeypatch.delenv("AERO_SMTP_URL")
    warned = cli("set", made["id"], "--email", "a@h")
    assert "Warning: Mail is sent once smtp_url is set" in warned.stderr
