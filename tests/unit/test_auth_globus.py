"""Globus Auth: whom it lets in, for how long it believes it, and what it never says."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aero.auth import globus
from aero.auth.base import EVERYTHING, Role
from aero.auth.globus import ACTION_ALL, GlobusAuth, globus_auth
from aero.auth.globus_service import GlobusService
from aero.config import ClientConf
from aero.error import AuthUnavailableError, ConfigError, UnauthorizedError
from aero.testing import EPOCH, FrozenClock
from tests.globus_cloud import SECRET, GlobusCloud, globus_cloud

INTROSPECT = "/v2/oauth2/token/introspect"
GROUPS = "/v2/groups/my_groups"
ADA = "a5f7d1c2-0000-4000-8000-00000000ada0"
LAB = "d3974728-6458-11e4-b72d-123139141556"
NOW = EPOCH.timestamp()

Made = Callable[..., GlobusAuth]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let globus_sdk ask again without a pause."""
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.fixture
def cloud() -> Iterator[GlobusCloud]:
    with globus_cloud() as found:
        yield found


@pytest.fixture
def time() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def made(cloud: GlobusCloud, time: FrozenClock) -> Made:
    def make(**options: Any) -> GlobusAuth:
        given: dict[str, Any] = {
            "client_id": cloud.client_id,
            "clock": time,
            "seconds": lambda: time().timestamp(),
            **options,
        }
        return GlobusAuth(GlobusService(cloud.client_id, SECRET), **given)

    return make


def refused(auth: GlobusAuth, token: str | None) -> bool:
    try:
        return not auth.identify(token)
    except UnauthorizedError:
        return True


# -- who is let in --------------------------------------------------------------------


def test_a_token_is_whom_globus_says(cloud: GlobusCloud, made: Made) -> None:
    token = cloud.issue("t", sub=ADA, username="ada@example.org")
    found = made().identify(token)
    assert (found.id, found.name, found.groups) == (ADA, "ada@example.org", {})
    assert found.scopes == ACTION_ALL == {"read", "run", "write"}
    assert made().identify(cloud.issue("nameless", sub=ADA, username=None)).name == ADA
    assert cloud.asked[0] == (INTROSPECT, {"token": token})


@pytest.mark.parametrize(
    "facts",
    [
        {"active": False},
        {"active": "true"},
        {"aud": []},
        {"aud": None},
        {"aud": ["auth.globus.org", "another-server"]},
        {"aud": "in the midst of {client_id}s"},
        {"scope": "openid profile"},
        {"scope": None},
        {"scope": "https://auth.globus.org/scopes/another-server/action_all"},
        {"scope": "x{scope}"},
        {"scope": "{scope}_but_one"},
        {"sub": None},
    ],
)
def test_what_is_not_for_this_server_is_refused(
    cloud: GlobusCloud, made: Made, facts: dict[str, Any]
) -> None:
    filled = {
        name: value.format(client_id=cloud.client_id, scope=cloud.scope)
        if isinstance(value, str)
        else value
        for name, value in facts.items()
    }
    assert refused(made(), cloud.issue("t", **filled))
    assert not refused(made(), cloud.issue("good", aud=cloud.client_id))


def test_a_refresh_token_is_let_in_while_globus_calls_it_active(
    cloud: GlobusCloud, made: Made, time: FrozenClock
) -> None:
    auth = made()
    token = cloud.issue("refresh", sub=ADA, exp=None, token_type=None)
    cloud.renew(token, "access")
    assert auth.identify(token).id == ADA
    cloud.revoke(token)
    time.advance(60)
    assert refused(auth, token)


@pytest.mark.parametrize("token", [None, "", "x" * 3000, "a b", "é", "aero_mine"])
def test_what_can_be_no_token_of_globus_is_not_shown_to_it(
    cloud: GlobusCloud, made: Made, token: str | None
) -> None:
    assert refused(made(), token)
    assert cloud.asked == []


