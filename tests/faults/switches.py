"""Each takes the mechanism of a law away, for as long as its MonkeyPatch lasts."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, select, update

import aero.retention
from aero.db.models import Data, Flow, Run
from aero.db.queries import flows as flow_queries
from aero.db.queries import runs as run_queries
from aero.db.queries import versions as version_queries
from aero.db.queries.common import lock_rows
from aero.db.session import Database
from aero.hashing import sha256_file
from aero.storage import LocalStorage

Switch = Callable[[pytest.MonkeyPatch], None]

LOCKING = (
    "aero.run_requests",
    "aero.standing",
    "aero.registration",
    "aero.runs.commit",
    "aero.runs.dispatch",
    "aero.runs.leases",
)


def _no_lock(patch: pytest.MonkeyPatch, model: Any, *modules: str) -> None:
    def lock(tx: Connection, locked: Any, ids: Any) -> None:
        if locked is not model:
            lock_rows(tx, locked, ids)

    for module in modules:
        patch.setattr(f"{module}.lock_rows", lock)


def no_flow_lock(patch: pytest.MonkeyPatch) -> None:
    _no_lock(patch, Flow, *LOCKING)


def no_data_lock_at_registration(patch: pytest.MonkeyPatch) -> None:
    _no_lock(patch, Data, "aero.registration")


def no_registration_lock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Database, "advisory_lock", lambda self, tx, key: None)


def ticks_do_not_lock(patch: pytest.MonkeyPatch) -> None:
    due = flow_queries.due

    def unlocked(tx: Connection, *args: Any) -> Any:
        tx = tx.execution_options()
        return due(_Unlocked(tx), *args)

    patch.setattr(flow_queries, "due", unlocked)


class _Unlocked:
    """Executes selects without FOR UPDATE."""

    def __init__(self, tx: Connection) -> None:
        self._tx = tx

    def execute(self, statement: Any, *args: Any) -> Any:
        clone = statement._generate()
        clone._for_update_arg = None
        return self._tx.execute(clone, *args)


def joins_without_asking(patch: pytest.MonkeyPatch) -> None:
    """A join that reads first, and then changes whatever the run is by now."""

    def join_pending(tx: Connection, slots: Any) -> Any:
        found = {}
        for flow_id, task, source_key in slots:
            slot = {"flow_id": flow_id, "task": task, "source_key": source_key}
            pending = select(Run.id).filter_by(**slot, status="PENDING")
            run_id = tx.execute(pending).scalar_one_or_none()
            if run_id is not None:
                tx.execute(update(Run).where(Run.id == run_id).values(task=task))
                found[flow_id, task, source_key] = run_id
        return found

    patch.setattr(run_queries, "join_pending", join_pending)


def own_flow_first(patch: pytest.MonkeyPatch) -> None:
    """A commit that locks its own flow, and its dependents in a second list."""

    def lock(tx: Connection, model: Any, ids: Any) -> None:
        ids = list(ids)
        own = ids[:1] if model is Flow else []
        lock_rows(tx, model, own)
        lock_rows(tx, model, ids[len(own) :])

    patch.setattr("aero.runs.commit.lock_rows", lock)


def _without(patch: pytest.MonkeyPatch, words: str, statement: str) -> None:
    """Leave words out of the statements that a pattern describes."""
    execute = psycopg.Cursor.execute

    def executed(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        if isinstance(query, str) and re.search(statement, query, re.DOTALL):
            query = query.replace(words, "")
        return execute(self, query, *args, **options)

    patch.setattr(psycopg.Cursor, "execute", executed)


def ticks_wait(patch: pytest.MonkeyPatch) -> None:
    _without(patch, "SKIP LOCKED", r"FROM flow\b.*next_due <=.*FOR UPDATE")


def claims_do_not_lock(patch: pytest.MonkeyPatch) -> None:
    _without(patch, "FOR UPDATE OF run SKIP LOCKED", r"UPDATE run\b")


def joins_without_locking(patch: pytest.MonkeyPatch) -> None:
    """A join that only reads whether a run waits."""

    def join_pending(tx: Connection, slots: Any) -> Any:
        found = {}
        for slot in slots:
            values = dict(zip(("flow_id", "task", "source_key"), slot, strict=True))
            pending = select(Run.id).filter_by(**values, status="PENDING")
            run_id = tx.execute(pending).scalar_one_or_none()
            if run_id is not None:
                found[slot] = run_id
        return found

    patch.setattr(run_queries, "join_pending", join_pending)


def gc_asks_once(patch: pytest.MonkeyPatch) -> None:
    """What gc once heard of an object it believes from then on."""
    referenced, answers = version_queries.referenced, {}

    def remembered(tx: Connection, sha256s: Any) -> set[str]:
        wanted = set(sha256s)
        found = referenced(tx, wanted - answers.keys())
        answers.update({each: each in found for each in wanted - answers.keys()})
        return {each for each in wanted if answers[each]}

    patch.setattr(aero.retention.version_queries, "referenced", remembered)


def puts_do_not_touch(patch: pytest.MonkeyPatch) -> None:
    def holds(self: LocalStorage, sha256: str, size: int) -> bool:
        place: Path = self._object(sha256)
        return place.is_file() and sha256_file(place) == sha256

    patch.setattr(LocalStorage, "_holds", holds)


def readers_pass_over_the_trash(patch: pytest.MonkeyPatch) -> None:
    from aero.storage.base import sha256_of

    patch.setattr(
        LocalStorage, "_places", lambda self, uri: (self._object(sha256_of(uri)),)
    )


def gc_forgets_what_runs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(aero.retention.queries, "oldest_start", lambda tx: None)
