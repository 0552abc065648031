"""The port: how somebody is told of what became of a flow."""

from typing import Protocol

from aero.channels.message import Message


class Channel(Protocol):
    """Tells receivers of one kind. Safe to share between threads."""

    def send(self, target: str, message: Message) -> None:
        """Tell one receiver; return once it has taken the message.

        It takes tens of seconds at most, unless the receiver drips its answer. What
        was sent before is sent again if asked for: who keeps receivers from hearing it
        twice is the caller.

        Args:
            target: The receiver, a URL of `aero.targets`.
            message: What to tell.

        Raises:
            NoticeError: It did not take it. The sentence says why, and holds none of
                the target's secrets.
        """
        ...
