"""Globus Auth: who asks is whom Globus says that the token belongs to.

Whatever Globus calls active for this server and its scope is let in: access tokens, and
the refresh tokens that clients of 2025 send. What it said is kept for a minute at most,
so that a revoked token is noticed within one, and never longer than the token lives.
"""

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from aero.auth.base import EVERYTHING, Identity, Role, Scope, greatest, refused
from aero.auth.recent import Once, Recent, Seconds
from aero.auth.tokens import PREFIX
from aero.clock import Clock, utc_now
from aero.config.private import token_text
from aero.error import AuthUnavailableError, ConfigError
from aero.hashing import sha256_text

if TYPE_CHECKING:
    from aero.config import ClientConf

KEPT = 60.0
"""Seconds that is believed what Globus said of a token."""
REFUSAL_KEPT = 10.0
"""Seconds that a token is refused without asking again."""
SILENCE = 5.0
"""Seconds that Globus is not asked again after it did not answer."""
PATIENCE = 20.0
"""Seconds that the one who then asks first may have to wait."""

ACTION_ALL = frozenset({Scope.READ, Scope.RUN, Scope.WRITE})
"""What the scope `action_all` allows; who administers is said in the settings."""

_AUTHORIZE = "https://auth.globus.org/v2/oauth2/authorize"
_TOKENS = "https://auth.globus.org/v2/oauth2/token"
_MOST = 10_000
_LONGEST = 2048


class Globus(Protocol):
    """What is asked of Globus, as `GlobusService` does."""

    def introspect(self, token: str) -> Mapping[str, Any]:
        """Return what Globus says of a token."""
        ...

    def memberships(self, token: str) -> list[tuple[str, str]]:
        """Return (group id, role at Globus) of whom it belongs to."""
        ...


@dataclass(frozen=True, slots=True)
class _Judged:
    """Whose a token is, None if it is not good."""

    identity: Identity | None


