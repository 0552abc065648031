"""Data, their versions, sources and notifications."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from aero import query
from aero.server import bodies, schemas
from aero.server.answering import Answering
from aero.server.dependencies import IdempotencyKey, Workspace
from aero.server.files import file_answer
from aero.server.paging import Paged
from aero.server.paths import DECODED
from aero.server.problems import LISTED, Responses, documented

router = APIRouter(prefix="/data", tags=["data"], route_class=Answering)

Ref = Annotated[str, Path(description="Id, unique prefix of it, or name"), DECODED]
TypeName = Annotated[str, Path(description="The name of the type"), DECODED]


@router.get("", responses=LISTED, response_model=list[schemas.Data])
def list_data(paged: Paged) -> Any:
    """List the Data, newest first."""
    return paged.read(partial(query.metadata_page, "data"))


@router.get("/search", responses=documented(), response_model=list[schemas.Data])
def search(
    workspace: Workspace,
    query: Annotated[str, Query(description="Words, all of which must occur")],
) -> Any:
    """Search name, description, URL and tags."""
    return workspace.search_sources(query)


@router.get("/types", responses=documented(), response_model=list[schemas.SourceType])
def list_types(workspace: Workspace) -> Any:
    """List the source types."""
    return workspace.list_source_types()


@router.get(
    "/types/{name}", responses=documented(404), response_model=schemas.SourceType
)
def get_type(workspace: Workspace, name: TypeName) -> Any:
    """Get a source type."""
    return workspace.get_source_type(name)


@router.post(
    "/types/{name}/urls",
    responses=documented(404, 409),
    response_model=schemas.SourceType,
)
def add_type_url(workspace: Workspace, name: TypeName, body: bodies.UrlBody) -> Any:
    """Add a URL or a pattern to a source type."""
    return workspace.add_type_url(name, body.url)


@router.post("/source", responses=documented(404, 409), response_model=schemas.Source)
def create_source(
    workspace: Workspace,
    body: bodies.SourceBody,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Make a Data with a URL and the flow that ingests it."""
    return workspace.create_source(**body.model_dump(), idempotency_key=idempotency_key)


@router.post(
    "/notify", responses=documented(404, 409, 400), response_model=schemas.RunDetail
)
def notify(
    workspace: Workspace,
    body: bodies.NoticeBody,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Say that an object changed; answers with the run of its source."""
    told = body.model_dump() | {"delivery_id": idempotency_key}
    return workspace.notify(told)


@router.post(
    "/{ref}/notify",
    responses=documented(404, 409, 400),
    response_model=schemas.RunDetail,
)
def notify_one(
    workspace: Workspace,
    ref: Ref,
    body: bodies.NoticeBody | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Say that an object of this Data changed."""
    told = (body or bodies.NoticeBody()).model_dump() | {
        "delivery_id": idempotency_key,
        "file_id": ref,
    }
    return workspace.notify(told)


@router.get("/{ref}", responses=documented(404, 409), response_model=schemas.Data)
def get_data(workspace: Workspace, ref: Ref) -> Any:
    """Get a Data."""
    return workspace.get_data(ref)


@router.get(
    "/{ref}/versions",
    responses=LISTED,
    response_model=list[schemas.Version],
)
def list_versions(workspace: Workspace, ref: Ref, paged: Paged) -> Any:
    """List the versions of a Data, newest first."""
    data_id = workspace.get_data(ref)["id"]
    return paged.read_numbered(partial(query.versions_page, data_id))


@router.get(
    "/{ref}/latest", responses=documented(404, 409), response_model=schemas.NamedVersion
)
def latest(workspace: Workspace, ref: Ref) -> Any:
    """Get the newest version of a Data."""
    return workspace.get_version(ref)


Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="From 1")]


@router.get(
    "/{ref}/versions/{number}",
    responses=documented(404, 409),
    response_model=schemas.NamedVersion,
)
def get_version(workspace: Workspace, ref: Ref, number: Number) -> Any:
    """Get one version of a Data."""
    return workspace.get_version(ref, number)


_FILE: Responses = {
    200: {"description": "The bytes", "content": {"*/*": {}}},
    206: {"description": "The bytes asked for", "content": {"*/*": {}}},
    304: {"description": "The ETag is the one given"},
    **documented(404, 409, 416),
}
_IfNoneMatch = Annotated[str | None, Header(description="ETags, or *: 304 if one is")]
_Range = Annotated[str | None, Header(description="One range, such as bytes=0-99")]
_IfRange = Annotated[str | None, Header(description="The ETag that Range is about")]


@router.head(
    "/{ref}/versions/{number}/file",
    response_class=StreamingResponse,
    responses={200: {"description": "What is told of the bytes"}, **_FILE},
)
@router.get(
    "/{ref}/versions/{number}/file",
    response_class=StreamingResponse,
    responses=_FILE,
)
def get_file(
    workspace: Workspace,
    request: Request,
    ref: Ref,
    number: Number,
    *,
    if_none_match: _IfNoneMatch = None,  # noqa: ARG001 -- these describe, and are
    range: _Range = None,  # noqa: A002, ARG001 -- read where lists of them can be
    if_range: _IfRange = None,  # noqa: ARG001
) -> Response:
    """Get the bytes of a version, or a range of them; the ETag is their SHA-256."""
    return file_answer(workspace, workspace.get_version(ref, number), request)


@router.post(
    "/{ref}/share", responses=documented(404, 409), response_model=schemas.Data
)
def share(workspace: Workspace, ref: Ref, body: bodies.SharingBody) -> Any:
    """Say who sees a Data and its versions beside its owner."""
    return workspace.share("data", ref, public=body.public, group=body.group)


@router.get(
    "/{ref}/lineage", responses=documented(404, 409), response_model=schemas.Lineage
)
def lineage(
    workspace: Workspace,
    ref: Ref,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    direction: Literal["up", "down"] = "up",
    depth: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
) -> Any:
    """Get what a version was made from (`up`) or what it went into (`down`)."""
    which = ref if version is None else f"{ref}@{version}"
    return workspace.lineage(which, direction, depth).record()


@router.get(
    "/{ref}/flows",
    responses=documented(404, 409),
    response_model=list[schemas.FlowOfData],
)
def get_flows(workspace: Workspace, ref: Ref) -> Any:
    """List the flows that use or make a Data."""
    return workspace.get_data_flows(ref)


@router.delete(
    "/{ref}/flows",
    responses=documented(404, 409),
    response_model=list[schemas.DeletedFlow],
)
def delete_flows(workspace: Workspace, ref: Ref) -> Any:
    """Delete the flows that use or make a Data, all or none; versions stay."""
    return workspace.delete_data_flows(ref)
