"""Lists: paged by key with `Link` headers, and as older clients ask for them."""

import base64
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response

from aero.clock import isoformat
from aero.db.session import Database
from aero.error import InvalidValueError
from aero.query import PAGE, Page
from aero.server.answering import Listed
from aero.server.dependencies import Workspace
from aero.types import Json

_MOST = 1000
_DEEPEST = 1_000_000
_LARGEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Paging:
    """Which page of a list was asked for, and how the next one is.

    `after` is what a `Link` header of an earlier page says; `page` (from 1) and
    `offset` are for clients that count.
    """

    request: Request
    db: Database
    limit: int | None
    after: str | None
    page: int | None
    offset: int | None

    def read(self, page_of: Callable[[int, int], Page]) -> list[Json] | Response:
        """Return the records, of which `page_of(size, offset)` reads a page.

        A `page` past the end is 404 with an empty body, where older clients stop.
        """
        after = None if self.after is None else _position(self.after)
        return self._read(page_of, after, PAGE)

    def read_numbered(
        self, page_of: Callable[[int, int], Page]
    ) -> list[Json] | Response:
        """Likewise of what is numbered, which older clients ask for all at once."""
        after = None if self.after is None else _number(self.after)
        return self._read(page_of, after, _MOST if self.page is None else PAGE)

    def _read(
        self, page_of: Callable[[int, int], Page], after: Any, usual: int
    ) -> list[Json] | Response:
        size = self.limit or usual
        past = (self.page - 1) * size if self.page else 0
        with self.db.read() as tx:
            found, key = page_of(size, self.offset or past)(tx, after)
        if not found and (self.page or 1) > 1:
            return Response(status_code=404)
        if key is not None:
            following = self.request.url.remove_query_params(["page", "offset"])
            following = following.include_query_params(after=_encoded(key), limit=size)
            return Listed(found, {"Link": f'<{following}>; rel="next"'})
        return found


async def _paging(  # what is async costs no thread
    *,
    request: Request,
    workspace: Workspace,
    limit: Annotated[
        int | None, Query(ge=1, le=_MOST, description="Records, usually 15")
    ] = None,
    after: Annotated[
        str | None, Query(max_length=200, description="From a Link header")
    ] = None,
    page: Annotated[int | None, Query(ge=1, le=_DEEPEST)] = None,
    offset: Annotated[int | None, Query(ge=0, le=_DEEPEST)] = None,
) -> Paging:
    return Paging(
        request=request,
        db=workspace.db,
        limit=limit,
        after=after,
        page=page,
        offset=offset,
    )


Paged = Annotated[Paging, Depends(_paging)]


def _encoded(key: Any) -> str:
    parts = key if isinstance(key, int) else [isoformat(key[0]), key[1]]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _position(text: str) -> tuple[datetime, str]:
    try:
        moment, record_id = _decoded(text)
        found = datetime.fromisoformat(moment).astimezone(UTC)
        return found, str(uuid.UUID(record_id))
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise _no_position(text) from error


def _number(text: str) -> int:
    try:
        number = _decoded(text)
    except ValueError as error:
        raise _no_position(text) from error
    if type(number) is not int or not 0 <= number <= _LARGEST:
        raise _no_position(text)
    return number


def _decoded(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def _no_position(text: str) -> InvalidValueError:
    return InvalidValueError(
        f"{text!r} is no position in a list: take `after` from a Link header."
    )
