"""What a run needs to know of its flow and never changes while the flow lives."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from aero.db.models import Data, Flow, FlowInput, FlowOutput, Function
from aero.db.sight import columns_of


@dataclass(frozen=True, kw_only=True)
class FlowDefinition:
    """A flow with its function and outputs, as steps are built from it."""

    id: str
    function_id: str | None
    function_name: str | None
    source: str | None
    source_sha256: str | None
    endpoint: str
    kwargs: Any
    policy: int
    retries: int
    timeout: float | None
    outputs: dict[str, Any]
    fetch: dict[str, bool]
    function_owner: str | None = None
    function_visibility: str | None = None
    function_group_id: str | None = None

    def task_kwargs(self, task: int) -> dict[str, Any]:
        """Return the kwargs of one task."""
        chosen = self.kwargs[task] if isinstance(self.kwargs, list) else self.kwargs
        return dict(chosen)

    @property
    def made(self) -> dict[str, str]:
        """Output name -> Data id."""
        return {name: row.id for name, row in self.outputs.items()}


def load(tx: Connection, flow_ids: Collection[str]) -> dict[str, FlowDefinition]:
    """Return the definitions of flows, in three queries however many."""
    ids = list(flow_ids)
    outputs: dict[str, dict[str, Any]] = {flow_id: {} for flow_id in ids}
    for row in tx.execute(
        select(FlowOutput.flow_id, FlowOutput.name.label("output"), *Data.__table__.c)
        .join(Data, Data.id == FlowOutput.data_id)
        .where(FlowOutput.flow_id.in_(ids))
    ):
        outputs[row.flow_id][row.output] = row
    fetch: dict[str, dict[str, bool]] = {flow_id: {} for flow_id in ids}
    for flow_id, name, wanted in tx.execute(
        select(FlowInput.flow_id, FlowInput.name, FlowInput.fetch).where(
            FlowInput.flow_id.in_(ids)
        )
    ):
        fetch[flow_id][name] = wanted
    rows = tx.execute(
        select(
            Flow.id,
            Flow.function_id,
            Function.name.label("function_name"),
            Function.source,
            Function.source_sha256,
            Flow.endpoint,
            Flow.kwargs,
            Flow.policy,
            Flow.retries,
            Flow.timeout,
            *columns_of(Function, "function_"),
        )
        .outerjoin(Function, Function.id == Flow.function_id)
        .where(Flow.id.in_(ids))
    )
    return {
        row.id: FlowDefinition(
            **row._asdict(), outputs=outputs[row.id], fetch=fetch[row.id]
        )
        for row in rows
    }
