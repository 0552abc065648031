"""What the server is sent, typed; keys that a body does not know are ignored."""

import math
import re
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

Kwargs = dict[str, Any]
Entries = dict[str, dict[str, Any]]

_MOST_SOURCE = 1 << 20
_DEEPEST = 100
_MOST_BYTES = 2**63 - 1
# A NUL or half of a pair of surrogates: no database keeps either.
_UNKEPT = re.compile("[\0\ud800-\udfff]")


class Body(BaseModel):
    """What is sent, of exactly these types, and such that it can be kept."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _kept(cls, given: Any) -> Any:
        _refuse_unkept(given)
        return given


def _refuse_unkept(given: Any) -> None:
    left = [(given, 0)]
    while left:
        value, depth = left.pop()
        if depth > _DEEPEST:
            raise ValueError(f"It is nested deeper than {_DEEPEST}")
        if isinstance(value, str) and _UNKEPT.search(value):
            raise ValueError("It holds a NUL character or half a surrogate pair")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("It holds a number that is not finite")
        if isinstance(value, dict):
            left += [(each, depth + 1) for pair in value.items() for each in pair]
        elif isinstance(value, list):
            left += [(each, depth + 1) for each in value]


class SharingBody(Body):
    """Who sees a thing beside its owner: everybody, a group, or else nobody."""

    public: bool = False
    group: Annotated[
        str | None, Field(description="One of which who asks is editor or admin")
    ] = None


class FlowBody(SharingBody):
    """A flow to register, with the names that the established client sends."""

    gc_endpoint: str = "local"
    function_uuid: str | None = None
    pull_function_uuid: Annotated[
        str | None, Field(description="Taken, not used: aero downloads by itself")
    ] = None
    commit_function_uuid: Annotated[
        str | None, Field(description="Taken, not used: aero commits by itself")
    ] = None
    input_data: Entries | None = None
    output_data: Entries | None = None
    description: str | None = None
    rule: Annotated[
        int | str | None, Field(description="The policy, number or name")
    ] = None
    timer: Annotated[float | None, Field(description="Seconds")] = None
    timer_delay: Annotated[float | None, Field(description="The same as timer")] = None
    cron: str | None = None
    timezone: str = "UTC"
    flow_kwargs: Annotated[
        Kwargs | list[Kwargs] | None, Field(description="A list is a sweep")
    ] = None
    tasks: Annotated[
        list[Kwargs] | None,
        Field(
            description="A sweep: kwargs of one run each; flow_kwargs are left out, "
            "or repeat the first"
        ),
    ] = None
    retries: int = 0
    timeout: float | None = None
    priority: int = 0
    max_running: int | None = None
    tags: list[str] | None = None
    email: Annotated[
        str | None, Field(description="Taken, not used: whom failures were told to")
    ] = None
    storage: str | None = None
    exist_ok: bool = False

    def kwargs_and_tasks(self) -> tuple[Kwargs | None, list[Kwargs] | None]:
        """Return the kwargs, or those of each task of a sweep."""
        if isinstance(self.flow_kwargs, list):
            return None, self.flow_kwargs if self.tasks is None else self.tasks
        if self.tasks and self.flow_kwargs == self.tasks[0]:
            return None, self.tasks
        return self.flow_kwargs, self.tasks

    def typed_source(self) -> dict[str, Any] | None:
        """Return what is asked of a source, if the one output names its type."""
        outputs = list((self.output_data or {}).items())
        if len(outputs) != 1 or self.input_data or not outputs[0][1].get("type"):
            return None
        name, entry = outputs[0]
        return {
            "name": name,
            "output": name,
            "url": entry.get("url"),
            "type_name": entry["type"],
            "collection_uuid": entry.get("collection_uuid"),
            "collection_url": entry.get("collection_url"),
        }


class SourceBody(SharingBody):
    """A source to create."""

    name: str
    url: str
    collection_uuid: str | None = None
    collection_url: str | None = None
    endpoint_uuid: str | None = None
    function_uuid: str | None = None
    description: str | None = None
    kwargs: Kwargs | None = None
    type_name: Annotated[
        str | None, Field(validation_alias=AliasChoices("type_name", "type"))
    ] = None
    no_copy: bool = False
    policy: Annotated[int | str, Field(description="INGESTION or INGESTION_EVENT")] = 4
    timer_delay: Annotated[float | None, Field(description="Seconds")] = None
    cron: str | None = None
    timezone: str = "UTC"
    retries: int = 0
    timeout: float | None = None
    priority: int = 0
    max_running: int | None = None
    tags: list[str] = []
    output: str | None = None
    exist_ok: bool = False


class UrlBody(Body):
    """A URL or a pattern of URLs to add to a source type."""

    url: str


class NoticeBody(Body):
    """What changed: `file_id`, `url` or `key` names it."""

    file_id: str | None = None
    url: str | None = None
    key: str | None = None
    bucket: Annotated[
        str | None, Field(description="The S3 bucket that `key` is in")
    ] = None
    etag: str | None = None
    size: Annotated[int | None, Field(ge=0, le=_MOST_BYTES)] = None
    dedup: bool = True
    trigger_url: str | None = None
    signed_url: str | None = None


class FunctionBody(SharingBody):
    """A function's plain source, as `register_function` makes it."""

    name: str
    source: Annotated[str, Field(max_length=_MOST_SOURCE)]
    description: str = ""
    python_version: str


class PauseBody(Body):
    """Why a flow is paused."""

    reason: str | None = None


class GcBody(Body):
    """How to free what nothing refers to."""

    dry_run: bool = False


class FlowChanges(Body):
    """What of a flow can be changed; what is not given stays."""

    priority: int = 0
    max_running: Annotated[int | None, Field(description="null: any number")] = None


class LimitBody(Body):
    """How many runs may run at once."""

    max_running: Annotated[int | None, Field(description="null: any number")]
