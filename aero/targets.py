"""PURE: whom a flow tells of its failures: checked, and shown without secrets.

A target is a URL. `mailto:ADDRESS` is reached by the configured mail server, http and
https are webhooks, and any other scheme is left to the library of channels.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from aero.error import ForbiddenError, InvalidTypeError, InvalidValueError

WEBHOOKS = frozenset({"http", "https"})
MASK = "***"

_MAIL = "mailto:"
_FROM_AFAR = WEBHOOKS | {"mailto"}
_MOST = 20
_LONGEST = 2000
_UNFIT = re.compile("[\0- \x7f\ud800-\udfff]")
_ADDRESS = re.compile(r'[^\s@,;:<>()\[\]\\"]{1,64}@[^\s@,;:<>()\[\]\\"/?#&%]{1,189}')
_OTHER = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]", re.IGNORECASE)


def targets(email: Any = None, notify: Any = None) -> tuple[str, ...]:
    """Return the targets that a caller asks for, each once.

    Args:
        email: One address, several with commas between them, or a list of addresses.
        notify: A URL, or a list of URLs.

    Raises:
        InvalidValueError: One of them cannot be told anything; no secret is in it.
        InvalidTypeError: A value is of the wrong type.
    """
    mail = [_mail(a) for text in _texts("email", email) for a in _parts(text)]
    found = tuple(dict.fromkeys([*mail, *map(_target, _texts("notify", notify))]))
    if len(found) > _MOST:
        raise InvalidValueError(
            f"{len(found)} targets are given: name up to {_MOST}, or one address that "
            "passes it on."
        )
    return found


def changed(
    before: Iterable[str], *, email: Sequence[str] | None, notify: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the targets once mail, the others, or both have been replaced.

    Args:
        before: Those of a flow.
        email: What replaces those of mail; None leaves them.
        notify: What replaces the others; None leaves them.
    """
    known = list(before)
    mail = [t for t in known if _is_mail(t)] if email is None else email
    rest = [t for t in known if not _is_mail(t)] if notify is None else notify
    return targets(notify=[*mail, *rest])


def addresses(found: Iterable[str]) -> list[str]:
    """Return the addresses among targets."""
    return [address(target) for target in found if _is_mail(target)]


def others(found: Iterable[str]) -> list[str]:
    """Return the targets that are no addresses, as they may be shown."""
    return [shown(target) for target in found if not _is_mail(target)]


def address(target: str) -> str:
    """Return the address of a target of mail."""
    return target[len(_MAIL) :]


def scheme(target: str) -> str:
    """Return the scheme of a target, in small letters."""
    return target.partition(":")[0].lower()


def shown(target: str) -> str:
    """Return a target as it may be shown: all but a webhook's host may be a secret."""
    kind = scheme(target)
    if kind == "mailto":
        return address(target)
    if kind not in WEBHOOKS:
        return f"{kind}://{MASK}"
    place, *rest = re.split("[/?#]", target.partition("://")[2], maxsplit=1)
    return f"{kind}://{place}" + (f"/{MASK}" if rest and rest != [""] else "")


def refuse_from_afar(found: Iterable[str]) -> None:
    """Refuse what only people on the workspace's machine may name.

    Raises:
        ForbiddenError: A channel may read files of that machine or act on it.
    """
    for target in found:
        if scheme(target) not in _FROM_AFAR:
            raise ForbiddenError(
                f"Over HTTP a flow may tell http, https and mailto, not "
                f"{shown(target)}: let who runs the server name it with 'aero set'."
            )


def _is_mail(target: str) -> bool:
    return scheme(target) == "mailto"


def _texts(name: str, given: Any) -> list[str]:
    found = [given] if isinstance(given, str) else given
    if found is None:
        return []
    listed = isinstance(found, list | tuple)
    if not listed or not all(isinstance(each, str) for each in found):
        raise InvalidTypeError(f"{name} is no list of texts: write ['...', '...'].")
    return [each.strip() for each in found if each.strip()]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _mail(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise InvalidValueError(
            f"{text[:80]!r} is no address for mail: write one such as ada@example.org."
        )
    return _MAIL + text


def _target(text: str) -> str:
    if _is_mail(text):
        return _mail(address(text))
    if len(text) > _LONGEST or _UNFIT.search(text) or not _OTHER.match(text):
        raise InvalidValueError(
            "An entry of notify is no URL that a notice can go to: write "
            "https://HOST/PATH of a webhook, or mailto:ADDRESS, without spaces."
        )
    if scheme(text) in WEBHOOKS:
        _check_webhook(text)
    return text


def _check_webhook(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is not closed, a port that is none
        usable = False
    if not usable:
        raise InvalidValueError(
            f"A webhook of notify has no host and port ({scheme(url)}://{MASK}): write "
            "https://HOST/PATH."
        )
    if "@" in parts.netloc:
        raise InvalidValueError(
            f"The webhook at {parts.hostname} carries a login: write it without "
            "USER:PASSWORD@, and what it is to know into its path or query."
        )
