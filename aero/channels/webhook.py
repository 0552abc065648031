"""Webhooks: a POST of JSON, over verified TLS, to where it may be sent."""

import json

from aero.channels.message import Message
from aero.error import InvalidValueError, NoticeError, SourceError
from aero.sources.connections import exchange, parse, shown
from aero.sources.retry import TryAgainError
from aero.targets import shown as target_shown


class Webhook:
    """Posts each message as JSON; only a status of 2xx means that it was taken.

    Redirects are not followed.

    Args:
        timeout: Seconds to wait for a connection, and for an answer.
        allow_private: Whether receivers may lie in a private network.
    """

    def __init__(self, *, timeout: float, allow_private: bool) -> None:
        self._timeout = timeout
        self._allow_private = allow_private

    def send(self, target: str, message: Message) -> None:
        """Post a message; see `aero.channels.base.Channel.send`."""
        status = self._post(target, message)
        if not 200 <= status < 300:
            advice = (
                "name the address it redirects to"
                if 300 <= status < 400
                else "check the address and what is there"
            )
            raise NoticeError(
                f"{target_shown(target)} answered with status {status}: {advice}."
            )

    def _post(self, target: str, message: Message) -> int:
        try:
            parts = parse(target)
        except InvalidValueError as error:
            raise NoticeError(
                f"{target_shown(target)} is no URL that can be posted to: correct it."
            ) from error
        try:
            response = exchange(
                parts,
                {
                    "Accept": "*/*",
                    "Content-Type": "application/json",
                    "User-Agent": "aero",
                    "X-Aero-Notice": message.id,
                },
                timeout=self._timeout,
                allow_private=self._allow_private,
                method="POST",
                body=json.dumps(message.to_json()).encode(),
            )
        except TryAgainError as error:
            raise NoticeError(
                f"{target_shown(target)} could not be told: {error}."
            ) from error
        except SourceError as error:
            # Its URLs have a path, which may be a secret here.
            said = str(error).replace(shown(str(parts)), target_shown(target))
            raise NoticeError(said) from error
        response.close()
        return int(response.status)
