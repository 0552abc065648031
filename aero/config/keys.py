"""The keys of the configuration: what each may be, in a file and in AERO_*."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aero.config.private import token_text
from aero.config.settings import server_parts
from aero.error import ConfigError

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_SHORTEST_SECRET = 16
_FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}

Layer = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of value.

    Attributes:
        what: Says in words what to write.
        check: Makes a file's value typed; ValueError or TypeError if it cannot be.
        parse: Makes of an environment variable's text what a file would hold.
        secret: Whether the value may not appear in messages.
    """

    what: str
    check: Callable[[Any], Any]
    parse: Callable[[str], Any] = str
    secret: bool = False


def _only(wanted: type, value: Any) -> Any:
    if type(value) is not wanted:
        raise TypeError
    return value


def _text(value: Any) -> str:
    text: str = _only(str, value)
    if not text.strip():
        raise ValueError
    return text


def _secret(value: Any) -> str:
    text = _text(value)
    # As a token of a header can be.
    if not re.fullmatch(rf"[!-~]{{{_SHORTEST_SECRET},}}", text):
        raise ValueError
    return text


def _database(value: Any) -> str:
    url = _text(value)
    if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValueError
    _ = urlsplit(url).port  # which raises if it is no port
    return url


def _server(value: Any) -> str:
    parts = urlsplit(server_parts(_text(value))[1])
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError
    return str(value)


def _mail_server(value: Any) -> str:
    parts = urlsplit(_text(value))
    # Asked for its port, it refuses one that is none.
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or parts.port == 0:
        raise ValueError
    return str(value)


def _path(value: Any) -> Path:
    return Path(_text(value)).expanduser()


def _paths(value: Any) -> tuple[Path, ...]:
    return tuple(_path(entry) for entry in _only(list, value))


def _words(value: Any) -> tuple[str, ...]:
    return tuple(_text(entry) for entry in _only(list, value))


