"""The login of this user at Globus, as the token file keeps it: an access token.

Only access tokens leave this machine for a server. The refresh token goes to Globus and
nowhere else, when the access token has ended.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aero.auth.globus import action_all
from aero.clock import Clock, utc_now
from aero.config.private import require_private, token_text, write_private
from aero.error import AuthUnavailableError, ConfigError, UnauthorizedError

if TYPE_CHECKING:
    from aero.config import ClientConf

_EARLY = 60.0
_TIMEOUT = 30.0
_NAMESPACE = "DEFAULT"

Entry = dict[str, Any]


class GlobusLogin:
    """Returns, when called, an access token that is good now; thread-safe.

    Args:
        path: The token file, of mode 0600. It has one of the forms in which globus_sdk
            stores tokens: of each resource server `access_token`, `refresh_token`,
            `expires_at_seconds` and `scope`.
        client_id: The client at Globus that the user logged in with.
        scope: Of the server.
        clock: What the end of a token is compared with.
    """

    def __init__(
        self, path: Path, *, client_id: str, scope: str, clock: Clock = utc_now
    ) -> None:
        self._path = path
        self._client_id = client_id
        self._scope = scope
        self._clock = clock
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """Return the access token, a new one if it ends within a minute.

        Raises:
            UnauthorizedError: The login has ended.
            AuthUnavailableError: Globus does not answer.
            ConfigError: The token file cannot be used.
        """
        with self._lock:
            entry = self._found(self._read())
            if entry is None:
                raise _ended(f"{self._path} holds no login for the server")
            if _ends(entry) - self._clock().timestamp() <= _EARLY:
                entry = self._refreshed(entry)
            try:
                return token_text(entry.get("access_token"))
            except (TypeError, ValueError):
                raise self._unusable() from None

    @property
    def there(self) -> bool:
        """Whether the user is logged in for the scope, as far as is known here."""
        return self._found(self._read()) is not None

    def _refreshed(self, entry: Entry) -> Entry:
        given = entry.get("refresh_token")
        if not isinstance(given, str):
            raise _ended("The login at Globus has ended")
        fresh = _refresh(self._client_id, given, self._scope)
        # Read once more: meanwhile another process may have stored something else.
        document = self._read()
        kept = self._found(document)
        if kept is not None:
            kept.update({name: v for name, v in fresh.items() if v is not None})
            self._write(document)
        return {**entry, **fresh}

    def _found(self, document: Mapping[str, Any]) -> Entry | None:
        """Return the entry in a document of the token for the scope."""
        for entry in _entries(document):
            if self._scope in str(entry.get("scope") or "").split():
                return entry
        return None

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():  # any more
            return {}
        require_private(self._path, "token file")
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise self._unusable() from None
        if not isinstance(document, dict):
            raise self._unusable()
        return document

    def _write(self, document: Mapping[str, Any]) -> None:
        try:
            write_private(self._path, json.dumps(document, indent=2))
        except OSError as error:
            raise ConfigError(
                f"The new token cannot be written to {self._path} ({error.strerror}): "
                "make that possible, or set aero_dir to a folder where it is.",
                path=str(self._path),
            ) from error

    def _unusable(self) -> ConfigError:
        return ConfigError(
            f"The token file {self._path} cannot be understood: remove it with "
            "'aero logout', and log in again.",
            path=str(self._path),
        )


def login_of(conf: "ClientConf") -> GlobusLogin | None:
    """Return the login for the server that the settings name, None without one.

    Raises:
        ConfigError: The token file cannot be used.
    """
    if conf.portal_client_id is None:
        return None
    login = GlobusLogin(
        conf.aero_dir / conf.token_file,
        client_id=conf.client_uuid,
        scope=action_all(conf.portal_client_id),
    )
    return login if login.there else None


def _entries(document: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield the tokens of each resource server, in whichever form they are stored."""
    spaces = document.get("data")
    places = [
        spaces.get(_NAMESPACE) if isinstance(spaces, Mapping) else None,
        document.get("by_rs"),
        document,
    ]
    for place in places:
        if isinstance(place, Mapping):
            yield from (entry for entry in place.values() if isinstance(entry, dict))


def _ends(entry: Entry) -> float:
    found = entry.get("expires_at_seconds")
    return float(found) if isinstance(found, int | float) else 0.0


def _refresh(client_id: str, refresh_token: str, scope: str) -> Entry:
    """Return what Globus gives for a refresh token: the new tokens for the scope."""
    from globus_sdk import GlobusAPIError, NativeAppAuthClient, NetworkError
    from globus_sdk.transport import RequestsTransport, RetryConfig

    client = NativeAppAuthClient(
        client_id,
        transport=RequestsTransport(http_timeout=_TIMEOUT),
        retry_config=RetryConfig(max_retries=2, max_sleep=2),
    )
    try:
        found = client.oauth2_refresh_token(refresh_token).by_resource_server
    except NetworkError as error:
        raise AuthUnavailableError(
            f"Globus cannot be reached to renew the login ({type(error).__name__}): "
            "try again later."
        ) from error
    except GlobusAPIError as error:
        if error.http_status in {400, 401, 403}:
            raise _ended("The login at Globus has ended") from error
        raise AuthUnavailableError(
            f"Globus answered {error.http_status} when asked to renew the login: try "
            "again later."
        ) from error
    finally:
        client.transport.close()
    for entry in found.values():
        if scope in str(entry.get("scope") or "").split():
            return dict(entry)
    raise _ended("The login at Globus is not for this server any more")


def _ended(what: str) -> UnauthorizedError:
    return UnauthorizedError(f"{what}: log in again, or set AERO_TOKEN.")
