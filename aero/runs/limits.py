"""Claims where limits apply: locks their rows, counts what runs, takes what fits.

The locks come in the order of design: limits of endpoints by name, then flows by id,
then runs. What is decided is read by later statements than those that lock.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from aero.db.models import Flow
from aero.db.queries import claims as claim_queries
from aero.db.queries import limits as queries
from aero.db.queries.common import lock_rows


def claim(tx: Connection, **asked: Any) -> list[Any]:
    """Take up to `limit` runs that may start, best first, as far as limits allow.

    The arguments are those of `claims.claim`, which takes nothing while a run waits
    to which a limit may apply. How many statements this needs depends on how many
    runs are taken at most, not on how many wait.
    """
    now, endpoints, most = asked["now"], asked["endpoints"], asked["limit"]
    if not queries.apply(tx, endpoints):
        return []
    at = _room_at(tx, endpoints)
    open_ = [e for e in endpoints if at.get(e, 1) > 0]
    free = [e for e in open_ if e not in at]
    of = _room_of(tx, queries.flows_with_room(tx, now, open_, most))
    found: list[Any] = []
    for flow_id, room in of.items():
        found += queries.best_of_flow(tx, flow_id, now, open_, min(room, most))
    for endpoint in set(open_) & at.keys():
        room = min(at[endpoint], most)
        found += queries.best_without(tx, now, [endpoint], room)
    claimed: list[Any] = []
    if found:
        # What has no limit takes its place among them.
        found += queries.best_without(tx, now, free, most)
        chosen = _choose(found, most, at, of)
        claimed += claim_queries.claim_these(tx, chosen, **asked)
    left = most - len(claimed)
    if free and left:
        rest = asked | {"endpoints": free, "limit": left}
        claimed += claim_queries.claim_unlimited(tx, **rest)
        left = most - len(claimed)
    if left and claimed and len(of) == most:
        # Flows beyond these may wait that a full endpoint does not hold back.
        claimed += claim(tx, **asked | {"limit": left})
    return claimed


def _room_at(tx: Connection, endpoints: Iterable[str]) -> dict[str, int]:
    limits = queries.lock_endpoints(tx, list(endpoints))
    running = queries.running(tx, limits) if limits else {}
    return {name: most - running.get(name, 0) for name, most in limits.items()}


def _room_of(tx: Connection, flow_ids: list[str]) -> dict[str, int]:
    if not flow_ids:
        return {}
    lock_rows(tx, Flow, flow_ids)
    room = queries.room_of(tx, flow_ids)
    return {flow_id: left for flow_id, left in room.items() if left > 0}


def _choose(
    found: list[Any], most: int, at: Mapping[str, int], of: Mapping[str, int]
) -> list[str]:
    """Return those of the best `most` runs that have a limit, and fit into it."""
    at, of = dict(at), dict(of)
    chosen: list[str] = []
    places = most
    for run in sorted(found, key=claim_queries.best_first):
        if not places:
            break
        room = min(at.get(run.endpoint, math.inf), of.get(run.flow_id, math.inf))
        if room <= 0:
            continue
        places -= 1
        if math.isinf(room):
            continue
        chosen.append(run.id)
        for left, key in ((at, run.endpoint), (of, run.flow_id)):
            if key in left:
                left[key] -= 1
    return chosen
