"""What is asked again, since its answer was lost, is answered as the first time."""

import asyncio
import time
from collections.abc import Hashable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_KEPT = 600.0
_MOST = 1000
_LONGEST = 1 << 16


@dataclass
class _Answer:
    until: float
    done: asyncio.Event = field(default_factory=asyncio.Event)
    messages: list[Message] = field(default_factory=list)


class Repeats:
    """Remembers the answers to requests with an `Idempotency-Key`, for ten minutes.

    What creates something counts once by the database, whichever process hears it
    again; this is for the rest, such as a deletion, whose repetition would find nothing
    to delete. Only what went well is remembered: what did not may be tried again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._answers: dict[Hashable, _Answer] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a repetition as the first request, which may be under way."""
        mark = _mark(scope)
        if mark is None:
            await self._app(scope, receive, send)
            return
        while (known := self._answers.get(mark)) is not None:
            await known.done.wait()
            if known.messages:
                for message in known.messages:
                    await send(message)
                return
        await self._answer(mark, scope, receive, send)

    async def _answer(
        self, mark: Hashable, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._forget()
        answer = self._answers[mark] = _Answer(time.monotonic() + _KEPT)
        messages: list[Message] = []

        async def remembering(message: Message) -> None:
            messages.append(message)
            await send(message)

        try:
            await self._app(scope, receive, remembering)
            if _went_well(messages):
                answer.messages = messages
        finally:
            if not answer.messages:
                del self._answers[mark]
            answer.done.set()

    def _forget(self) -> None:
        now = time.monotonic()
        for mark, answer in list(self._answers.items()):
            if answer.until > now and len(self._answers) < _MOST:
                return
            if answer.done.is_set():
                del self._answers[mark]


def _mark(scope: Scope) -> Hashable | None:
    """Return what makes requests the same: who asks what, and by which key."""
    if scope["type"] != "http" or scope["method"] not in {"POST", "DELETE"}:
        return None
    headers = dict(scope["headers"])
    key = headers.get(b"idempotency-key")
    if key is None:
        return None
    who = headers.get(b"authorization")
    return scope["method"], scope["path"], scope["query_string"], who, key


def _went_well(messages: list[Message]) -> bool:
    size = sum(len(message.get("body", b"")) for message in messages)
    return bool(messages) and messages[0]["status"] < 300 and size <= _LONGEST
