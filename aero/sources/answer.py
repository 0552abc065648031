"""What an HTTP answer says about its bytes, and whether another goes on with them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aero.sources.headers import resume_validator

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The headers of a 200 or a 206.

    Attributes:
        url: Who answered, after all redirects.
        etag: As sent.
        last_modified: As sent.
        total: Bytes of the whole, if known.
        resume_with: What an If-Range may carry, None if nothing pins the bytes.
        content_type: As sent.
        disposition: Content-Disposition as sent.
    """

    url: str
    etag: str | None
    last_modified: str | None
    total: int | None
    resume_with: str | None
    content_type: str | None
    disposition: str | None

    @classmethod
    def of(cls, response: "BaseHTTPResponse", url: str, total: int | None) -> "Answer":
        """Return what the headers of `response` say, in a whole of `total` bytes."""
        found = response.headers
        etag, last_modified = found.get("ETag"), found.get("Last-Modified")
        return cls(
            url=url,
            etag=etag,
            last_modified=last_modified,
            total=total,
            resume_with=resume_validator(etag, last_modified, found.get("Date")),
            content_type=found.get("Content-Type"),
            disposition=found.get("Content-Disposition"),
        )

    def goes_on_in(self, later: "Answer") -> bool:
        """Whether a later 206 is a part of the same bytes.

        A redirect may lead elsewhere each time; a signature in the query may differ.
        """
        return (
            self.url.partition("?")[0] == later.url.partition("?")[0]
            and self.etag == later.etag
            and (self.etag is not None or self.last_modified == later.last_modified)
            and self.total in (None, later.total)
        )