class _Outage:
    """Spares a Globus that does not answer, and the threads that would wait for it.

    For a moment nobody asks; then one does, and all do once that one was answered.
    """

    def __init__(self, seconds: Seconds) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._since: float | None = None

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Ask Globus in this block, if it may be asked now.

        Raises:
            AuthUnavailableError: It did not answer a moment ago.
        """
        with self._lock:
            now = self._seconds()
            if self._since is not None:
                if now < self._since + SILENCE:
                    raise AuthUnavailableError(
                        "Globus did not answer a moment ago, so who asks is not known: "
                        "try again in a few seconds."
                    )
                self._since = now + PATIENCE
        try:
            yield
        except AuthUnavailableError:
            self._since = self._seconds()
            raise
        self._since = None


class GlobusAuth:
    """Knows who asks by asking Globus about the token.

    Args:
        globus: Who is asked.
        client_id: This server's client at Globus, which tokens must be meant for.
        admins: Identity ids, usernames and group ids that have the scope `admin`.
        member_role: What a member may do to what its group has, asked of Globus
            Groups; managers and admins of a group are its admins here. None: groups
            are not asked for.
        clock: What the end of a token is compared with.
        seconds: A monotonic clock for how long answers are kept.
    """

    loopback_only = False

    def __init__(
        self,
        globus: Globus,
        *,
        client_id: str,
        admins: Collection[str] = (),
        member_role: Role | None = None,
        clock: Clock = utc_now,
        seconds: Seconds = time.monotonic,
    ) -> None:
        self._globus = globus
        self._client_id = client_id
        self._scope = action_all(client_id)
        self._admins = frozenset(admins)
        self._member_role = member_role
        self._clock = clock
        self._seconds = seconds
        self._outage = _Outage(seconds)
        self._once: Once[_Judged] = Once()
        # Apart, so that no flood of bad tokens displaces the good ones.
        self._good: Recent[_Judged] = Recent(_MOST, seconds)
        self._bad: Recent[_Judged] = Recent(_MOST, seconds)

    @property
    def scheme(self) -> dict[str, Any]:
        """How OpenAPI describes the token that is asked for."""
        meaning = "Everything that its owner may do on this server"
        flow = {
            "authorizationUrl": _AUTHORIZE,
            "tokenUrl": _TOKENS,
            "scopes": {self._scope: meaning},
        }
        return {
            "type": "oauth2",
            "description": "An access token of Globus Auth, sent as a bearer token.",
            "flows": {"authorizationCode": flow},
        }

    def identify(self, token: str | None) -> Identity:
        """Return whom Globus says that a token belongs to.

        Raises:
            UnauthorizedError: It is missing or not good for this server.
            AuthUnavailableError: Globus does not say, and did not in the last minute.
        """
        if token is None or not _may_be_globus(token):
            raise refused()
        key = sha256_text(token)
        judged = self._recalled(key)
        if judged is None:
            judged = self._once.ask(key, lambda: self._learnt(key, token))
        if judged.identity is None:
            raise refused()
        return judged.identity

    def _recalled(self, key: str) -> _Judged | None:
        return self._good.get(key) or self._bad.get(key)

    def _learnt(self, key: str, token: str) -> _Judged:
        known = self._recalled(key)
        if known is not None:  # by who asked a moment earlier
            return known
        # What is answered later may have been true only when it was asked.
        began, now = self._seconds(), self._clock().timestamp()
        with self._outage.noticed():
            said = self._globus.introspect(token)
            judged = _Judged(self._identity(said, token))
        if judged.identity is None:
            self._bad.keep(key, judged, until=began + REFUSAL_KEPT)
        else:
            left = _ends(said, now + KEPT) - now
            self._good.keep(key, judged, until=began + min(KEPT, left))
        return judged

    def _identity(self, said: Mapping[str, Any], token: str) -> Identity | None:
        sub, scopes = said.get("sub"), str(said.get("scope") or "").split()
        meant = said.get("active") is True and self._client_id in _audience(said)
        if not meant or self._scope not in scopes or not isinstance(sub, str):
            return None
        name = str(said.get("username") or sub)
        groups = self._groups(token)
        administers = not self._admins.isdisjoint({sub, name, *groups})
        return Identity(
            id=sub,
            name=name,
            scopes=EVERYTHING if administers else ACTION_ALL,
            groups=groups,
        )

    def _groups(self, token: str) -> dict[str, Role]:
        if self._member_role is None:
            return {}
        member, manages = self._member_role, {"admin", "manager"}
        return greatest(
            (group, Role.ADMIN if theirs in manages else member)
            for group, theirs in self._globus.memberships(token)
        )


def action_all(client_id: str) -> str:
    """Return the scope of the server whose client at Globus that is."""
    return f"https://auth.globus.org/scopes/{client_id}/action_all"


def globus_auth(conf: "ClientConf") -> GlobusAuth:
    """Return the authenticator that a server's settings describe.

    Raises:
        ConfigError: They do not say which client the server is, or not its secret.
    """
    from aero.auth.globus_service import GlobusService

    if conf.portal_client_id is None or conf.portal_client_secret is None:
        raise ConfigError(
            "The server has no client at Globus: register one at "
            "https://app.globus.org/settings/developers, set portal_client_id, and "
            "put its secret into AERO_PORTAL_CLIENT_SECRET, or into a file "
            f"'{conf.profile}.client_secret' of mode 0600 beside config.toml."
        )
    return GlobusAuth(
        GlobusService(conf.portal_client_id, conf.portal_client_secret),
        client_id=conf.portal_client_id,
        admins=conf.admins,
        member_role=Role(conf.globus_member_role) if conf.globus_groups else None,
    )


def _may_be_globus(token: str) -> bool:
    """Whether to show a token to Globus, who learns of no other secrets."""
    try:
        token_text(token)
    except ValueError:
        return False
    return len(token) <= _LONGEST and not token.startswith(PREFIX)


def _audience(said: Mapping[str, Any]) -> list[Any]:
    found = said.get("aud")
    return found if isinstance(found, list) else [found]


def _ends(said: Mapping[str, Any], default: float) -> float:
    """Return when a token ends, in seconds since 1970."""
    found = said.get("exp")
    is_time = isinstance(found, int | float) and not isinstance(found, bool)
    return float(found) if is_time else default  # type: ignore[arg-type]
