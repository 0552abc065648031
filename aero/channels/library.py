"""All other channels (chats, push services, ...): those of Apprise, an extra.

Apprise is imported when such a target is named or told; only people on the workspace's
own machine can name one.
"""

from typing import Any

from aero.channels.message import Message
from aero.error import ConfigError, InvalidValueError, NoticeError
from aero.targets import scheme, shown


class Library:
    """Hands each message to the service that Apprise knows by the target's scheme."""

    def check(self, target: str) -> None:
        """Refuse a target that Apprise cannot read.

        Raises:
            InvalidValueError: It cannot.
            ConfigError: Apprise is not installed.
        """
        if not _apprise().Apprise().add(target):
            raise InvalidValueError(
                f"Apprise cannot read the target {shown(target)}: write it as its "
                f"documentation of {scheme(target)} says."
            )

    def send(self, target: str, message: Message) -> None:
        """Tell a service; see `aero.channels.base.Channel.send`."""
        try:
            apprise = _apprise()
        except ConfigError as error:
            raise NoticeError(str(error)) from error
        service = apprise.Apprise()
        kinds = {
            "failed": apprise.NotifyType.FAILURE,
            "recovered": apprise.NotifyType.SUCCESS,
        }
        taken = service.add(target) and service.notify(
            title=message.subject,
            body=message.text,
            notify_type=kinds[message.kind],
            body_format=apprise.NotifyFormat.TEXT,
        )
        if not taken:
            raise NoticeError(
                f"{shown(target)} did not take it: check the target; the log of "
                "'apprise' says more."
            )


def _apprise() -> Any:
    try:
        import apprise
    except ImportError as error:
        raise ConfigError(
            "Notices to other channels than mail and webhooks need Apprise: run "
            "pip install 'aero-orchestrator[notices]'."
        ) from error
    return apprise
