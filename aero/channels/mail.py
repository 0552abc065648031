"""E-mail, by the configured mail server: verified TLS everywhere but on loopback."""

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, localtime
from socket import getfqdn
from urllib.parse import parse_qs, unquote, urlsplit

from aero import targets
from aero.channels.message import Message
from aero.config.settings import is_loopback
from aero.error import NoticeError

_PORTS = {"smtp": 587, "smtps": 465}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Server:
    host: str
    port: int
    tls_at_once: bool
    user: str
    password: str
    sender: str

    @classmethod
    def of(cls, url: str) -> "_Server":
        parts = urlsplit(url)
        user = unquote(parts.username or "")
        written = parse_qs(parts.query).get("from")
        own = user if "@" in user else f"aero@{getfqdn()}"
        return cls(
            host=parts.hostname or "",
            port=parts.port or _PORTS[parts.scheme],
            tls_at_once=parts.scheme == "smtps",
            user=user,
            password=unquote(parts.password or ""),
            sender=written[0] if written else own,
        )


class Mail:
    """Sends each message as a plain text to one address.

    Args:
        smtp_url: The mail server, as the setting of that name says; None: there is
            none, and every message is refused with what to set.
        timeout: Seconds to wait for each of its answers.
    """

    def __init__(self, smtp_url: str | None, *, timeout: float) -> None:
        self._server = None if smtp_url is None else _Server.of(smtp_url)
        self._timeout = timeout

    def send(self, target: str, message: Message) -> None:
        """Mail a message; see `aero.channels.base.Channel.send`."""
        server = self._server
        if server is None:
            raise NoticeError(
                "There is no mail server to send it by: set smtp_url, such as "
                "smtps://USER:PASSWORD@HOST?from=ADDRESS."
            )
        mail = _mail(server.sender, targets.address(target), message)
        try:
            with self._connected(server) as connection:
                connection.send_message(mail)
        except ssl.SSLError as error:
            raise NoticeError(
                f"The certificate of the mail server {server.host} is not trusted "
                f"({error.reason or error}): name your certificate authorities in "
                "SSL_CERT_FILE."
            ) from error
        except smtplib.SMTPException as error:
            raise NoticeError(
                f"The mail server {server.host} did not take the mail "
                f"({_said(error)}): check smtp_url and the address."
            ) from error
        except OSError as error:
            raise NoticeError(
                f"The mail server {server.host}:{server.port} does not answer "
                f"({error.strerror or error}): check smtp_url."
            ) from error

    def _connected(self, server: _Server) -> smtplib.SMTP:
        """Return a connection that is ready to send, to be closed."""
        where = (server.host, server.port)
        connection: smtplib.SMTP
        if server.tls_at_once:
            connection = smtplib.SMTP_SSL(
                *where, timeout=self._timeout, context=ssl.create_default_context()
            )
        else:
            connection = smtplib.SMTP(*where, timeout=self._timeout)
        try:
            if not server.tls_at_once and not is_loopback(server.host):
                connection.starttls(context=ssl.create_default_context())
            if server.user:
                connection.login(server.user, server.password)
        except BaseException:
            connection.close()
            raise
        return connection


def _mail(sender: str, receiver: str, message: Message) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = message.subject
    mail["From"] = sender
    mail["To"] = receiver
    mail["Date"] = format_datetime(localtime())
    mail["Message-ID"] = f"<{message.id}@aero>"
    # Nobody's absence note is to answer it.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    return mail


def _said(error: smtplib.SMTPException) -> str:
    answers: list[tuple[int, bytes | str]]
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        answers = [*error.recipients.values()]
    elif isinstance(error, smtplib.SMTPResponseException):
        answers = [(error.smtp_code, error.smtp_error)]
    else:
        return " ".join(str(error).split())
    return "; ".join(f"{code} {_text(reason)}" for code, reason in answers)


def _text(reason: bytes | str) -> str:
    text = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
    return " ".join(text.split())
