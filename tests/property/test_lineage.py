"""Lineage over random graphs equals a naive search."""

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from aero.db.models import (
    Data,
    DataVersion,
    Flow,
    Provenance,
    ProvenanceContribution,
    ProvenanceDerivation,
    VersionEdge,
)
from aero.provenance.tree import tree_lines
from aero.testing import make_app

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIZE = 9


@pytest.fixture
def app(tmp_path, database_url):
    with make_app(tmp_path / "home", database_url=database_url) as made:
        yield made


# 5 is reached by a long way (over 1, 2, 3) before the short one (over 4) is seen.
SHORT_CUT = (
    {0: set(), 1: {0}, 2: {1}, 3: {2}, **{n: set() for n in range(4, SIZE)}},
    [(4, {0}), (5, {4}), (5, {3}), (6, {5})],
)


@st.composite
def graphs(draw):
    """Return (edges child -> parents, reproductions of a version from others).

    A parent is older than its child. A reproduction used anything but what was made
    of it, which the order of numbers ensures here too, save that it may be newer.
    """
    edges = {
        child: draw(st.sets(st.integers(0, child - 1), max_size=3)) if child else set()
        for child in range(SIZE)
    }
    reproduced = draw(
        st.lists(
            st.tuples(
                st.integers(0, SIZE - 1),
                st.sets(st.integers(0, SIZE - 1), min_size=1, max_size=2),
            ),
            max_size=4,
        )
    )
    return edges, [(v, used) for v, used in reproduced if v not in used]


def store(app, edges, reproduced):
    """Write the graph as commits would have; return ids and Data by number."""
    ids = [str(uuid.uuid4()) for _ in range(SIZE)]
    datas = [str(uuid.uuid4()) for _ in range(SIZE)]
    flow_id = str(uuid.uuid4())

    def work(tx):
        tx.execute(insert(Flow).values(**flow(flow_id)))
        tx.execute(insert(Data), [data(datas[n], f"d{n}") for n in range(SIZE)])
        keys = [
            tx.execute(
                insert(DataVersion).returning(DataVersion.key),
                version(ids[n], datas[n]),
            ).scalar_one()
            for n in range(SIZE)
        ]
        pairs = {(c, p, False) for c, parents in edges.items() for p in parents}
        pairs |= {(c, p, True) for c, parents in reproduced for p in parents}
        for c, p, again in pairs:
            row = {"child": keys[c], "parent": keys[p], "reproduced": again}
            tx.execute(insert(VersionEdge), row)
        for child, parents in edges.items():
            record(tx, flow_id, ids, child, parents, is_new=True)
        for child, parents in reproduced:
            record(tx, flow_id, ids, child, parents, is_new=False)

    app.db.write(work)
    return ids, datas


def flow(flow_id):
    return {
        "id": flow_id,
        "owner": "o",
        "endpoint": "local",
        "engine": "aero",
        "kwargs": {},
        "policy": -1,
        "timezone": "UTC",
        "enabled": True,
        "fingerprint": uuid.uuid4().hex * 2,
        "description": "",
        "retries": 0,
        "priority": 0,
        "created_at": NOW,
    }


def data(data_id, name):
    return {
        "id": data_id,
        "owner": "o",
        "name": name,
        "description": "",
        "storage": "local",
        "no_copy": False,
        "created_at": NOW,
    }


def version(version_id, data_id):
    return {
        "id": version_id,
        "data_id": data_id,
        "version": 1,
        "task": 0,
        "source_key": "",
        "sha256": "0" * 64,
        "size": 1,
        "media_type": "text/plain",
        "file_name": "f",
        "created_at": NOW,
    }


def record(tx, flow_id, ids, child, parents, *, is_new):
    record_id = str(uuid.uuid4())
    tx.execute(
        insert(Provenance).values(
            id=record_id,
            run_id=str(uuid.uuid4()),
            flow_id=flow_id,
            task=0,
            kwargs={},
            trigger_key="manual:x",
            endpoint="local",
            environment={},
            steps=[],
            agent="a",
            started_at=NOW,
            finished_at=NOW,
        )
    )
    for number in parents:
        tx.execute(
            insert(ProvenanceDerivation).values(
                provenance_id=record_id,
                name=f"in{number}",
                version_id=ids[number],
                flow_id=flow_id,
                task=0,
                version=1,
            )
        )
    tx.execute(
        insert(ProvenanceContribution).values(
            provenance_id=record_id, name="out", version_id=ids[child], is_new=is_new
        )
    )


def search(start, neighbours, depth):
    """Return number -> distance of what is reached from `start`, breadth first."""
    found, layer, level = {start: 0}, {start}, 0
    while layer and (depth is None or level < depth):
        level += 1
        layer = {n for each in layer for n in neighbours(each)} - found.keys()
        found.update(dict.fromkeys(layer, level))
    return found


@given(
    graph=graphs(), root=st.integers(0, SIZE - 1), depth=st.none() | st.integers(0, 4)
)
@example(graph=SHORT_CUT, root=0, depth=4)
@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
def test_lineage_is_what_a_naive_search_finds(app, graph, root, depth):
    edges, reproduced = graph
    ids, datas = store(app, edges, reproduced)
    numbers = {version_id: n for n, version_id in enumerate(ids)}
    root_data = datas[root]
    repeats = {(v, u) for v, used in reproduced for u in used}

    up = app.lineage(f"{root_data}@1", "up", depth)
    wanted = search(root, edges.__getitem__, depth)
    assert {numbers[i] for i in up.nodes} == set(wanted)
    assert next(iter(up.nodes)) == up.root == ids[root]
    assert {(numbers[c], numbers[p]) for c, p in up.edges} == {
        (c, p) for c in wanted for p in edges[c] if p in wanted
    }
    assert up.reproductions == []

    def impact(number):
        made = {c for c, parents in edges.items() if number in parents}
        return made | {v for v, u in repeats if u == number}

    down = app.lineage(f"{root_data}@1", "down", depth)
    wanted = search(root, impact, depth)
    assert {numbers[i] for i in down.nodes} == set(wanted)
    assert {(numbers[c], numbers[p]) for c, p in down.edges} == {
        (c, p) for c in wanted for p in edges[c] if p in wanted
    }
    assert {(numbers[c], numbers[p]) for c, p in down.reproductions} == {
        (v, u) for v, u in repeats if u in wanted and v in wanted
    }
    for lineage in (up, down):
        lines = "\n".join(tree_lines(lineage))
        assert all(f"{lineage.nodes[i]['name']}@1" in lines for i in lineage.nodes)
    assert {numbers[i] for i in up.neighbours(ids[root])} == (
        set() if depth == 0 else edges[root]
    )
