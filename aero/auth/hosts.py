"""Logins per host, from a file that only its owner can read.

The file has the format of `.netrc`, one login per host, or per host and port:

    machine data.example.org login ada password secret
    machine data.example.org:8443 login ada password other
"""

import base64
import netrc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aero.config.private import require_private
from aero.error import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """A user's name and password; the password never prints."""

    user: str
    password: str = field(repr=False)

    def authorization(self) -> str:
        """Return the value of a Basic `Authorization` header (RFC 7617, UTF-8)."""
        pair = f"{self.user}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


def login_for(logins: Mapping[str, Login], host: str, port: int) -> Login | None:
    """Return the login for exactly this port, else for the host, else None."""
    name = host.lower()
    return logins.get(f"{name}:{port}") or logins.get(name)


def read_logins(path: Path) -> dict[str, Login]:
    """Return the logins in a credentials file, by `host` or `host:port`.

    Args:
        path: A file in the format of `.netrc`, of mode 0600 or stricter.

    Raises:
        ConfigError: The file is missing, open to others or cannot be understood. The
            message never quotes the file.
    """
    require_private(path, "credentials file")
    try:
        found = netrc.netrc(str(path))
    except netrc.NetrcParseError as error:
        # The parser's message quotes the file, which may be the password itself.
        raise ConfigError(
            f"Line {error.lineno} of the credentials file {path} is not understood: "
            "write 'machine HOST login USER password PASSWORD'.",
            path=str(path),
        ) from None
    except (OSError, UnicodeError):
        raise ConfigError(
            f"The credentials file {path} cannot be read: check that it is a text "
            "file of yours.",
            path=str(path),
        ) from None
    return {
        host.lower(): _login(host, user, password, path)
        for host, (user, _, password) in found.hosts.items()
    }


def _login(host: str, user: str, password: str | None, path: Path) -> Login:
    if host == "default":
        raise ConfigError(
            f"The credentials file {path} has a 'default' entry, which would send a "
            "password to every host: name the host with 'machine'.",
            path=str(path),
        )
    if not user or not password or ":" in user:
        raise ConfigError(
            f"The credentials file {path} has no usable login for {host}: write "
            f"'machine {host} login USER password PASSWORD', without a colon in USER.",
            path=str(path),
        )
    return Login(user=user, password=password)
