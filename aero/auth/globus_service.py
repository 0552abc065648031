"""What a server asks Globus: what a token is good for, and whose groups these are.

globus_sdk is imported when it is first asked, and its errors end here.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, LifoQueue
from typing import TYPE_CHECKING, Any

from aero.error import AuthUnavailableError

if TYPE_CHECKING:
    from globus_sdk import ConfidentialAppAuthClient, GlobusAPIError

log = logging.getLogger(__name__)

GROUPS_SCOPE = (
    "urn:globus:auth:scope:groups.api.globus.org:view_my_groups_and_memberships"
)
_GROUPS_SERVER = "groups.api.globus.org"
_TIMEOUT = 5.0
_TOO_MANY = 429


class GlobusService:
    """Globus Auth and Globus Groups, as a resource server sees them; thread-safe.

    Args:
        client_id: The server's client at Globus.
        secret: Of that client.
    """

    def __init__(self, client_id: str, secret: str) -> None:
        self._client_id = client_id
        self._secret = secret
        # A client of globus_sdk, and its connection, is for one thread at a time.
        self._idle: LifoQueue[ConfidentialAppAuthClient] = LifoQueue()

    def introspect(self, token: str) -> Mapping[str, Any]:
        """Return what Globus says of a token; `active` says whether it is any good.

        Raises:
            AuthUnavailableError: Globus does not answer, or not this server.
        """
        from globus_sdk import GlobusAPIError

        with _translated(), self._client() as client:
            try:
                found = client.oauth2_token_introspect(token).data
            except GlobusAPIError as error:
                if error.http_status != 400:  # by which it says that it is no token
                    raise
                return {"active": False}
        if not isinstance(found, Mapping):
            raise AuthUnavailableError(
                "Globus Auth answered something else than what a token is good for: "
                "try again later."
            )
        return found

    def memberships(self, token: str) -> list[tuple[str, str]]:
        """Return (group id, role) of whom an access token belongs to.

        That the token does not reach so far, since it is a refresh token or its owner
        did not consent, is no error: it has no groups then.

        Raises:
            AuthUnavailableError: Globus does not answer.
        """
        from globus_sdk import GlobusAPIError

        with _translated():
            try:
                access = self._groups_token(token)
                return [] if access is None else _active(_groups(access))
            except GlobusAPIError as error:
                if not 400 <= error.http_status < 500 or _is_busy(error):
                    raise
                log.info(
                    "Globus tells no groups of who asks (%s, %s).",
                    error.http_status,
                    error.code,
                )
                return []

    def _groups_token(self, token: str) -> str | None:
        with self._client() as client:
            found = client.oauth2_get_dependent_tokens(token, scope=GROUPS_SCOPE)
        access = found.by_resource_server.get(_GROUPS_SERVER, {}).get("access_token")
        return None if access is None else str(access)

    @contextmanager
    def _client(self) -> Iterator["ConfidentialAppAuthClient"]:
        try:
            client = self._idle.get_nowait()
        except Empty:
            client = self._made()
        try:
            yield client
        finally:
            self._idle.put(client)

    def _made(self) -> "ConfidentialAppAuthClient":
        from globus_sdk import ConfidentialAppAuthClient

        return ConfidentialAppAuthClient(self._client_id, self._secret, **_patience())


def _patience() -> dict[str, Any]:
    """Return how long globus_sdk waits for an answer, and how often it asks again."""
    from globus_sdk.transport import RequestsTransport, RetryConfig

    return {
        "transport": RequestsTransport(http_timeout=_TIMEOUT),
        "retry_config": RetryConfig(max_retries=1, max_sleep=1),
    }


def _groups(access: str) -> list[dict[str, Any]]:
    from globus_sdk import AccessTokenAuthorizer, GroupsClient

    client = GroupsClient(authorizer=AccessTokenAuthorizer(access), **_patience())
    try:
        return list(client.get_my_groups(statuses="active"))
    finally:
        client.transport.close()


def _active(groups: list[dict[str, Any]]) -> list[tuple[str, str]]:
    # Of each group they are those of every identity that is linked to this one.
    return [
        (str(group["id"]), str(membership.get("role")))
        for group in groups
        for membership in group.get("my_memberships") or []
        if membership.get("status") == "active"
    ]


@contextmanager
def _translated() -> Iterator[None]:
    from globus_sdk import GlobusAPIError, NetworkError

    try:
        yield
    except NetworkError as error:
        raise AuthUnavailableError(
            f"Globus cannot be reached to ask who this is ({type(error).__name__}): "
            "try again later."
        ) from error
    except GlobusAPIError as error:
        raise _unanswered(error) from error


def _unanswered(error: "GlobusAPIError") -> AuthUnavailableError:
    if error.http_status in {401, 403}:
        log.error("Globus refuses this server's portal_client_id or its secret.")
        return AuthUnavailableError(
            "Globus does not accept this server's own client id and secret: whoever "
            "operates it must correct portal_client_id or portal_client_secret."
        )
    return AuthUnavailableError(
        f"Globus answered {error.http_status} when asked who this is: try again later."
    )


def _is_busy(error: "GlobusAPIError") -> bool:
    return bool(error.http_status == _TOO_MANY)
