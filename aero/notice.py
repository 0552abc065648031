"""PURE: a notification as it came, checked as far as that goes without the database."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from aero import object_keys
from aero.error import InvalidTypeError, InvalidValueError

_MOST = 2**63 - 1
UNKEPT = re.compile("[\0\ud800-\udfff]")
"""A NUL or half of a pair of surrogates: no database keeps either."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A notification as it came: what changed, named by `file_id`, `url` or `key`.

    Attributes:
        file_id: A Data; beside `url` or `key` it says whose object that is.
        url: The object's URL.
        key: The object's key.
        bucket: The S3 bucket that `key` is in.
        etag: What the object's content is known by.
        size: Of the object, in bytes.
        dedup: False forces a version even if nothing changed.
        delivery_id: Of the delivery, which counts once.
        trigger_url: Handed to the runs that read the version.
        signed_url: Likewise.

    Raises:
        InvalidValueError: It names nothing, or twice; or a size is no size.
        InvalidTypeError: A value is of the wrong type.
    """

    file_id: str | None = None
    url: str | None = None
    key: str | None = None
    bucket: str | None = None
    etag: str | None = None
    size: int | None = None
    dedup: bool = True
    delivery_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    trigger_url: str | None = None
    signed_url: str | None = None

    def __post_init__(self) -> None:
        kinds = {"size": int, "dedup": bool}
        for each in fields(self):
            value, kind = getattr(self, each.name), kinds.get(each.name, str)
            wrong = not isinstance(value, kind) or type(value) is bool is not kind
            if value is not None and wrong:
                raise InvalidTypeError(
                    f"{each.name} is a {type(value).__name__}: write a {kind.__name__}."
                )
            if isinstance(value, str) and UNKEPT.search(value):
                raise InvalidValueError(
                    f"{each.name} holds a NUL or half a surrogate pair, which no "
                    "database keeps: write it without."
                )
        if self.size is not None and not 0 <= self.size <= _MOST:
            raise InvalidValueError(
                f"The size is {self.size}: write a number of bytes from 0 to {_MOST}."
            )
        if self.url is not None and self.key is not None:
            raise InvalidValueError(
                "Both url and key are given: name the object by one of them."
            )
        if self.bucket is not None and self.key is None:
            raise InvalidValueError(
                f"The bucket {self.bucket!r} is given without a key: name the object."
            )
        if self.file_id is None and self.object_key is None:
            raise InvalidValueError(
                "The notification does not say what changed: write file_id, url or key."
            )

    @property
    def object_key(self) -> str | None:
        """The key of the object it names, if it names one.

        One in a bucket is named as where the bucket is the first folder of its server.
        """
        if self.url is not None:
            return object_keys.object_key(self.url)
        whole = self.key if self.bucket is None else f"{self.bucket}/{self.key}"
        return None if whole is None else object_keys.normal_key(whole)


def notice(body: Mapping[str, Any] | None = None, **given: Any) -> Notice:
    """Return the notification in a body, in keyword arguments, or in both.

    Keys of the body that no notification has are ignored; it wins over keywords.
    """
    if body is not None and not isinstance(body, Mapping):
        raise InvalidTypeError(
            f"The notification is a {type(body).__name__}: write a dict such as "
            '{"url": "https://..."}.'
        )
    known = {each.name for each in fields(Notice)}
    found = {**given, **{k: v for k, v in (body or {}).items() if k in known}}
    return Notice(**{k: v for k, v in found.items() if v not in (None, "")})