def test_what_globus_calls_malformed_is_refused(cloud: GlobusCloud, made: Made) -> None:
    auth = made()
    assert refused(auth, "malformed")
    assert not refused(auth, cloud.issue("good"))


@pytest.mark.parametrize("admin", [ADA, "ada@example.org", LAB])
def test_the_settings_say_who_administers(
    cloud: GlobusCloud, made: Made, admin: str
) -> None:
    cloud.join(ADA, LAB, "member")
    tokens = cloud.issue("t", sub=ADA, username="ada@example.org"), cloud.issue("b")
    auth = made(admins=[admin, "root@example.org"], member_role=Role.EDITOR)
    assert auth.identify(tokens[0]).scopes == EVERYTHING
    assert auth.identify(tokens[1]).scopes == ACTION_ALL


# -- for how long ---------------------------------------------------------------------


def test_a_revoked_token_is_noticed_within_a_minute(
    cloud: GlobusCloud, made: Made, time: FrozenClock
) -> None:
    auth, token = made(), cloud.issue("t")
    auth.identify(token)
    cloud.revoke(token)
    time.advance(59.9)
    assert not refused(auth, token)
    assert cloud.times(INTROSPECT) == 1
    time.advance(0.1)
    assert refused(auth, token)
    assert cloud.times(INTROSPECT) == 2


def test_no_answer_is_kept_beyond_the_end_of_the_token(
    cloud: GlobusCloud, made: Made, time: FrozenClock
) -> None:
    auth, token = made(), cloud.issue("t", exp=NOW + 20)
    assert not refused(auth, token)
    cloud.revoke(token)  # as it is once it has expired
    time.advance(19.9)
    assert not refused(auth, token)
    time.advance(0.1)
    assert refused(auth, token)


def test_a_token_whose_end_is_past_here_is_asked_for_each_time(
    cloud: GlobusCloud, made: Made
) -> None:
    auth, token = made(), cloud.issue("t", exp=NOW - 5)
    assert not refused(auth, token)
    assert not refused(auth, token)
    assert cloud.times(INTROSPECT) == 2


def test_what_globus_said_slowly_is_believed_no_longer(
    cloud: GlobusCloud, made: Made, time: FrozenClock
) -> None:
    auth, token = made(), cloud.issue("t")
    cloud.holding.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(auth.identify, token)
        while not cloud.asked:
            threading.Event().wait(0.005)
        time.advance(40)  # it is under way for so long
        cloud.holding.set()
        asked.result(20)
    cloud.revoke(token)
    time.advance(20)
    assert refused(auth, token)


def test_a_bad_token_is_refused_for_a_moment_without_asking(
    cloud: GlobusCloud, made: Made, time: FrozenClock
) -> None:
    auth = made()
    for _ in range(20):
        assert refused(auth, "bad")
    assert cloud.times(INTROSPECT) == 1
    time.advance(10)
    assert refused(auth, "bad")
    assert cloud.times(INTROSPECT) == 2


def test_no_flood_of_bad_tokens_displaces_a_good_one(
    cloud: GlobusCloud, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(globus, "_MOST", 3)
    auth, token = made(), cloud.issue("t")
    auth.identify(token)
    for number in range(10):
        assert refused(auth, f"bad{number}")
    asked = cloud.times(INTROSPECT)
    assert not refused(auth, token)
    assert cloud.times(INTROSPECT) == asked
    for number in range(3):
        auth.identify(cloud.issue(f"another{number}"))
    auth.identify(token)
    assert cloud.times(INTROSPECT) == asked + 4


def test_many_who_send_one_token_ask_once(cloud: GlobusCloud, made: Made) -> None:
    auth, token = made(), cloud.issue("t")
    cloud.holding.clear()
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(auth.identify, token) for _ in range(16)]
        while not cloud.asked:
            threading.Event().wait(0.005)
        cloud.holding.set()
        assert len({each.result(20) for each in asked}) == 1
    assert cloud.times(INTROSPECT) == 1