def _one_of(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return check


def _at_least(least: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        number: int = _only(int, value)
        if number < least:
            raise ValueError
        return number

    return check


def _seconds(value: Any) -> float:
    seconds = float(value if type(value) is int else _only(float, value))
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError
    return seconds


def _rate(value: Any) -> float:
    return 0.0 if value == 0 and not isinstance(value, bool) else _seconds(value)


def size_in_bytes(value: Any) -> int:
    """Return the bytes of a size: a number, or text such as "4 GiB" or "500 MB".

    Raises:
        ValueError: `value` is not a size above zero.
        TypeError: `value` is neither a whole number nor text.
    """
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if not match:
            raise ValueError
        number, unit, binary = match.groups()
        value = int(float(number) * (1024 if binary else 1000) ** _UNITS[unit.lower()])
    return _at_least(1)(value)


TEXT = Kind(what="text in quotes", check=_text)
PATH = Kind(what="a path in quotes", check=_path)
SIZE = Kind(what='bytes, or a size such as "4 GiB"', check=size_in_bytes)
SECONDS = Kind(what="seconds above 0", check=_seconds, parse=float)
SERVER = Kind(what="https://host[:port]", check=_server, secret=True)
SECRET = Kind(
    what=f"{_SHORTEST_SECRET} or more ASCII characters without spaces, in quotes",
    check=_secret,
    secret=True,
)
FLAG = Kind(
    what="true or false",
    check=lambda value: _only(bool, value),
    parse=lambda text: _FLAGS[text.strip().lower()],
)

KEYS: Mapping[str, Kind] = {
    "home": PATH,
    "database_url": Kind(
        what="sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE",
        check=_database,
        secret=True,
    ),
    "store": PATH,
    "workers": Kind(what="a whole number from 1", check=_at_least(1), parse=int),
    "memory_limit": SIZE,
    "timeout": SECONDS,
    "allow_private_addresses": FLAG,
    "file_roots": Kind(
        what="a list of folders",
        check=_paths,
        parse=lambda text: text.split(os.pathsep),
    ),
    "max_download": SIZE,
    "http_timeout": SECONDS,
    "credentials": PATH,
    "lease": SECONDS,
    "heartbeat": SECONDS,
    "poll_delay": SECONDS,
    "retention_days": Kind(
        what="a whole number of days", check=_at_least(0), parse=int
    ),
    "client_uuid": TEXT,
    "portal_client_id": TEXT,
    "portal_client_secret": SECRET,
    "admins": Kind(
        what="a list of identity ids, usernames and group ids",
        check=_words,
        parse=lambda text: [word.strip() for word in text.split(",")],
    ),
    "globus_groups": FLAG,
    "globus_member_role": Kind(
        what="viewer, editor or admin", check=_one_of("viewer", "editor", "admin")
    ),
    "rate_limit": Kind(
        what="requests a second, or 0 for any number", check=_rate, parse=float
    ),
    "aero_dir": PATH,
    "token_file": TEXT,
    "server_address": SERVER,
    "server_url": SERVER,
    "token": Kind(what="a token of the server", check=token_text, secret=True),
    "webhook_secret": SECRET,
    "smtp_url": Kind(
        what="smtps://USER:PASSWORD@HOST[:PORT]?from=ADDRESS, or smtp:// for STARTTLS",
        check=_mail_server,
        secret=True,
    ),
    # What the older program calls server_url and aero_dir.
    "server": SERVER,
    "cache_dir": PATH,
}


_SAME = ({"server", "server_url", "server_address"}, {"aero_dir", "cache_dir"})


def typed(table: Mapping[str, Any], *, origin: str, base: Path) -> Layer:
    """Return a file's table with typed values; paths are made absolute by `base`.

    Raises:
        ConfigError: A key is unknown, or its value of another kind.
    """
    for key in table:
        if key not in KEYS:
            raise ConfigError(_unknown(key, origin), key=key)
    return {
        key: _absolute(_value(key, value, KEYS[key].check, origin), base)
        for key, value in table.items()
    }


def from_environment(environ: Mapping[str, str]) -> Layer:
    """Return what `AERO_<KEY>` variables say; empty ones say nothing.

    Raises:
        ConfigError: A value is of another kind.
    """
    layer = {}
    for key, kind in KEYS.items():
        name = f"AERO_{key.upper()}"
        if environ.get(name):
            raw = _value(key, environ[name], kind.parse, name)
            layer[key] = _absolute(_value(key, raw, kind.check, name), Path.cwd())
    return layer


def modern(layer: Layer) -> Layer:
    """Return a layer without the older program's keys, its server complete."""
    layer = dict(layer)
    older = layer.pop("server", None)
    server = layer.get("server_url") or layer.get("server_address") or older
    if server:
        address, url = server_parts(server)
        layer.setdefault("server_address", address)
        layer.setdefault("server_url", url)
    if "cache_dir" in layer:
        layer.setdefault("aero_dir", layer.pop("cache_dir"))
        layer.pop("cache_dir", None)
    return layer


def without(table: Mapping[str, Any], newer: Mapping[str, Any]) -> Layer:
    """Return `table` without the keys, and other names of keys, that `newer` has."""
    replaced = set(newer).union(*(same for same in _SAME if same & newer.keys()))
    return {key: value for key, value in table.items() if key not in replaced}


def _value(key: str, raw: Any, convert: Callable[[Any], Any], origin: str) -> Any:
    kind = KEYS[key]
    try:
        return convert(raw)
    except (ValueError, TypeError, KeyError, OverflowError, RuntimeError):
        shown = "of the wrong kind" if kind.secret else repr(raw)
        where = origin if origin.startswith("AERO_") else f"{key} in {origin}"
        raise ConfigError(f"{where} is {shown}: write {kind.what}.", key=key) from None


def _absolute(value: Any, base: Path) -> Any:
    if isinstance(value, Path):
        return base / value
    if isinstance(value, tuple):
        return tuple(_absolute(each, base) for each in value)
    return value


def _unknown(key: str, origin: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key, KEYS, n=1, cutoff=0.0)
    return f"{origin} has the unknown key {key!r}: did you mean {near[0]!r}?"
