"""PURE: what webhooks bring, made into notifications, and how they prove who sent them.

A bucket notification is what Amazon S3, MinIO and other object stores send: records,
each about one object; or Amazon SNS for them, in an envelope. A generic webhook holds
one notification or a list of them, and is signed with a secret that both sides know.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import reprlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from aero.error import (
    ConflictError,
    ForbiddenError,
    InvalidTypeError,
    InvalidValueError,
    UnauthorizedError,
)
from aero.notice import Notice, notice
from aero.types import Json

TIMESTAMP = "X-Aero-Timestamp"
SIGNATURE = "X-Aero-Signature"
WINDOW = 300
"""Seconds that a signed webhook may be late, or its sender's clock wrong."""

MOST = 1000
"""Events that one webhook may bring."""

_SIGNED = re.compile(r"sha256=[0-9a-f]{64}")
_SECONDS = re.compile(r"[0-9]{1,11}")
_TEST = "s3:TestEvent"
_CONFIRMING = "SubscriptionConfirmation"
_OF_TOPICS = {_CONFIRMING, "UnsubscribeConfirmation"}
_CONFIRM = re.compile(r"https://sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/\?[!-~]{1,1000}")


@dataclass(frozen=True, kw_only=True)
class Told:
    """One of the events that a webhook brought.

    Attributes:
        event: What the sender calls it, such as `ObjectCreated:Put`.
        about: The object, as far as it was named.
        notice: The notification it makes; None if there is nothing to do.
        note: Why there is nothing to do.
    """

    event: str
    about: str | None = None
    notice: Notice | None = None
    note: str | None = None


def bucket_events(body: bytes) -> list[Told]:
    """Return the events of a bucket notification, as S3, MinIO and SNS send it.

    A record that cannot be read is noted, and keeps none of the others from counting.

    Raises:
        InvalidValueError: The body is no bucket notification.
        ConflictError: SNS asks to confirm a subscription, which is its owner's to do.
    """
    document = _json(body)
    if not isinstance(document, dict):
        document = {}
    kind = None if "Records" in document else _text(document.get("Type"))
    if kind in _OF_TOPICS:
        return [_of_topic(document)]
    if kind == "Notification":
        document = _enclosed(document.get("Message"))
    if document.get("Event") == _TEST:
        note = "The bucket tests its configuration, and reached this server."
        return [Told(event=_TEST, about=_text(document.get("Bucket")), note=note)]
    records = document.get("Records")
    if not isinstance(records, list):
        raise InvalidValueError(
            "The body is no bucket notification, for it has no list of Records: send "
            "what S3 or MinIO sends, or use /hooks/generic."
        )
    return [_of_record(record) for record in _few(records)]


def _enclosed(message: Any) -> Json:
    document = _json(message.encode()) if isinstance(message, str) else None
    return document if isinstance(document, dict) else {}


def _of_topic(envelope: Json) -> Told:
    """Return what a topic says of itself; its URLs are never asked for.

    Raises:
        ConflictError: It asks to confirm a subscription.
    """
    event, topic = str(envelope["Type"]), _text(envelope.get("TopicArn"))
    url = _text(envelope.get("SubscribeURL")) or ""
    if event == _CONFIRMING:
        shown = url if _CONFIRM.fullmatch(url) else "the SubscribeURL of this message"
        raise ConflictError(
            f"The topic {reprlib.repr(topic)} asks to confirm its subscription, which "
            f"this server does not do by itself: open {shown}, or run 'aws sns "
            "confirm-subscription' with its Token.",
            topic=topic,
        )
    note = "The topic says so of itself, and of no object."
    return Told(event=event, about=topic, note=note)


