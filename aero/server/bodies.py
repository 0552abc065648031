"""What the server is sent, typed; keys that a body does not know are ignored."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)

from aero.notice import UNKEPT
from aero.result import unwrapped
from aero.server.schemas import Moment

Kwargs = dict[str, Any]
Entries = dict[str, dict[str, Any]]

_MOST_SOURCE = 1 << 20
_DEEPEST = 100
_MOST, _MOST_BYTES = 2**31 - 1, 2**63 - 1


PollDelay = Annotated[
    float | None,
    Field(
        description="Of an event source: seconds between two polls that make a lost "
        "notification good; 0: never; null: as the server is configured"
    ),
]


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
        if isinstance(value, str) and UNKEPT.search(value):
            raise ValueError("It holds a NUL character or half a surrogate pair")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("It holds a number that is not finite")
        if isinstance(value, dict):
            left += [(each, depth + 1) for pair in value.items() for each in pair]
        elif isinstance(value, list):
            left += [(each, depth + 1) for each in value]


Email = Annotated[
    str | list[str] | None,
    Field(description="Whom to mail when the flow fails, and when it works again"),
]
Notify = Annotated[
    str | list[str] | None,
    Field(description="Webhooks (http, https) and mailto: addresses to tell that"),
]


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
    poll_delay: PollDelay = None
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
    email: Email = None
    notify: Notify = None
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
    poll_delay: PollDelay = None
    cron: str | None = None
    timezone: str = "UTC"
    retries: int = 0
    timeout: float | None = None
    priority: int = 0
    max_running: int | None = None
    tags: list[str] = []
    output: str | None = None
    email: Email = None
    notify: Notify = None
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


class InputEntry(Body):
    """Which version of an input was used."""

    id: Annotated[str | None, Field(description="Of the Data")] = None
    version: Annotated[
        int | None, Field(ge=1, le=_MOST, description="null: the newest")
    ] = None


class StoredFile(Body):
    """A file that a step put into the storage."""

    uri: Annotated[str | None, Field(description="Its address")] = None
    sha256: str | None = None
    size: Annotated[int | None, Field(ge=0, le=_MOST_BYTES)] = None
    etag: str | None = None
    last_modified: str | None = None
    final_url: str | None = None
    retrieved_at: Moment | None = None


class OutputEntry(StoredFile):
    """What the steps left of an output."""

    id: Annotated[str | None, Field(description="Of the Data")] = None
    url: Annotated[str | None, Field(description="What was downloaded")] = None
    not_modified: Annotated[
        bool | None, Field(description="The source was as before")
    ] = None
    file_bn: Annotated[
        str | None,
        Field(description="The file's name; without `schema` and `uri` its address"),
    ] = None
    media_type: str | None = None
    encoding: str | None = None
    raw: Annotated[
        StoredFile | None, Field(description="What was downloaded, if it was changed")
    ] = None


class StepBody(Body):
    """A step as it went."""

    name: Literal["download", "get_versions", "function"]
    status: Literal["SUCCEEDED", "FAILED"]
    started_at: Moment | None = None
    finished_at: Moment | None = None
    seconds: Annotated[float | None, Field(ge=0, le=_MOST)] = None
    bytes: Annotated[int | None, Field(ge=0, le=_MOST_BYTES)] = None


class ErrorBody(Body):
    """Why an attempt failed, and whose fault that is."""

    type: str
    message: str | None = None
    traceback: str | None = None
    fault: Literal["function", "source", "unavailable", "storage"] = "function"


class ResultBody(Body):
    """The `aero` payload of a run as its steps completed it.

    It may come within the keyword arguments of a step, under the key `aero`; these are
    then ignored.
    """

    _sent: Any = PrivateAttr()

    payload_schema: Annotated[
        int,
        Field(alias="schema", description="Without it, that of the older client: 0"),
    ] = 0
    flow_id: Annotated[str | None, Field(description="Id, prefix or name")] = None
    run_id: Annotated[
        str | None, Field(description="null: a run of its own is opened")
    ] = None
    attempt: Annotated[
        int | None, Field(ge=1, le=_MOST, description="Of the run that it names")
    ] = None
    task: Annotated[int | None, Field(ge=0, le=_MOST)] = None
    input_data: dict[str, InputEntry | None] | None = None
    output_data: dict[str, OutputEntry | None] | None = None
    steps: Annotated[list[StepBody] | None, Field(max_length=3)] = None
    environment: Annotated[
        dict[str, Any] | None, Field(description="Where the function ran")
    ] = None
    log_tail: Annotated[
        str | None, Field(description="Printed last; 64 KiB of it are kept")
    ] = None
    error: Annotated[ErrorBody | None, Field(description="If the attempt failed")] = (
        None
    )

    @model_validator(mode="wrap")
    @classmethod
    def _keeping(cls, given: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        made = check(unwrapped(given))
        made._sent = given
        return made

    def payload(self) -> dict[str, Any]:
        """Return what was sent, of which every key counts where it is known again."""
        return dict(self._sent)


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
    email: Email = None
    notify: Notify = None


class LimitBody(Body):
    """How many runs may run at once."""

    max_running: Annotated[int | None, Field(description="null: any number")]
