"""A long history: `pytest tests/benchmarks/bench_history.py`.

A million versions with up to three parents each, their records and all, are asked for
their lineage and paged through, on both databases. The yardstick of lineage is the
least that can answer it: the recursive query over a table of two integers.
"""

import itertools
import os
import random
import statistics
import time
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text

from aero import Aero, query
from aero.clock import utc_now
from aero.config import ClientConf
from aero.db.models import (
    Data,
    DataVersion,
    Flow,
    Provenance,
    ProvenanceContribution,
    ProvenanceDerivation,
    VersionEdge,
)
from aero.db.queries.common import insert_all
from aero.db.schema import upgrade
from aero.provenance.lineage import lineage, walk
from aero.query import PAGE

VERSIONS = int(os.environ.get("AERO_BENCH_VERSIONS", "1000000"))
SIZES = tuple(size for size in (10, 1_000, 100_000) if size <= VERSIONS)
DATA = str(uuid.UUID(int=2))
BATCH = 10_000
WALK_BUDGET = 1.5
FLOW = str(uuid.UUID(int=1))
NOW = utc_now()


def parts():
    """Yield (first key, size) of the graph's parts, each as large as is left room."""
    start = 1
    for size in itertools.chain(SIZES, itertools.cycle(reversed(SIZES))):
        if start > VERSIONS:
            return
        if start + size <= VERSIONS + 1:
            yield start, size
            start += size


def parents_of(start, number):
    """Return the parents: the one before, and two more of the same part.

    So the last has all of its part as ancestors, and the first as impact.
    """
    if number == 0:
        return set()
    dice = random.Random(start + number)
    return {start + n for n in (number - 1, *dice.choices(range(number), k=2))}


def graph():
    """Yield (key, parents) of every version."""
    for start, size in parts():
        for number in range(size):
            yield start + number, parents_of(start, number)


def identifier(kind, key):
    return str(uuid.UUID(int=(kind << 64) + key))


def rows_of(key, parents):
    """Return what a commit would have written of one version, by table."""
    moment = NOW + timedelta(milliseconds=key)
    return {
        DataVersion: [
            {
                "key": key,
                "id": identifier(2, key),
                "data_id": DATA,
                "version": key,
                "task": 0,
                "source_key": "",
                "sha256": f"{key:064x}",
                "etag": None,
                "size": 1,
                "media_type": "text/plain",
                "encoding": None,
                "file_name": "made.txt",
                "uri": f"local:{key:064x}",
                "created_at": moment,
            }
        ],
        VersionEdge: [
            {"child": key, "parent": parent, "reproduced": False} for parent in parents
        ],
        Provenance: [
            {
                "id": identifier(3, key),
                "run_id": identifier(4, key),
                "flow_id": FLOW,
                "task": 0,
                "function_id": None,
                "source_sha256": None,
                "kwargs": {},
                "trigger_key": "manual:benchmark",
                "endpoint": "local",
                "environment": {},
                "steps": [],
                "agent": "benchmark",
                "started_at": moment,
                "finished_at": moment,
            }
        ],
        ProvenanceContribution: [
            {
                "provenance_id": identifier(3, key),
                "name": "made",
                "version_id": identifier(2, key),
                "is_new": True,
            }
        ],
        ProvenanceDerivation: [
            {
                "provenance_id": identifier(3, key),
                "name": f"input{n}",
                "version_id": identifier(2, parent),
                "flow_id": FLOW,
                "task": 0,
                "version": parent,
            }
            for n, parent in enumerate(sorted(parents))
        ],
    }


