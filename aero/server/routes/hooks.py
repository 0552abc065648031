"""Webhooks: what object stores and other programs send when an object changed."""

import logging
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request

from aero import hooks
from aero.app import Aero
from aero.error import ClientError, ConflictError
from aero.hooks import Told
from aero.server import schemas
from aero.server.answering import Answering
from aero.server.dependencies import Workspace
from aero.server.problems import documented

log = logging.getLogger(__name__)

router = APIRouter(prefix="/hooks", tags=["events"], route_class=Answering)


async def _body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_body)]


def _json_of(schema: dict[str, Any], description: str) -> dict[str, Any]:
    """Return what OpenAPI is told of a body that is read byte by byte."""
    content = {"application/json": {"schema": schema}}
    return {
        "requestBody": {
            "required": True,
            "description": description,
            "content": content,
        }
    }


_RECORDS = {
    "type": "object",
    "properties": {
        "Records": {"type": "array", "items": {}},
        "Event": {"description": "`s3:TestEvent`, without Records"},
        "Type": {"description": "Of an SNS envelope, such as `Notification`"},
        "TopicArn": {"description": "The SNS topic"},
        "Message": {"description": "The notification in an SNS envelope, as text"},
    },
}
_NOTICE = {
    "type": "object",
    "properties": {
        "file_id": {"type": "string"},
        "url": {"type": "string"},
        "key": {"type": "string"},
        "bucket": {"type": "string", "description": "That `key` is in"},
        "etag": {"type": "string"},
        "size": {"type": "integer", "description": "Bytes"},
        "dedup": {"type": "boolean", "default": True},
        "delivery_id": {"type": "string", "description": "Counts once"},
        "trigger_url": {"type": "string"},
        "signed_url": {"type": "string"},
    },
}
_NOTICES = {"oneOf": [_NOTICE, {"type": "array", "items": _NOTICE}]}


@router.post(
    "/s3",
    responses=documented(401, 403, 409),
    response_model=schemas.Heard,
    openapi_extra=_json_of(
        _RECORDS, "A bucket notification of S3 or MinIO as it is, or in SNS's envelope"
    ),
)
def bucket_notification(
    request: Request,
    workspace: Workspace,
    body: Body,
    authorization: Annotated[
        str | None,
        Header(
            description="`Bearer` and the webhook_secret, if the server has one; or "
            "`Basic`, with it as the password"
        ),
    ] = None,
) -> Any:
    """Take a bucket notification; each of its events counts once."""
    hooks.authorise(
        workspace.settings.webhook_secret,
        authorization,
        needed=request.app.state.asking,
    )
    try:
        events = hooks.bucket_events(body)
    except ConflictError as error:
        # SNS keeps the answer to itself; who set the topic up looks here.
        log.warning("%s", error)
        raise
    return _heard(workspace, events)


@router.post(
    "/generic",
    responses=documented(401, 403, 503),
    response_model=schemas.Heard,
    openapi_extra=_json_of(_NOTICES, "What changed, or a list of that"),
)
def signed_webhook(
    workspace: Workspace,
    body: Body,
    timestamp: Annotated[
        str | None,
        Header(
            alias=hooks.TIMESTAMP,
            description="Seconds since 1970, at most 300 s from the server's time",
        ),
    ] = None,
    signature: Annotated[
        str | None,
        Header(
            alias=hooks.SIGNATURE,
            description="`sha256=` and the HMAC-SHA256, by the webhook_secret, of "
            "timestamp, `.` and body, in hexadecimal digits",
        ),
    ] = None,
) -> Any:
    """Take a signed webhook; sent again, each of its events counts once."""
    verified = hooks.verify(
        workspace.settings.webhook_secret,
        timestamp=timestamp,
        signature=signature,
        body=body,
        now=time.time(),
    )
    return _heard(workspace, hooks.signed_events(body, verified))


def _heard(workspace: Aero, events: list[Told]) -> schemas.Heard:
    heard = schemas.Heard(triggered=[], ignored=[])
    for told in events:
        found = _follow(workspace, told)
        if isinstance(found, schemas.Triggered):
            heard.triggered.append(found)
        else:
            heard.ignored.append(found)
    return heard


def _follow(workspace: Aero, told: Told) -> schemas.Triggered | schemas.Ignored:
    """Trigger what follows from an event; what an object lacks is noted."""
    if told.notice is None:
        return _ignored(told, told.note or "")
    try:
        run = workspace.notify(vars(told.notice))
    except ClientError as error:
        # What is not the sender's fault is an error of all: it sends it again.
        if error.code >= 500:
            raise
        return _ignored(told, error.message)
    return schemas.Triggered(
        event=told.event,
        about=told.about,
        run_id=run["id"],
        flow_id=run["flow_id"],
        status=run["status"],
    )


def _ignored(told: Told, note: str) -> schemas.Ignored:
    return schemas.Ignored(event=told.event, about=told.about, note=note)
