"""Where failure notices go: one adapter per family of targets."""

import warnings
from collections.abc import Iterable

from aero import targets
from aero.channels.base import Channel
from aero.channels.library import Library
from aero.channels.mail import Mail
from aero.channels.message import Message
from aero.channels.webhook import Webhook
from aero.config import ClientConf

__all__ = ["Channel", "Library", "Mail", "Message", "Webhook", "channel_for", "check"]


def channel_for(target: str, settings: ClientConf) -> Channel:
    """Return what reaches a target."""
    kind = targets.scheme(target)
    if kind == "mailto":
        return Mail(settings.smtp_url, timeout=settings.http_timeout)
    if kind in targets.WEBHOOKS:
        return Webhook(
            timeout=settings.http_timeout,
            allow_private=settings.private_allowed,
        )
    return Library()


def check(found: Iterable[str], settings: ClientConf, *, from_afar: bool) -> None:
    """Refuse targets that who asks may not name, or that the library does not know.

    Warns where mail cannot be sent yet.

    Args:
        found: The targets.
        settings: The configuration.
        from_afar: Whether who asks does so over HTTP.

    Raises:
        ForbiddenError: Only people on the workspace's machine may name it.
        InvalidValueError: The library cannot read it.
        ConfigError: The library is not installed.
    """
    if from_afar:
        targets.refuse_from_afar(found)
        return
    for target in found:
        kind = targets.scheme(target)
        if kind not in {*targets.WEBHOOKS, "mailto"}:
            Library().check(target)
        if kind == "mailto" and settings.smtp_url is None:
            warnings.warn(
                "Mail is sent once smtp_url is set where 'aero work' runs.",
                UserWarning,
                stacklevel=5,
            )