def test_who_looked_just_before_another_was_answered_does_not_ask_again(
    cloud: GlobusCloud, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth, token = made(), cloud.issue("t")
    auth.identify(token)
    real, missed = auth._recalled, [None]
    monkeypatch.setattr(
        auth, "_recalled", lambda key: missed.pop() if missed else real(key)
    )
    assert not refused(auth, token)
    assert missed == []
    assert cloud.times(INTROSPECT) == 1


# -- outages --------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [0, 500, 429])
def test_without_globus_only_who_was_known_is_let_in(
    cloud: GlobusCloud, made: Made, time: FrozenClock, fails: int
) -> None:
    auth, known = made(), cloud.issue("known")
    auth.identify(known)
    cloud.fails = fails
    with pytest.raises(AuthUnavailableError, match="try again later") as caught:
        auth.identify(cloud.issue("new"))
    assert caught.value.code == 503
    assert not refused(auth, known)
    asked = len(cloud.asked)
    with pytest.raises(AuthUnavailableError, match="a moment ago"):
        auth.identify("another")
    assert len(cloud.asked) == asked
    time.advance(60)
    with pytest.raises(AuthUnavailableError):
        auth.identify(known)
    cloud.fails = None
    time.advance(globus.SILENCE)
    assert not refused(auth, known)
    assert not refused(auth, "new")


def test_after_an_outage_one_asks_before_all_do(
    cloud: GlobusCloud, made: Made, time: FrozenClock
) -> None:
    auth, tokens = made(), [cloud.issue(f"t{number}") for number in range(3)]
    cloud.fails = 0
    with pytest.raises(AuthUnavailableError):
        auth.identify("bad")
    cloud.fails, asked = None, len(cloud.asked)
    time.advance(globus.SILENCE)
    cloud.holding.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(auth.identify, tokens[0])
        while len(cloud.asked) == asked:
            threading.Event().wait(0.005)
        with pytest.raises(AuthUnavailableError, match="a moment ago"):
            auth.identify(tokens[1])
        cloud.holding.set()
        first.result(20)
    assert not refused(auth, tokens[1])
    assert not refused(auth, tokens[2])


def test_who_waited_with_others_is_told_of_the_outage_too(
    cloud: GlobusCloud, made: Made
) -> None:
    auth, token = made(), cloud.issue("t")
    cloud.fails = 503
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(auth.identify, token) for _ in range(8)]
        errors = {type(each.exception(20)) for each in asked}
    assert errors == {AuthUnavailableError}


def test_a_wrong_secret_lets_nobody_in_and_says_whose_fault_it_is(
    cloud: GlobusCloud, caplog: pytest.LogCaptureFixture
) -> None:
    service = GlobusService(cloud.client_id, "not the secret at all")
    auth = GlobusAuth(service, client_id=cloud.client_id)
    with pytest.raises(AuthUnavailableError, match="portal_client_secret"):
        auth.identify(cloud.issue("t"))
    assert "refuses this server's" in caplog.text


def test_an_answer_that_is_none_lets_nobody_in(
    cloud: GlobusCloud, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "answer", lambda *_: (200, ["active"]))
    with pytest.raises(AuthUnavailableError, match="something else"):
        made().identify("t")


# -- groups ---------------------------------------------------------------------------


