"""Fixtures that many tests share."""

import hashlib
import os
import threading
import uuid
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from aero.app import Aero
from aero.testing import FrozenClock, make_app
from tests.loopback import Answer, Loopback, loopback

POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"


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
def clock() -> FrozenClock:
    """A clock at 2026-01-01 00:00 UTC that only the test moves."""
    return FrozenClock()


@pytest.fixture
def app(tmp_path: Path, clock: FrozenClock) -> Iterator[Aero]:
    """A workspace whose functions run in this thread, at the time of `clock`."""
    with make_app(tmp_path / "home", clock=clock) as made:
        yield made


@pytest.fixture
def worker_app(tmp_path: Path) -> Iterator[Aero]:
    """A workspace in real time, whose functions run in two worker processes."""
    with make_app(tmp_path / "home", executor=None, workers=2) as made:
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


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[str]:
    """The URL of a PostgreSQL database of this session's own; see `postgres_url`."""
    server = make_url(os.environ.get("AERO_TEST_POSTGRES", POSTGRES))
    name = f"aero_test_{uuid.uuid4().hex}"
    try:
        _execute(server, f"CREATE DATABASE {name}")
    except (ImportError, OperationalError) as error:
        _lacking(
            f"There is no PostgreSQL at {server.host}:{server.port} for these tests "
            f"({type(error).__name__}): start one, or name another in "
            "AERO_TEST_POSTGRES."
        )
    yield server.set(database=name).render_as_string(hide_password=False)
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres_database: str) -> str:
    """The URL of an empty PostgreSQL database; where there is none, a skip.

    AERO_TEST_REQUIRE_SERVICES=1 turns the skip into a failure.
    """
    _execute(postgres_database, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return postgres_database


def _execute(url: str | URL, *statements: str) -> None:
    engine = create_engine(
        url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 5}
    )
    try:
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


def _lacking(reason: str) -> None:
    if os.environ.get("AERO_TEST_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
