"""Many flows and many runs: `pytest tests/benchmarks/bench_scale.py`.

Everything is what a user would run, with two worker processes, on both databases.
"""

import os
import statistics
import subprocess
import sys
import time
import uuid
from collections import Counter
from datetime import timedelta

import psutil
import pytest
from sqlalchemy import func, select, update

from aero import Aero, AeroOutput
from aero.config import ClientConf
from aero.db.models import Flow, Provenance, Run
from aero.db.queries import flows as flow_queries
from aero.db.queries.common import insert_all
from aero.db.schema import upgrade

FLOWS = int(os.environ.get("AERO_BENCH_FLOWS", "100000"))
RUNS = int(os.environ.get("AERO_BENCH_RUNS", "10000"))
DEPENDENTS = int(os.environ.get("AERO_BENCH_DEPENDENTS", "1000"))
CHAIN = 100
SHARES = 100
PER_SECOND = 100
IDLE = 20
BUSY = 20


def nothing(k):
    pass


def seed(k):
    from pathlib import Path
    from time import time_ns

    path = Path("seed.txt")
    path.write_text(str(time_ns()))
    return AeroOutput("seed", path)


def passed_on(text, k):
    from pathlib import Path

    path = Path("text.txt")
    path.write_text(f"{Path(text).read_text()[:20]} {k}")
    return AeroOutput("made", path)


