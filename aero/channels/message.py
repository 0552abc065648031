"""PURE: what a failure notice says, to people and to programs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aero.clock import isoformat
from aero.types import Json

_NAMES = 3
_SUBJECT = 160


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What is told.

    Attributes:
        id: Of the notice; the same however often it is sent to this receiver.
        kind: `failed` or `recovered`.
        subject: One line that says it all.
        text: The whole of it, for people.
        flow_id: The flow.
        flow: What it is called.
        description: What it is for.
        run_id: The run that ended.
        task: The index of that run in a sweep, else 0.
        source_key: The object it was about, else "".
        attempt: Which one of the run ended.
        at: When, ISO 8601.
        failing_since: Of `recovered`: when it had begun to fail, ISO 8601.
        error_type: Of `failed`: the exception.
        error_message: Of `failed`: what it said.
        log: Of `failed`: the last lines that the function printed.
        command: Shows more.
    """

    id: str
    kind: str
    subject: str
    text: str
    flow_id: str
    flow: str
    description: str
    run_id: str
    task: int
    source_key: str
    attempt: int
    at: str
    failing_since: str | None
    error_type: str | None
    error_message: str | None
    log: list[str]
    command: str

    @classmethod
    def of(cls, notice: Any, made: Sequence[str]) -> "Message":
        """Return what a notice says.

        Args:
            notice: Its row, with `description` and `function_name` of its flow.
            made: What the flow makes.
        """
        names = [*made[:_NAMES], *(["..."] if len(made) > _NAMES else [])]
        called = ", ".join(names) or notice.function_name or notice.flow_id[:8]
        known: Json = {
            "id": notice.id,
            "kind": notice.kind,
            "flow_id": notice.flow_id,
            "flow": called,
            "description": notice.description,
            "run_id": notice.run_id,
            "task": 0,
            "source_key": "",
            "attempt": 1,
            "at": isoformat(notice.created_at),
            "failing_since": None,
            "error_type": None,
            "error_message": None,
            "log": [],
            "command": f"aero logs {notice.run_id[:8]}",
        }
        # Another version of aero may have noted more.
        known |= {k: v for k, v in notice.facts.items() if k in known}
        what = _what(known)
        subject = f"aero: {_one_line(what)}"
        return cls(**known, subject=subject, text=_text(what, known))

    def to_json(self) -> Json:
        """Return what webhooks are sent: every attribute under its name."""
        return asdict(self)


def _what(known: Json) -> str:
    whose = f"{known['flow']} ({known['source_key']})" * bool(known["source_key"])
    whose = whose or known["flow"]
    if known["error_type"] is None:
        return f"{whose} works again"
    return f"{whose} failed: {known['error_type']}: {known['error_message']}"


def _one_line(what: str) -> str:
    line = " ".join(what.split())
    return line if len(line) <= _SUBJECT else f"{line[: _SUBJECT - 3]}..."


def _text(what: str, known: Json) -> str:
    return "\n".join([what, "", *_facts(known), *_log(known["log"]), *_more(known)])


def _facts(known: Json) -> Iterator[str]:
    yield f"flow         {known['flow_id']}"
    if known["description"]:
        yield f"description  {known['description']}"
    yield f"run          {known['run_id']}, attempt {known['attempt']}"
    if known["task"]:
        yield f"task         {known['task']}"
    yield f"when         {known['at']}"
    if known["failing_since"]:
        yield f"failed since {known['failing_since']}"


def _log(lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield "The last lines that it printed:"
        yield from (f"  {line}" for line in lines)


def _more(known: Json) -> Iterator[str]:
    yield ""
    yield f"{known['command']} shows more."
    yield ""
