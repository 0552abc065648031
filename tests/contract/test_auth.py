"""The auth port: what every authenticator promises, and where static tokens differ."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aero.app import Aero
from aero.auth.base import Authenticator, Identity, Scope, scopes_of
from aero.auth.globus import GlobusAuth
from aero.auth.globus_service import GlobusService
from aero.auth.none import NoAuthentication
from aero.auth.tokens import PREFIX, StaticTokens
from aero.error import InvalidValueError, NotFoundError, UnauthorizedError
from aero.server.api import make_api
from aero.testing import FrozenClock
from aero.tokens import Tokens
from tests.globus_cloud import SECRET, globus_cloud

Port = tuple[Authenticator, str]

BAD = [None, "", "x", PREFIX, f"{PREFIX}{'A' * 43}", f"{PREFIX}{'A' * 5000}", "\0", "é"]


@contextmanager
def static(app: Aero) -> Iterator[Port]:
    made = app.create_token("laptop", scopes=list(Scope))
    yield StaticTokens(Tokens(app.db)), made["token"]


@contextmanager
def nobody(app: Aero) -> Iterator[Port]:
    yield NoAuthentication(app.owner), "whatever"


@contextmanager
def globus(app: Aero) -> Iterator[Port]:
    with globus_cloud() as cloud:
        token = cloud.issue("good", sub=app.owner, username=app.owner)
        service = GlobusService(cloud.client_id, SECRET)
        who = [app.owner]
        yield GlobusAuth(service, client_id=cloud.client_id, admins=who), token


@pytest.fixture(params=[nobody, static, globus])
def port(request: pytest.FixtureRequest, app: Aero) -> Iterator[Port]:
    with request.param(app) as found:
        yield found


def test_a_good_token_has_an_identity(port: Port, app: Aero) -> None:
    authenticator, token = port
    found = authenticator.identify(token)
    assert (found.id, found.name, found.groups) == (app.owner, app.owner, {})
    assert all(found.may(scope) for scope in Scope)
    assert authenticator.identify(token) == found


def test_many_threads_may_ask(port: Port) -> None:
    authenticator, token = port
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(authenticator.identify, [token] * 40))
    assert len(found) == 1


@pytest.mark.parametrize("token", BAD)
def test_a_bad_token_is_nobodys_or_is_ignored_where_all_are_let_in(
    port: Port, app: Aero, token: str | None
) -> None:
    authenticator, _ = port
    if authenticator.loopback_only:
        assert authenticator.identify(token).id == app.owner
        return
    with pytest.raises(UnauthorizedError) as caught:
        authenticator.identify(token)
    assert caught.value.facts == {}


def test_the_document_says_which_token_is_asked_for(port: Port, app: Aero) -> None:
    authenticator, _ = port
    scheme = authenticator.scheme
    assert (scheme is None) == authenticator.loopback_only
    document = make_api(app, authenticator).openapi()
    schemes = document["components"].get("securitySchemes", {})
    assert list(schemes.values()) == ([] if scheme is None else [scheme])
    asked = document["paths"]["/data"]["get"].get("security", [])
    flow = (scheme or {}).get("flows", {}).get("authorizationCode", {})
    wanted = list(flow.get("scopes", {})) or ["read"]
    assert asked == [{name: wanted} for name in schemes]


# -- static tokens --------------------------------------------------------------------


def test_every_refusal_is_the_same(app: Aero, clock: FrozenClock) -> None:
    authenticator = StaticTokens(Tokens(app.db))
    expired = app.create_token("a", expires_days=1)
    revoked = app.create_token("b")
    clock.advance(timedelta(days=1))
    app.revoke_token(revoked["id"])
    told = set()
    for token in (None, "aero_x", expired["token"], revoked["token"]):
        with pytest.raises(UnauthorizedError) as caught:
            authenticator.identify(token)
        told.add((str(caught.value), caught.value.code))
    assert len(told) == 1


def test_a_token_ends_at_its_moment(app: Aero, clock: FrozenClock) -> None:
    authenticator = StaticTokens(Tokens(app.db))
    token = app.create_token("a", expires_days=2)["token"]
    clock.advance(timedelta(days=2) - timedelta(microseconds=1))
    assert authenticator.identify(token).id == app.owner
    clock.advance(timedelta(microseconds=1))
    with pytest.raises(UnauthorizedError):
        authenticator.identify(token)
    assert app.list_tokens()[0]["state"] == "expired"


def test_revoking_works_at_once_and_counts_once(app: Aero, clock: FrozenClock) -> None:
    authenticator = StaticTokens(Tokens(app.db))
    made = app.create_token("a")
    assert authenticator.identify(made["token"]).id == app.owner
    first = app.revoke_token(made["id"][:8])
    assert first["state"] == "revoked"
    with pytest.raises(UnauthorizedError):
        authenticator.identify(made["token"])
    clock.advance(60)
    assert app.revoke_token(made["id"]) == first
    with pytest.raises(NotFoundError, match="no token"):
        app.revoke_token(made["token"])


def test_use_is_noted_once_a_minute(app: Aero, clock: FrozenClock) -> None:
    token = app.create_token("a")["token"]
    assert app.list_tokens()[0]["last_used_at"] is None
    authenticators = [StaticTokens(Tokens(app.db)) for _ in range(2)]
    before = app.db.writes
    for _ in range(50):
        for authenticator in authenticators:
            authenticator.identify(token)
        clock.advance(1)
    assert app.db.writes - before == 1
    clock.advance(10)
    authenticators[0].identify(token)
    assert app.db.writes - before == 2
    assert app.list_tokens()[0]["last_used_at"] == "2026-01-01T00:01:00+00:00"


def test_a_token_has_only_its_scopes_and_admin_has_all(app: Aero) -> None:
    authenticator = StaticTokens(Tokens(app.db))
    for scope in Scope:
        made = app.create_token("a", owner="ada", scopes=[scope.value])
        found = authenticator.identify(made["token"])
        assert found == Identity(id="ada", name="ada", scopes=frozenset({scope}))
        may = {each for each in Scope if found.may(each)}
        assert may == (set(Scope) if scope is Scope.ADMIN else {scope})


def test_without_scopes_a_token_only_reads(app: Aero) -> None:
    assert app.create_token("a")["scopes"] == ["read"]


def test_only_the_hash_is_stored(sqlite_app: Aero, tmp_path: Path) -> None:
    made = sqlite_app.create_token("laptop", owner="ada", scopes=["read", "write"])
    secret = made["token"]
    assert secret.startswith(PREFIX)
    assert len(secret) - len(PREFIX) == 43  # 256 bits in base64
    StaticTokens(Tokens(sqlite_app.db)).identify(secret)
    [listed] = sqlite_app.list_tokens()
    assert {**made, "last_used_at": listed["last_used_at"]} == {
        **listed,
        "token": secret,
    }
    sqlite_app.close()
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    stored = b"".join(path.read_bytes() for path in files)
    assert b"laptop" in stored
    assert secret.encode() not in stored
    assert secret.removeprefix(PREFIX).encode() not in stored


def test_no_two_tokens_are_the_same(app: Aero) -> None:
    assert len({app.create_token("a")["token"] for _ in range(20)}) == 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"owner": " "},
        {"scopes": []},
        {"scopes": ["all"]},
        {"scopes": "read"},
        {"expires_days": 0},
        {"expires_days": -1},
        {"expires_days": float("nan")},
        {"expires_days": 1e9},
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(
    app: Aero, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidValueError):
        app.create_token(**{"name": "a", **wrong})
    assert app.list_tokens() == []


def test_scopes_are_known_by_name() -> None:
    assert scopes_of(["run", "read"]) == {Scope.READ, Scope.RUN}