@pytest.fixture(scope="module")
def app(database_url, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    conf = ClientConf(home=home, workers=2, database_url=database_url)
    with Aero(conf) as app:
        upgrade(app.db)
        yield app


def cpu_seconds(process):
    each = [process, *process.children(recursive=True)]
    times = [one.cpu_times() for one in each]
    return sum(t.user + t.system for t in times)


def no_op_flow(app, k, **options):
    function = app.register_function(nothing)
    return app.register_flow("local", function, kwargs={"k": k}, **options)["id"]


def seeded_flow(app, k):
    function = app.register_function(seed)
    return app.register_flow("local", function, None, {"seed": {}}, {"k": k})


def test_runs_cost_the_same_from_the_first_to_the_last(app, engine, figures):
    share = RUNS // SHARES
    flows = [no_op_flow(app, k) for k in range(share)]

    def each_once():
        for flow in flows:
            app.run_flow(flow, wait=False)
        app.run_until_idle(300)

    each_once()
    process = psutil.Process()
    seconds, cpus = [], []
    for _ in range(SHARES):
        began, cpu = time.perf_counter(), cpu_seconds(process)
        each_once()
        seconds.append(time.perf_counter() - began)
        cpus.append(cpu_seconds(process) - cpu)
    tenth = SHARES // 10
    figures.add("no-op runs", RUNS / sum(seconds), "1/s", engine=engine)
    figures.add("CPU of a no-op run", 1e3 * sum(cpus) / RUNS, "ms", engine=engine)
    for name, part in (("first", slice(tenth)), ("last", slice(-tenth, None))):
        each = 1e3 * statistics.median(seconds[part]) / share
        figures.add(f"a run of the {name} tenth", each, "ms", engine=engine)
    # The least is what the machine can do when nothing else runs on it.
    growth = min(cpus[-tenth:]) / min(cpus[:tenth])
    figures.add("CPU, last to first tenth", growth, "", engine=engine, budget="1.2")
    with app.db.read() as tx:
        ended = tx.execute(select(Run.status, func.count()).group_by(Run.status)).all()
    assert ended == [("SUCCEEDED", RUNS + share)]
    assert growth <= 1.2


def test_one_version_and_its_dependents(app, engine, figures):
    source = seeded_flow(app, 0)
    function = app.register_function(passed_on)
    for k in range(DEPENDENTS):
        app.register_flow(
            "local",
            function,
            {"text": {"id": source["contributed_to"][0]["id"]}},
            {"made": {}},
            {"k": k},
            policy="ANY",
        )
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        app.run_flow(source["id"], wait=False)
        app.run_until_idle(600)
        seconds.append(time.perf_counter() - began)
    what = f"1 version, {DEPENDENTS} dependents committed"
    figures.add(what, statistics.median(seconds), "s", engine=engine)
    assert recorded(app) == {"seed": 3, "passed_on": 3 * DEPENDENTS}


def test_chain(app, engine, figures):
    before = recorded(app)
    flow = seeded_flow(app, 1)
    first = flow["id"]
    function = app.register_function(passed_on)
    for k in range(CHAIN - 1):
        flow = app.register_flow(
            "local",
            function,
            {"text": {"id": flow["contributed_to"][0]["id"]}},
            {"made": {}},
            {"k": k},
            policy="ANY",
        )
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        app.run_flow(first, wait=False)
        app.run_until_idle(600)
        seconds.append(time.perf_counter() - began)
    figures.add(f"chain of {CHAIN}", statistics.median(seconds), "s", engine=engine)
    assert recorded(app) - before == {"seed": 3, "passed_on": 3 * (CHAIN - 1)}


def recorded(app):
    """Return function name -> its committed runs, of those that made versions."""
    made = Counter()
    for function in (seed, passed_on):
        function_id = app.register_function(function)
        with app.db.read() as tx:
            made[function.__name__] = tx.execute(
                select(func.count()).where(Provenance.function_id == function_id)
            ).scalar_one()
    return made


def test_flows_that_are_held(app, database_url, engine, tmp_path, figures):
    """A worker process of its own holds them: its memory, its idling, its ticks."""
    template = no_op_flow(app, -1, policy="TIMER", timer_delay=1e9)
    app.run_until_idle(60)
    held = hold(app, template, FLOWS)
    environment = os.environ | {
        "AERO_HOME": str(tmp_path / "home"),
        "AERO_DATABASE_URL": database_url,
        "AERO_STORE": str(app.settings.store),
        "AERO_WORKERS": "2",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "aero", "work"],
        env=environment,
        stdout=subprocess.DEVNULL,
    ) as worker:
        process = psutil.Process(worker.pid)
        await_presence(app, worker.pid)
        time.sleep(3)
        cpu = cpu_seconds(process)
        time.sleep(IDLE)
        idle = (cpu_seconds(process) - cpu) / IDLE
        due = spread(app, held)
        time.sleep(BUSY + 10)
        memory = process.memory_info().rss / 1e6
        worker.terminate()
    lags, starts = waits(app, due)
    ninety_nine = int(0.99 * len(lags))
    what = f"{FLOWS} flows held"
    figures.add(what, memory, "MB", engine=engine, budget="400")
    figures.add("CPU when idle", 100 * idle, "% of a core", engine=engine, budget="5")
    p50, p99 = 1e3 * lags[len(lags) // 2], 1e3 * lags[ninety_nine]
    figures.add("lag of a tick, p50", p50, "ms", engine=engine)
    figures.add("lag of a tick, p99", p99, "ms", engine=engine, budget="1000")
    until = 1e3 * starts[len(starts) // 2]
    figures.add("due to started, p50", until, "ms", engine=engine)
    assert len(lags) == PER_SECOND * BUSY
    assert memory <= 400
    assert idle <= 0.05
    assert p99 <= 1000


def hold(app, template, count):
    """Store copies of a flow that are due in a thousand days; return their ids."""
    with app.db.read() as tx:
        row = flow_queries.get(tx, template)
    far = row.next_due + timedelta(days=1000)
    copies = [
        {
            **row._mapping,
            "id": str(uuid.uuid4()),
            "fingerprint": uuid.uuid4().hex * 2,
            "next_due": far + timedelta(seconds=k),
            "kwargs": {"k": k},
        }
        for k in range(count)
    ]
    app.db.write(lambda tx: insert_all(tx, Flow, copies))
    return [copy["id"] for copy in copies]


def spread(app, held):
    """Make `PER_SECOND` flows due in each of the next seconds; return id -> when."""
    chosen = held[: PER_SECOND * BUSY]

    def work(tx):
        start = app.db.now(tx) + timedelta(seconds=3)
        due = {
            flow: start + timedelta(seconds=k / PER_SECOND)
            for k, flow in enumerate(chosen)
        }
        for flow, moment in due.items():
            tx.execute(update(Flow).where(Flow.id == flow).values(next_due=moment))
        return due

    # A user's process tells the worker by registering or resuming; so does this one.
    due = app.db.write(work)
    app.resume_flow(app.pause_flow(held[-1])["id"])
    return due


def waits(app, due):
    """Return the seconds from due to triggered, and to started, each sorted."""
    with app.db.read() as tx:
        rows = tx.execute(
            select(Run.flow_id, Run.created_at, Run.started_at).where(
                Run.flow_id.in_(select(Flow.id).where(Flow.timer == 1e9)),
                Run.trigger_kind == "timer",
            )
        ).all()
    found = [row for row in rows if row.flow_id in due]
    lags = [(row.created_at - due[row.flow_id]).total_seconds() for row in found]
    starts = [
        (row.started_at - due[row.flow_id]).total_seconds()
        for row in found
        if row.started_at is not None
    ]
    return sorted(lags), sorted(starts)


def await_presence(app, pid):
    from aero.db.models import Worker

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with app.db.read() as tx:
            if pid in tx.execute(select(Worker.pid)).scalars().all():
                return
        time.sleep(0.1)
    raise TimeoutError("The worker process did not come up.")
