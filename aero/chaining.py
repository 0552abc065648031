"""What an engine asks of a workspace that chains the steps of flows itself."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection

from aero import committing
from aero.acting import Acting
from aero.engine import Engine
from aero.storage import open_storage
from aero.types import Json


class Chaining(Acting):
    """The methods of `Aero` that pin inputs and commit results."""

    engine: Engine
    storage_location: str

    def _write(self, work: Callable[[Connection], Any]) -> Any:
        raise NotImplementedError

    def pin_inputs(self, payload: Mapping[str, Any]) -> Json:
        """Return a payload completed with what its steps need to know.

        That is for an engine that chains the steps of a flow itself: the versions to
        use, which are those its run was given, those the payload names, or the newest;
        what is to be downloaded; and where bytes are kept.

        Args:
            payload: The `aero` payload, or keyword arguments of a step with one.

        Raises:
            NotFoundError: There is no such flow or run.
            ConflictError: An input has no version yet.
            ForbiddenError: It names outputs that the flow does not own.
            InvalidValueError: It names inputs that are not the flow's.
        """
        storage = self.storage_location
        return self.db.look(lambda tx: committing.pin_inputs(tx, payload, storage))

    def commit_result(self, payload: Mapping[str, Any]) -> Json:
        """Commit what a worker brought back of a run; the same payload counts once.

        A payload that names a run must be of its attempt that is RUNNING: whoever works
        on that is fenced off. One that names none opens a run of its own and commits
        it. With an `error` the attempt fails, as if that had happened here.

        Args:
            payload: The `aero` payload as the steps completed it, or keyword arguments
                of a step with one; besides, it may hold `steps`, `environment`,
                `log_tail` and `error`, as `aero.jobs.run_task` reports them.

        Returns:
            The record of provenance; that of the run if it left none, because it
            failed or found its sources unchanged.

        Raises:
            NotFoundError: There is no such flow or run.
            ConflictError: The attempt is not under way, or the flow is paused.
            ForbiddenError: It names outputs that the flow does not own.
            InvalidValueError: It is malformed, names other inputs, or bytes that are
                not stored as it says.
        """
        work = committing.Commit(self.db, payload, self.agent)
        run_id = self.db.look(work.look)
        if run_id is None:
            work.verify(open_storage(self.storage_location))
            run_id = str(self._write(work))
        if work.ended is not None:
            self.engine.ended(work.ended)
        return self.db.look(lambda tx: work.record(tx, run_id))