def test_groups_are_asked_for_with_a_token_of_their_own_and_kept_as_long(
    cloud: GlobusCloud, made: Made, time: FrozenClock
) -> None:
    cloud.join(ADA, "g1", "member")
    cloud.join(ADA, "g2", "manager")
    cloud.join(ADA, "g3", "admin")
    cloud.join(ADA, "g4", "member", status="invited")
    cloud.join(ADA, "g3", "member")  # as another identity of hers
    auth, token = made(member_role=Role.EDITOR), cloud.issue("t", sub=ADA)
    groups = auth.identify(token).groups
    assert groups == {"g1": Role.EDITOR, "g2": Role.ADMIN, "g3": Role.ADMIN}
    assert auth.identify(token).groups == groups
    assert cloud.times(GROUPS) == 1
    viewing = made(member_role=Role.VIEWER).identify(token).groups
    assert viewing == groups | {"g1": Role.VIEWER}
    time.advance(60)
    auth.identify(token)
    assert cloud.times(GROUPS) == 3


def test_nobody_asks_for_groups_unless_told_to(cloud: GlobusCloud, made: Made) -> None:
    cloud.join(ADA, "g1", "admin")
    assert made().identify(cloud.issue("t", sub=ADA)).groups == {}
    assert cloud.times(GROUPS) == 0


def test_a_refresh_token_reaches_no_groups(
    cloud: GlobusCloud, made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aero")
    cloud.join(ADA, "g1", "admin")
    token = cloud.issue("refresh", sub=ADA)
    cloud.renew(token, "access")
    found = made(member_role=Role.EDITOR).identify(token)
    assert (found.id, found.groups) == (ADA, {})
    assert "no groups" in caplog.text


def test_a_server_whose_scope_leads_to_no_groups_has_none(
    cloud: GlobusCloud, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "_dependent", lambda _: (200, []))
    token = cloud.issue("t", sub=ADA)
    assert made(member_role=Role.EDITOR).identify(token).groups == {}


@pytest.mark.parametrize("status", [500, 429])
def test_who_has_which_groups_is_not_guessed(
    cloud: GlobusCloud, made: Made, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(cloud, "_my_groups", lambda _: (status, {}))
    auth = made(member_role=Role.EDITOR)
    with pytest.raises(AuthUnavailableError):
        auth.identify(cloud.issue("t", sub=ADA))


# -- settings, and what is never said -------------------------------------------------


def test_the_settings_make_it(cloud: GlobusCloud, tmp_path: Any) -> None:
    conf = ClientConf(
        home=tmp_path,
        portal_client_id=cloud.client_id,
        portal_client_secret=SECRET,
        admins=(ADA,),
        globus_groups=True,
        globus_member_role="viewer",
    )
    cloud.join(ADA, LAB, "member")
    found = globus_auth(conf).identify(cloud.issue("t", sub=ADA))
    assert (found.scopes, found.groups) == (EVERYTHING, {LAB: Role.VIEWER})
    assert SECRET not in repr(conf) + str(conf.shown())


@pytest.mark.parametrize("given", [{}, {"portal_client_id": "id"}])
def test_settings_without_a_client_say_what_to_do(
    tmp_path: Any, given: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match="AERO_PORTAL_CLIENT_SECRET"):
        globus_auth(ClientConf(home=tmp_path, **given))


def test_the_document_is_told_of_oauth2(cloud: GlobusCloud, made: Made) -> None:
    scheme = made().scheme
    assert scheme["type"] == "oauth2"
    flow = scheme["flows"]["authorizationCode"]
    assert list(flow["scopes"]) == [cloud.scope]
    assert flow["tokenUrl"] == "https://auth.globus.org/v2/oauth2/token"


def test_no_secret_is_logged_or_raised(
    cloud: GlobusCloud, made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    auth = made(member_role=Role.EDITOR)
    token = cloud.issue("agSecretAccessToken", sub=ADA)
    auth.identify(token)
    said = [repr(auth), repr(vars(auth))]
    for fails in (500, 0):
        cloud.fails = fails
        other = made()
        with pytest.raises(AuthUnavailableError) as caught:
            other.identify("agSecretOtherToken")
        said += [repr(caught.value), str(caught.value.__cause__)]
    said += [caplog.text]
    assert "Secret" not in "".join(said)
    assert SECRET not in "".join(said)
    assert f"groups of {ADA}" not in "".join(said)
