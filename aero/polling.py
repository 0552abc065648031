"""The slow poll of sources that wait for notifications: it makes a lost one good.

A poll asks each object that is known by name, as a notification about it would, in a
run of its own: what did not change is found unchanged by its validators. A pattern
cannot be listed over plain HTTP, so of its objects those are known that were seen.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aero import object_keys, triggers
from aero.db.queries import events as event_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries.flows import FlowRule
from aero.flow_request import can_be_asked
from aero.runs.lifecycle import Trigger


def polls(tx: Connection, rule: FlowRule, due: datetime) -> list[Trigger]:
    """Return the triggers of one poll of a source: one for each object and task.

    An object whose run waits is left out: that run will ask it, and knows more of it.
    """
    waiting = event_queries.waiting_slots(tx, rule.id)
    return [
        Trigger(
            flow_id=rule.id,
            task=task,
            key=triggers.timer_key(due, key),
            kind="timer",
            source_key=key,
            event={"data_id": data_id, "url": url, "poll": True},
        )
        for data_id in flow_queries.outputs(tx, rule.id).values()
        for key, url in _objects(tx, event_queries.ingested(tx, data_id))
        for task in range(rule.tasks)
        if (task, key) not in waiting
    ]


def _objects(tx: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Yield key and URL of each object that is known by name."""
    known: dict[str, str] = {}
    patterns = []
    for row in rows:
        pattern = object_keys.registered_key(row.url, typed=row.typed)
        patterns.append(pattern)
        if object_keys.is_exact(pattern):
            key = object_keys.literal_prefix(pattern)
            known[known_key(tx, row, key, default=key)] = row.url
    exact = set(known.values())
    for seen in event_queries.seen_objects(tx, rows[0].data_id) if rows else []:
        # What the source no longer covers is another's, or nobody's.
        if seen.url not in exact and object_keys.best(patterns, seen.source_key):
            known.setdefault(seen.source_key, seen.url)
    for key, url in known.items():
        if can_be_asked(url, no_copy=rows[0].no_copy):
            yield key, url


def known_key(tx: Connection, row: Any, key: str, *, default: str) -> str:
    """Return what an object of a registered, exact URL is known by: `key`, or ''.

    The one object of a source without a type has no need of a key, and who polls or
    runs it names none; but it must not be two objects to two who tell of it.
    """
    if row.typed:
        return key
    known = event_queries.known_as(tx, row.flow_id, row.data_id, {"", key})
    return default if default in known or not known else known.pop()
