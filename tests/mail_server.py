"""A real SMTP server on loopback that keeps, or refuses, what it is sent."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword


class Mailbox:
    """What a mail server was sent.

    Attributes:
        mails: In the order in which they came.
        answer: What the server says to every mail; 250 takes it.
        refused: The addresses that it does not know.
        logins: User and password of each login.
        url: The server's, for `smtp_url`.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answer = "250 taken"
        self.refused: set[str] = set()
        self.logins: list[tuple[str, str]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}?from=aero@example.org"

    async def handle_RCPT(  # noqa: N802
        self, _: Any, __: Any, envelope: Any, address: str, ___: Any
    ) -> str:
        if address in self.refused:
            return "550 unknown here"
        envelope.rcpt_tos.append(address)
        return "250 known"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            found = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(found, EmailMessage)
            found["X-To"] = ", ".join(envelope.rcpt_tos)
            self.mails.append(found)
        return self.answer

    def login(
        self, _server: Any, _session: Any, _env: Any, _how: str, data: Any
    ) -> Any:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password == b"right pass/word", handled=False)


@contextmanager
def mail_server(
    tls: ssl.SSLContext | None = None, *, at_once: bool = False, login: bool = False
) -> Iterator[Mailbox]:
    """Serve on loopback until the block ends.

    Args:
        tls: Wanted by STARTTLS, or from the beginning.
        at_once: Which of the two.
        login: Whether a mail is taken only after a login.
    """
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        box.port = free.getsockname()[1]
    options: dict[str, Any] = {}
    if tls is not None:
        options = {"ssl_context": tls} if at_once else {"tls_context": tls}
        options["require_starttls"] = not at_once
    if login:
        options |= {"authenticator": box.login, "auth_required": True}
        options["auth_require_tls"] = not at_once and tls is not None
    server = Controller(box, hostname="127.0.0.1", port=box.port, **options)
    server.start()
    try:
        yield box
    finally:
        server.stop()
