"""What the server answers: the records of `aero.records`, as OpenAPI sees them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Record = dict[str, Any]

# As records have it, so that a time is the same text here and there.
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


PollDelay = Annotated[
    float | None, Field(description="Seconds between two polls of an event source")
]


class Answer(BaseModel):
    """A record; what a model does not name is not answered."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


class Owned(Answer):
    """What belongs to somebody, and who else sees it."""

    owner: str
    visibility: Annotated[str, Field(description="private, group or public")]
    group: Annotated[str | None, Field(description="Whose members see it")]


class Hidden(Answer):
    """What is there, and not for who asks to see."""

    hidden: bool


class HiddenVersion(Hidden):
    """A version of a Data that is not for who asks to see."""

    id: str


class Data(Owned):
    """A named product with versions 1..n; a source has a URL."""

    id: str
    name: str
    url: str | None
    collection_uuid: str | None
    collection_url: str | None
    description: str
    no_copy: bool
    available_versions: Annotated[int, Field(description="The newest version, or 0")]
    tags: list[str]
    created_at: Moment


class DataFile(Answer):
    """The file of a version."""

    file_name: str
    file_type: str
    file_size: Annotated[int | None, Field(description="Bytes")]
    encoding: str | None


class Version(Answer):
    """An immutable version of a Data."""

    id: str
    data_id: str
    version: int
    checksum: Annotated[
        str | None, Field(description="SHA-256; of a no-copy version the ETag")
    ]
    created_at: Moment
    source_key: str
    task: int
    media_type: str
    uri: str | None
    data_file: DataFile


class NamedVersion(Version):
    """A version with the name of its Data, or of the input or output it was."""

    name: str


class MadeVersion(NamedVersion):
    """A version that a run made, or merely made again."""

    is_new: bool


class FunctionArgs(Answer):
    """What a flow gives its function, and where that runs."""

    kwargs: Record
    function: str | None
    endpoint: str


class Flow(Owned):
    """A standing rule: function, endpoint, inputs, outputs, kwargs and policy."""

    id: str
    function_id: str | None
    function_args: FunctionArgs
    function_name: str | None
    policy: int
    policy_name: str
    timer: Annotated[float | None, Field(description="Seconds")]
    poll_delay: PollDelay
    cron: str | None
    timezone: str
    timer_job_id: str | None
    next_due: Moment | None
    last_executed: Moment | None
    endpoint: str
    description: str
    enabled: bool
    paused_reason: str | None
    retries: int
    timeout: Annotated[float | None, Field(description="Seconds")]
    priority: int
    max_running: int | None
    email: Annotated[list[str], Field(description="Who is mailed when it fails")]
    notify: Annotated[
        list[str], Field(description="Who else is told, but for what may be secret")
    ]
    created_at: Moment
    derived_from: list[Data | Hidden]
    contributed_to: list[Data | Hidden]


class FlowOfData(Answer):
    """A flow that uses or makes a Data."""

    flow_id: str
    role: Annotated[str, Field(description="ingestion, analysis or both")]
    policy: int
    policy_name: str
    description: str
    endpoint: str
    function_id: str | None
    timer: float | None
    poll_delay: PollDelay
    cron: str | None
    timer_job_id: str | None
    enabled: bool
    next_due: Moment | None
    last_executed: Moment | None


class DeletedFlow(FlowOfData):
    """A flow that was deleted; what it left in the record stays."""

    provenance_deleted: Annotated[
        int, Field(description="0: the provenance of its runs stays")
    ]


class Source(Data):
    """A Data that is downloaded, with the flow that ingests it."""

    data_id: str
    flow_id: str
    type_name: str | None
    policy: int
    policy_name: str
    timer: float | None
    poll_delay: PollDelay
    cron: str | None
    timer_job_id: str | None
    function_id: str | None
    endpoint: str
    input_data: Annotated[
        dict[str, dict[str, str]],
        Field(description="To paste into a flow that reads it"),
    ]


class SourceUrl(Answer):
    """A URL or a pattern of a type, and the key that its objects are known by."""

    url: str
    object_key: str


class SourceType(Answer):
    """A group of object URLs and patterns under one Data."""

    id: str
    name: str
    data_id: str
    description: str
    no_copy: bool
    urls: list[SourceUrl]


class Function(Owned):
    """A registered function; without source it is known by its Globus id only."""

    id: str
    name: str
    description: str
    source: str | None
    source_sha256: str | None
    python_version: str | None
    created_at: Moment


class Run(Answer):
    """One execution of a flow."""

    id: str
    flow_id: str
    task: int
    source_key: str
    status: str
    trigger_kind: str
    trigger_key: str
    attempt: int
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    not_before: Moment
    error_type: str | None
    error_message: str | None


class RunInput(Answer):
    """A version that a run was given."""

    name: str
    data_id: str
    version: int


class HiddenInput(Hidden):
    """An input of a run whose Data is not for who asks to see."""

    name: str


class Step(BaseModel):
    """A part of a run, with what was measured of it."""

    model_config = ConfigDict(extra="allow")

    name: str
    status: str
    started_at: Moment | None
    finished_at: Moment | None


class RunStep(Step):
    """A step of one attempt."""

    attempt: int


