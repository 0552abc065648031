"""The bytes of a version over HTTP (RFC 9110): streamed, with ranges and an ETag."""

import hashlib
import os
import re
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from aero.app import Aero
from aero.error import CorruptObjectError
from aero.server.problems import problem
from aero.types import Json

_CHUNK = 1 << 18
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,1000})-([0-9]{0,1000})[ \t]*", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')

Span = tuple[int, int]


def file_answer(workspace: Aero, version: Json, request: Request) -> Response:
    """Answer a request for a version's bytes.

    Args:
        workspace: Whose version it is.
        version: Its record.
        request: `If-None-Match`, `Range` and `If-Range` are heard.
    """
    file = workspace.open_version(version)
    size = os.fstat(file.fileno()).st_size
    if size != version["data_file"]["file_size"]:
        file.close()
        raise _damaged(workspace, version)
    etag = f'"{version["checksum"]}"'
    headers = _headers(version, etag)
    if _has(request.headers.getlist("if-none-match"), etag):
        file.close()
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        file.close()
        return Response(headers={**headers, "Content-Length": str(size)})
    asked = request.headers.get("range", "")
    unchanged = request.headers.get("if-range", etag) == etag
    span = _span(asked, size) if unchanged else None
    if span is None:
        headers["Content-Length"] = str(size)
        chunks = _verified(workspace, version, file)
        return StreamingResponse(chunks, headers=headers)
    first, end = span
    if first >= end:
        file.close()
        return _no_such_range(asked, size)
    headers["Content-Length"] = str(end - first)
    headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    return StreamingResponse(_part(file, first, end), 206, headers=headers)


def _headers(version: Json, etag: str) -> dict[str, str]:
    name = quote(version["data_file"]["file_name"], safe="")
    encoding = version["data_file"]["encoding"]
    charset = f"; charset={encoding}" if encoding else ""
    return {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        # As it was published; a charset that nobody told of is not made up.
        "Content-Type": version["media_type"] + charset,
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "X-Content-Type-Options": "nosniff",
    }


def _has(given: list[str], etag: str) -> bool:
    """Whether an `If-None-Match` names the tag; weak ones do as well."""
    listed = ",".join(given)
    return listed.strip() == "*" or etag in _TAG.findall(listed)


def _span(asked: str, size: int) -> Span | None:
    """Return (first, end) of a range, empty if there is none such.

    Several ranges and what is no range are not heard: None.
    """
    match = _RANGE.fullmatch(asked.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        # The last bytes of nothing are all of it.
        return (max(0, size - int(last)), size) if size else None
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size


def _no_such_range(asked: str, size: int) -> Response:
    return problem(
        "about:blank",
        416,
        f"The file has {size} bytes, and none of {asked}: ask for others.",
        headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"},
    )


def _part(file: BinaryIO, first: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(first)
        left = end - first
        while left and (chunk := file.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk


def _verified(workspace: Aero, version: Json, file: BinaryIO) -> Iterator[bytes]:
    """Yield all bytes; the last ones only if they are what was stored.

    So that a damaged file is never taken for a whole one: the answer breaks off.
    """
    digest = hashlib.sha256()
    held = b""
    with file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if held:
                yield held
            held = chunk
    if digest.hexdigest() != version["checksum"]:
        raise _damaged(workspace, version)
    yield held


def _damaged(workspace: Aero, version: Json) -> CorruptObjectError:
    workspace.distrust_version(version)
    return CorruptObjectError(
        f"The stored bytes of version {version['version']} of {version['name']} are "
        "damaged: run its flow again."
    )
