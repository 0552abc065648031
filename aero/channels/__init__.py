"""Where failure notices go: one adapter per family of targets."""

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
            allow_private=settings.allow_private_addresses,
        )
    return Library()


def check(target: str) -> None:
    """Refuse a target that the library of channels does not know.

    Raises:
        InvalidValueError: It does not.
        ConfigError: The library is not installed.
    """
    if targets.scheme(target) not in {*targets.WEBHOOKS, "mailto"}:
        Library().check(target)