class RunDetail(Run):
    """A run with its log, traceback, inputs and steps."""

    traceback: str | None
    log_tail: Annotated[
        str | None, Field(description="The last 64 KiB the function printed")
    ]
    inputs: list[RunInput | HiddenInput]
    steps: list[RunStep]


class Code(Answer):
    """The code that a run executed."""

    id: str | None
    name: str
    source: str | None
    source_sha256: str | None
    code: str


class Download(Answer):
    """What was downloaded, and from where."""

    name: str
    url: str
    final_url: str
    etag: str | None
    last_modified: str | None
    sha256: str
    size: int
    uri: str | None
    retrieved_at: Moment


class Provenance(Answer):
    """The permanent record of a committed run."""

    id: str
    flow_id: str
    run_id: str
    task: int
    function: Code | None
    kwargs: Record
    trigger_key: str
    endpoint: str
    agent: str
    environment: Record
    steps: list[Step]
    started_at: Moment
    finished_at: Moment
    derived_from: list[NamedVersion | HiddenVersion]
    contributed_to: list[MadeVersion | HiddenVersion]
    sources: list[Download]


class Payload(BaseModel):
    """What crosses to a worker under the key `aero`, completed by each step."""

    model_config = ConfigDict(extra="allow")

    flow_id: str | None = None
    run_id: str | None = None
    input_data: Annotated[dict[str, Record], Field(description="By input")]
    output_data: Annotated[dict[str, Record], Field(description="By output")]


class Edge(Answer):
    """`child` was made, or made again, from `parent`."""

    child: str
    parent: str


class Lineage(Answer):
    """The ancestry, or the impact, of a version."""

    root: str
    direction: str
    nodes: list[Record]
    edges: list[Edge]
    reproductions: list[Edge]


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(description="Stable; names the error's class")]
    title: str
    status: int
    detail: Annotated[str, Field(description="What happened and what to do")]
    facts: Record = {}


class RunNow(RunDetail):
    """The run of task 0, and in `runs` those of all tasks."""

    runs: list[RunDetail]


class DownloadUnderWay(Answer):
    """How far a long download is."""

    run_id: str
    url: str
    received: int
    expected: int | None


class InputState(Answer):
    """What an input has, and what of it was used."""

    name: str
    data_id: str | None
    data_name: str | None
    pinned: int | None
    latest: int | None
    consumed: int | None
    newer: bool


class LastRun(Answer):
    """How a flow's last run stands."""

    id: str
    status: str
    trigger_key: str
    attempt: int
    finished_at: Moment | None


class LastError(Answer):
    """Why a run failed."""

    run_id: str
    type: str
    message: str | None


class Undelivered(Answer):
    """A notice that its receiver did not take so far."""

    id: str
    run_id: str
    kind: Annotated[str, Field(description="failed or recovered")]
    target: str
    attempts: int
    error: str
    next_attempt: Annotated[
        Moment | None, Field(description="null: it was given up after a day")
    ]


class Explanation(Answer):
    """Why a flow did or did not run; `reason` says it in one sentence."""

    flow_id: str
    description: str
    policy: str
    enabled: bool
    paused_reason: str | None
    next_due: Moment | None
    last_executed: Moment | None
    inputs: list[InputState]
    last_run: LastRun | None
    last_error: LastError | None
    max_running: int | None
    running: int
    failing_since: Annotated[
        Moment | None, Field(description="When whom it tells was told that it fails")
    ]
    undelivered: list[Undelivered]
    reason: str


class Status(Answer):
    """How the workspace stands; see `aero status`."""

    version: str
    profile: str
    config_file: str | None
    home: str
    database: str
    database_bytes: int
    store: str
    store_objects: int
    store_bytes: int
    trash_bytes: int
    workers_alive: int
    runs: dict[str, int]
    next_due: Moment | None
    next_due_flow: str | None
    notices_waiting: int
    notices_undelivered: int
    revision: str | None
    note: str | None


class Queue(Answer):
    """Whether anything is left to do, and what to say if nobody is there to do it."""

    idle: bool
    note: str | None


class Collected(Answer):
    """What gc did, or with `dry_run` would do; sizes are bytes."""

    removed: int
    bytes: int
    trashed: int
    trash_bytes: int
    restored: int
    temp_files: int
    leftovers: int
    pruned_runs: int
    pruned_triggers: int
    dry_run: bool


class Health(Answer):
    """Whether the server can do its work."""

    status: str


class Triggered(Answer):
    """An event of a webhook that a run follows, or followed when it first came."""

    event: str
    about: Annotated[str | None, Field(description="The object")]
    run_id: str
    flow_id: str
    status: str


class Ignored(Answer):
    """An event of a webhook that nothing follows."""

    event: str
    about: Annotated[str | None, Field(description="The object")]
    note: Annotated[str, Field(description="Why nothing follows")]


class Heard(Answer):
    """What became of the events of a webhook."""

    triggered: list[Triggered]
    ignored: list[Ignored]


class Limit(Answer):
    """How many runs of an endpoint may run at once, and how many do and wait."""

    endpoint: str
    max_running: int | None
    running: int
    waiting: int


class Change(Answer):
    """An entry of the audit log."""

    id: str
    at: Moment
    who: str
    what: Annotated[str, Field(description="Method and route, or the command")]
    about: Annotated[Record, Field(description="What was named, and the ids it was")]
