"""The login of a user at Globus: which of its tokens is sent, and how it is renewed."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aero import api
from aero.auth.globus_login import GlobusLogin, login_of
from aero.config import ClientConf
from aero.error import AuthUnavailableError, ConfigError, UnauthorizedError
from aero.testing import EPOCH, FrozenClock
from tests.globus_cloud import GlobusCloud, globus_cloud
from tests.loopback import Answer, loopback

NOW = EPOCH.timestamp()
TOKEN = "/v2/oauth2/token"
OTHER = {"access_token": "transfer", "scope": "transfer:all", "resource_server": "t"}
Write = Callable[..., Path]


@pytest.fixture
def cloud() -> Iterator[GlobusCloud]:
    with globus_cloud() as found:
        yield found


@pytest.fixture
def time() -> FrozenClock:
    return FrozenClock()


def version_2(entries: dict[str, Any]) -> dict[str, Any]:
    return {"format_version": "2.0", "data": {"DEFAULT": entries}}


def version_1(entries: dict[str, Any]) -> dict[str, Any]:
    return {"format_version": "1.0", "by_rs": entries}


def flat(entries: dict[str, Any]) -> dict[str, Any]:
    return entries


@pytest.fixture(params=[version_2, version_1, flat])
def form(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def write(cloud: GlobusCloud, tmp_path: Path) -> Write:
    def store(form: Callable[[Any], Any] = flat, **facts: Any) -> Path:
        entry = {
            "scope": f"openid {cloud.scope}",
            "access_token": "access",
            "refresh_token": "refresh",
            "expires_at_seconds": int(NOW) + 3600,
            "resource_server": cloud.client_id,
            **facts,
        }
        document = form({"t": OTHER, cloud.client_id: entry})
        path = tmp_path / "client_tokens.json"
        path.write_text(json.dumps(document))
        path.chmod(0o600)
        return path

    return store


def login(cloud: GlobusCloud, path: Path, time: FrozenClock) -> GlobusLogin:
    return GlobusLogin(path, client_id="login-client", scope=cloud.scope, clock=time)


def test_the_access_token_is_taken_while_it_is_good(
    cloud: GlobusCloud, write: Write, time: FrozenClock, form: Any
) -> None:
    found = login(cloud, write(form), time)
    assert found.there
    assert found() == "access"
    time.advance(3600 - 61)
    assert found() == "access"
    assert cloud.asked == []


def test_one_that_ends_is_renewed_and_stored(
    cloud: GlobusCloud, write: Write, time: FrozenClock, form: Any
) -> None:
    path = write(form)
    cloud.renew("refresh", "fresh")
    time.advance(3600 - 60)
    assert login(cloud, path, time)() == "fresh"
    [(asked, sent)] = cloud.asked
    assert (asked, sent["refresh_token"], sent["client_id"]) == (
        TOKEN,
        "refresh",
        "login-client",
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    stored = json.loads(path.read_text())
    entries = stored.get("data", {}).get("DEFAULT") or stored.get("by_rs") or stored
    assert entries["t"] == OTHER
    assert entries[cloud.client_id]["access_token"] == "fresh"
    assert entries[cloud.client_id]["refresh_token"] == "refresh"
    assert login(cloud, path, time)() == "fresh"
    assert len(cloud.asked) == 1


@pytest.mark.parametrize(
    "facts", [{"refresh_token": None}, {"refresh_token": "of old"}]
)
def test_a_login_that_has_ended_says_so(
    cloud: GlobusCloud, write: Write, time: FrozenClock, facts: dict[str, Any]
) -> None:
    path = write(expires_at_seconds=None, **facts)
    before = path.read_bytes()
    with pytest.raises(UnauthorizedError, match="log in again"):
        login(cloud, path, time)()
    assert path.read_bytes() == before


@pytest.mark.parametrize("fails", [0, 500])
def test_globus_may_be_away(
    cloud: GlobusCloud,
    write: Write,
    time: FrozenClock,
    fails: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    path = write(expires_at_seconds=0)
    cloud.fails = fails
    with pytest.raises(AuthUnavailableError, match="try again later"):
        login(cloud, path, time)()


def test_a_login_for_another_server_is_none(
    cloud: GlobusCloud, write: Write, time: FrozenClock, tmp_path: Path
) -> None:
    path = write(scope="https://auth.globus.org/scopes/another/action_all")
    found = login(cloud, path, time)
    assert not found.there
    with pytest.raises(UnauthorizedError, match="holds no login"):
        found()
    path.unlink()  # by `aero logout`, while a session lasts
    with pytest.raises(UnauthorizedError, match="holds no login"):
        found()


def test_what_is_renewed_must_be_for_the_server(
    cloud: GlobusCloud, write: Write, time: FrozenClock
) -> None:
    path = write(expires_at_seconds=0)
    cloud.renew("refresh", "fresh")
    asking, cloud.scope = cloud.scope, "something else"
    found = GlobusLogin(path, client_id="c", scope=asking, clock=time)
    with pytest.raises(UnauthorizedError, match="not for this server"):
        found()


def test_a_logout_meanwhile_is_not_undone(
    cloud: GlobusCloud,
    write: Write,
    time: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write(expires_at_seconds=0)
    cloud.renew("refresh", "fresh")
    answer = cloud.answer

    def remove(*args: Any) -> Any:
        path.unlink()
        return answer(*args)

    monkeypatch.setattr(cloud, "answer", remove)
    assert login(cloud, path, time)() == "fresh"
    assert not path.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {"scope": "SCOPE"}}', "\xff"])
def test_a_file_that_cannot_be_understood_is_not_quoted(
    cloud: GlobusCloud, write: Write, time: FrozenClock, text: str
) -> None:
    path = write()
    cloud.renew("None", "never")
    entry = {"scope": cloud.scope, "access_token": "two words", "refresh_token": "x"}
    entry["expires_at_seconds"] = NOW * 2
    broken = json.dumps({"a": entry}) if "SCOPE" in text else text
    path.write_bytes(broken.encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be understood") as caught:
        login(cloud, path, time)()
    assert "two words" not in str(caught.value)


def test_a_file_that_others_can_read_is_not_used(
    cloud: GlobusCloud, write: Write, time: FrozenClock
) -> None:
    path = write()
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        login(cloud, path, time)()


def test_a_disk_that_is_full_says_so(
    cloud: GlobusCloud,
    write: Write,
    time: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write(expires_at_seconds=0)
    before = path.read_bytes()
    cloud.renew("refresh", "fresh")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match="cannot be written"):
        login(cloud, path, time)()
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_nobody_is_logged_in_without_a_file_or_a_server_at_globus(
    tmp_path: Path, cloud: GlobusCloud, write: Write
) -> None:
    assert login_of(ClientConf(home=tmp_path)) is None
    conf = ClientConf(home=tmp_path, portal_client_id=cloud.client_id)
    assert login_of(conf) is None
    write()
    assert login_of(conf) is not None
    assert login_of(ClientConf(home=tmp_path, portal_client_id="another")) is None


def test_a_profile_with_a_login_sends_the_access_token_only(
    cloud: GlobusCloud, write: Write, tmp_path: Path
) -> None:
    write(expires_at_seconds=0)
    cloud.renew("refresh", "fresh")
    with loopback() as server:
        server.script(Answer(200, b"[]", {"Content-Type": "application/json"}))
        conf = ClientConf(
            home=tmp_path, server_url=server.url, portal_client_id=cloud.client_id
        )
        with api.open_workspace(conf) as client:
            client.limits()
            client.limits()
        plain = ClientConf(home=tmp_path / "x", server_url=server.url, token="static")
        with api.open_workspace(plain) as client:
            client.limits()
        sent = [headers["Authorization"] for _, headers in server.requests]
    assert sent == ["Bearer fresh", "Bearer fresh", "Bearer static"]
    assert cloud.times(TOKEN) == 1