def fill(db):
    template = {"owner": "benchmark", "description": "", "created_at": NOW}
    flow = {
        "id": FLOW,
        "endpoint": "local",
        "engine": "aero",
        "kwargs": {},
        "policy": -1,
        "timezone": "UTC",
        "enabled": True,
        "fingerprint": "0" * 64,
        "retries": 0,
        "priority": 0,
    }
    data = {"id": DATA, "name": "made", "storage": "local", "no_copy": False}
    db.write(lambda tx: insert_all(tx, Flow, [template | flow]))
    db.write(lambda tx: insert_all(tx, Data, [template | data]))
    everything = graph()
    while batch := list(itertools.islice(everything, BATCH)):
        made = [rows_of(key, parents) for key, parents in batch]

        def write(tx, made=made):
            for model in made[0]:
                insert_all(tx, model, [row for each in made for row in each[model]])

        db.write(write)
        # The yardstick: the same edges, and nothing but two integers.
        edges = [e for each in made for e in each[VersionEdge]]
        db.write(lambda tx, edges=edges: tx.execute(BARE_EDGE, edges))
    engine = create_engine(db.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()


BARE = (
    "CREATE TABLE bare (child bigint, parent bigint, PRIMARY KEY (child, parent))",
    "CREATE INDEX bare_parent ON bare (parent, child)",
)
BARE_EDGE = text("INSERT INTO bare (child, parent) VALUES (:child, :parent)")
BARE_WALK = {
    direction: text(
        "WITH RECURSIVE seen(key) AS (SELECT CAST(:root AS bigint) UNION"
        f" SELECT {there} FROM bare JOIN seen ON {here} = seen.key)"
        " SELECT key FROM seen"
    )
    for direction, here, there in (
        ("up", "child", "parent"),
        ("down", "parent", "child"),
    )
}


@pytest.fixture(scope="module")
def app(database_url, engine, tmp_path_factory, figures):
    home = tmp_path_factory.mktemp("home")
    with Aero(ClientConf(home=home, database_url=database_url)) as app:
        upgrade(app.db)
        for statement in BARE:
            app.db.write(lambda tx, statement=statement: tx.execute(text(statement)))
        began = time.perf_counter()
        fill(app.db)
        seconds = time.perf_counter() - began
        print(f"{VERSIONS} versions stored on {engine} in {seconds:.0f} s")
        yield app


def timed(work):
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("size", SIZES)
def test_lineage(app, engine, figures, size, direction):
    start = next(start for start, each in parts() if each == size)
    root = start + size - 1 if direction == "up" else start
    rounds = max(3, 20_000 // size)
    ours, bares = [], []
    with app.db.read() as tx:

        def bare():
            return tx.execute(BARE_WALK[direction], {"root": root}).scalars().all()

        expected = set(bare())
        for _ in range(rounds):
            seconds, keys = timed(lambda: walk(tx, root, direction))
            ours.append(seconds)
            assert len(keys) == size
            assert set(keys) == expected
            seconds, _ = timed(bare)
            bares.append(seconds)
        version = tx.execute(
            DataVersion.__table__.select().where(DataVersion.key == root)
        ).one()
        seconds, found = timed(lambda: lineage(tx, version, direction))
    assert len(found.nodes) == size
    # The least of each is what the machine can do when nothing else runs on it.
    ratio = min(ours) / min(bares)
    what = f"lineage {direction}, {size} versions"
    figures.add(f"{what}: walk", 1e3 * min(ours), "ms", engine=engine)
    figures.add(f"{what}: to bare", ratio, "", engine=engine, budget=f"{WALK_BUDGET}")
    figures.add(f"{what}: all records", 1e3 * seconds, "ms", engine=engine)
    assert ratio <= WALK_BUDGET


def test_the_last_page_costs_what_the_first_does(app, engine, figures):
    listed = [version["version"] for version in app.list_versions(DATA)]
    assert listed == list(range(VERSIONS, 0, -1))
    page = query.versions_page(DATA, PAGE)
    first, last = [], []
    # By turns, since what else the machine does comes and goes.
    for number in range(200):
        for seconds, below in (
            (first, VERSIONS + 1 - number * PAGE),
            (last, 1 + (number + 1) * PAGE),
        ):
            spent, (found, _) = timed(
                lambda below=below: app.db.look(lambda tx: page(tx, below))
            )
            seconds.append(spent)
            assert [each["version"] for each in found] == list(
                range(below - 1, below - 1 - PAGE, -1)
            )
    first, last = (1e3 * statistics.median(part) for part in (first, last))
    what = f"page of {VERSIONS} versions"
    figures.add(f"{what}, first", first, "ms", engine=engine)
    figures.add(f"{what}, last", last, "ms", engine=engine)
    figures.add("last page to first", last / first, "", engine=engine, budget="1.5")
    assert last <= 1.5 * first
