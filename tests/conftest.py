"""Fixtures that many tests share."""

import hashlib
import os
import threading
from collections.abc import Iterator
from datetime import datetime
from email.message import Message
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

from aero.app import Aero
from aero.db import session
from aero.db.session import Database
from aero.testing import EPOCH, FrozenClock, make_app
from tests.compiled import sharing_engine
from tests.databases import Postgres, SqliteTemplate, postgres_server, sqlite_file
from tests.loopback import Answer, Loopback, loopback

# `pytest --hypothesis-profile default` tries more.
settings.register_profile("quick", max_examples=40)
settings.load_profile("quick")


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Let the engines of all tests share what they compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "create_engine", sharing_engine)
        yield


@pytest.fixture(autouse=True)
def isolation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the tests away from the user's own workspace; return their AERO_HOME."""
    for name in list(os.environ):
        if name.startswith("AERO_") and not name.startswith("AERO_TEST_"):
            monkeypatch.delenv(name)
    for kind in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / ".xdg" / kind.lower()))
    home = tmp_path / ".aero-home"
    monkeypatch.setenv("AERO_HOME", str(home))
    return home


@pytest.fixture
def epoch() -> datetime:
    """What `clock` shows first."""
    return EPOCH


@pytest.fixture
def clock(epoch: datetime, monkeypatch: pytest.MonkeyPatch) -> FrozenClock:
    """A clock that only the test moves, every database's too.

    PostgreSQL has a clock of its own; that it decides is shown where that matters.
    """
    monkeypatch.setattr(Database, "now", lambda db, _tx: db.clock())
    return FrozenClock(epoch)


@pytest.fixture
def app(tmp_path: Path, database_url: str, clock: FrozenClock) -> Iterator[Aero]:
    """A workspace whose functions run in this thread, at the time of `clock`."""
    with make_app(tmp_path / "home", clock=clock, database_url=database_url) as made:
        yield made


@pytest.fixture
def sqlite_app(tmp_path: Path, sqlite_url: str, clock: FrozenClock) -> Iterator[Aero]:
    """Like `app`, for what concerns SQLite alone."""
    with make_app(tmp_path / "home", clock=clock, database_url=sqlite_url) as made:
        yield made


@pytest.fixture
def worker_app(tmp_path: Path, database_url: str) -> Iterator[Aero]:
    """A workspace in real time, whose functions run in two worker processes."""
    home = tmp_path / "home"
    with make_app(home, executor=None, workers=2, database_url=database_url) as made:
        yield made


class Publisher:
    """Publishes files over HTTP on loopback, with validators, and counts requests.

    Attributes:
        status: Set it to make every answer that status, without a file.
    """

    def __init__(self, server: Loopback) -> None:
        self.status = 200
        self._server = server
        self._lock = threading.Lock()
        self._files: dict[str, tuple[bytes, str | None]] = {}

    def url(self, name: str) -> str:
        """Return where a file is, or will be, published."""
        return f"{self._server.url}/{name}"

    def publish(self, name: str, content: bytes | str, *, etag: str | None = "") -> str:
        """Publish a file, or change it; return its URL.

        Args:
            name: Its path below the root.
            content: What it holds.
            etag: Its ETag without quotes; default: made of the content; None: none.
        """
        body = content.encode() if isinstance(content, str) else content
        tag = hashlib.sha256(body).hexdigest()[:16] if etag == "" else etag
        with self._lock:
            self._files[name] = body, None if tag is None else f'"{tag}"'
        self._server.at(f"/{name}", lambda headers: self._answer(name, headers))
        return self.url(name)

    def withdraw(self, name: str) -> None:
        """Answer 404 for a file."""
        self._server.at(f"/{name}", Answer(404))

    def requests(self, name: str) -> int:
        """Return how often a file was asked for."""
        return sum(path == f"/{name}" for path, _ in self._server.requests)

    def _answer(self, name: str, headers: Message) -> Answer:
        with self._lock:
            body, etag = self._files[name]
        if self.status != 200:
            return Answer(self.status)
        if etag is None:
            return Answer(body=body)
        if headers["If-None-Match"] == etag:
            return Answer(304, headers={"ETag": etag})
        return Answer(body=body, headers={"ETag": etag})


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    """A real HTTP server whose files, ETags and status the test sets."""
    with loopback() as server:
        yield Publisher(server)


# -- databases ------------------------------------------------------------------------
#
# A test that touches the database asks for `database_url`, or for a workspace on it,
# and runs once on SQLite and once on PostgreSQL. One that is about only one of the two
# says so by asking for `sqlite_url` or `postgres_url`. Each of these is migrated and
# without rows; `empty_...` has no tables either. The URL is in AERO_DATABASE_URL, too,
# for the command line and for processes that a test starts.


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> SqliteTemplate:
    """A migrated SQLite database, to be copied."""
    return SqliteTemplate(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """This session's databases on PostgreSQL; where there is none, a skip.

    AERO_TEST_REQUIRE_SERVICES=1 turns the skip into a failure.
    """
    try:
        made = Postgres(postgres_server())
    except ConnectionError as error:
        lacking(
            f"These tests need PostgreSQL, but {error}: start one, or name another "
            "in AERO_TEST_POSTGRES."
        )
    yield made
    made.close()


@pytest.fixture
def sqlite_url(
    sqlite_template: SqliteTemplate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The URL of a migrated SQLite database without rows: `tmp_path/home/aero.db`."""
    url = sqlite_template.copy(tmp_path / "home" / "aero.db")
    monkeypatch.setenv("AERO_DATABASE_URL", url)
    return url


@pytest.fixture
def postgres_url(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database without rows.

    It is emptied by the next test, which an open transaction would block; so a test
    that leaves a connection open fails.
    """
    postgres.reset()
    monkeypatch.setenv("AERO_DATABASE_URL", postgres.url)
    yield postgres.url
    left = postgres.left_open()
    assert not left, f"The test left {left} connections to PostgreSQL open."


@pytest.fixture
def empty_postgres_url(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The URL of a PostgreSQL database without tables."""
    with postgres.another(migrated=False) as url:
        monkeypatch.setenv("AERO_DATABASE_URL", url)
        yield url


@pytest.fixture
def empty_sqlite_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an SQLite database that is not there yet: `tmp_path/home/aero.db`."""
    url = sqlite_file(tmp_path / "home" / "aero.db")
    monkeypatch.setenv("AERO_DATABASE_URL", url)
    return url


EITHER = [
    pytest.param("sqlite_url", id="sqlite"),
    pytest.param("postgres_url", id="postgresql"),
]


@pytest.fixture(params=EITHER)
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated database without rows, of each kind in turn."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture(params=EITHER)
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables, of each kind in turn."""
    return str(request.getfixturevalue(f"empty_{request.param}"))


def lacking(reason: str) -> NoReturn:
    """Skip for want of a service, or fail where services are required."""
    if os.environ.get("AERO_TEST_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