def signed_events(body: bytes, signature: str) -> list[Told]:
    """Return the events of a generic webhook: those of a list, or one.

    What names no `delivery_id` has one of its signature and its place in the list, so
    that a webhook that is sent again counts once.

    Raises:
        InvalidValueError: The body is not JSON.
    """
    document = _json(body)
    entries = document if isinstance(document, list) else [document]
    return [
        _of_entry(entry, f"{signature}:{place}")
        for place, entry in enumerate(_few(entries))
    ]


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a body sent at `timestamp`, in seconds since 1970."""
    message = timestamp.encode() + b"." + body
    digest = hmac.new(secret.encode(), message, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def verify(
    secret: str | None,
    *,
    timestamp: str | None,
    signature: str | None,
    body: bytes,
    now: float,
) -> str:
    """Return the signature of a webhook, once it is known to be its sender's.

    Args:
        secret: What both sides know.
        timestamp: What the header `X-Aero-Timestamp` says.
        signature: What the header `X-Aero-Signature` says.
        body: What was sent, byte by byte.
        now: This server's time, in seconds since 1970.

    Raises:
        ForbiddenError: This server has no secret.
        UnauthorizedError: The signature is missing or wrong, or not of this time.
    """
    if secret is None:
        raise ForbiddenError(
            "This server takes no signed webhooks: set AERO_WEBHOOK_SECRET there."
        )
    if timestamp is None or not _SECONDS.fullmatch(timestamp):
        raise UnauthorizedError(
            f"The webhook does not say when it was sent: write the seconds since 1970 "
            f"into {TIMESTAMP}."
        )
    if signature is None or not _SIGNED.fullmatch(signature):
        raise UnauthorizedError(
            f"The webhook is not signed: write 'sha256=' and the HMAC-SHA256 of "
            f"timestamp, '.' and body as hexadecimal digits into {SIGNATURE}."
        )
    if not hmac.compare_digest(sign(secret, timestamp, body), signature):
        raise UnauthorizedError(
            "The webhook's signature is wrong: sign with this server's webhook_secret."
        )
    if abs(now - int(timestamp)) > WINDOW:
        raise UnauthorizedError(
            f"The webhook was signed more than {WINDOW} s from now: sign it when it is "
            "sent, and set the clock."
        )
    return signature


def authorise(
    secret: str | None, authorization: str | None, *, needed: bool = False
) -> None:
    """See that a bucket notification carries the secret.

    It does so as its bearer token, or as the password of Basic authentication, which
    SNS takes from the URL that it sends to.

    Args:
        secret: The server's; without one everybody may send who reaches it.
        authorization: The header of the notification.
        needed: Whether there must be a secret, since not everybody may be trusted.

    Raises:
        UnauthorizedError: It does not carry it.
        ForbiddenError: There is no secret though there must be one.
    """
    if secret is None:
        if needed:
            raise ForbiddenError(
                "This server takes no bucket notifications: set webhook_secret there."
            )
        return
    if not hmac.compare_digest(_given(authorization or ""), secret.encode()):
        raise UnauthorizedError(
            "The notification does not carry this server's webhook_secret: set it as "
            "the sender's auth token, or as the password in the URL that it sends to.",
            basic=True,
        )


def _given(authorization: str) -> bytes:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


def _json(body: bytes) -> Any:
    try:
        document = json.loads(body)
        # Half of a surrogate pair is no character, and no answer could name it.
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidValueError("The body is not JSON: send JSON.") from error
    return document


def _few(events: list[Any]) -> list[Any]:
    if len(events) > MOST:
        raise InvalidValueError(
            f"The webhook has {len(events)} events: send at most {MOST} at once."
        )
    return events


def _of_record(record: Any) -> Told:
    event = _text(_at(record, "eventName")) or "unknown"
    kind = event.removeprefix("s3:")
    bucket = _text(_at(record, "s3", "bucket", "name"))
    encoded = _text(_at(record, "s3", "object", "key"))
    if bucket is None or encoded is None:
        note = "The record does not name its bucket and object."
        return Told(event=event, note=note)
    # Bytes that are no UTF-8 stay apart, as `object_keys` keeps them.
    key = unquote_plus(encoded, errors="backslashreplace")
    about = f"{bucket}/{key}"
    if kind.startswith("ObjectRemoved:"):
        note = "The object was removed; the versions made of it stay."
        return Told(event=event, about=about, note=note)
    if not kind.startswith("ObjectCreated:"):
        note = "Such an event does not change what an object holds."
        return Told(event=event, about=about, note=note)
    found = {
        "bucket": bucket,
        "key": key,
        "etag": _text(_at(record, "s3", "object", "eTag")),
        "size": _at(record, "s3", "object", "size"),
        "delivery_id": _delivery(record, bucket),
    }
    return _noticed(event, about, found)


def _delivery(record: Any, bucket: str) -> str | None:
    """Return what names the event, whenever it is sent again; the key is told apart."""
    ways = [("s3", "object", "sequencer"), ("responseElements", "x-amz-request-id")]
    for way in (*ways, ("eventTime",)):
        mark = _text(_at(record, *way))
        if mark is not None:
            etag = _text(_at(record, "s3", "object", "eTag")) or ""
            return f"s3:{bucket}:{mark}:{etag}"
    return None


def _of_entry(entry: Any, delivery_id: str) -> Told:
    if not isinstance(entry, dict):
        note = f"The notification is a {type(entry).__name__}: write an object."
        return Told(event="notify", note=note)
    names = (_text(entry.get(name)) for name in ("url", "key", "file_id"))
    about = next((name for name in names if name is not None), None)
    given = {name: value for name, value in entry.items() if value not in (None, "")}
    return _noticed("notify", about, {"delivery_id": delivery_id, **given})


def _noticed(event: str, about: str | None, found: dict[str, Any]) -> Told:
    try:
        made = notice(found)
    except (InvalidTypeError, InvalidValueError) as error:
        return Told(event=event, about=about, note=str(error))
    return Told(event=event, about=about, notice=made)


def _at(record: Any, *way: str) -> Any:
    for name in way:
        if not isinstance(record, dict):
            return None
        record = record.get(name)
    return record


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
