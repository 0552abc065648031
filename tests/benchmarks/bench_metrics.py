"""What a scrape costs of many runs: `pytest tests/benchmarks/bench_metrics.py`.

The runs are inserted as they would be after some weeks, most of them ended.
"""

import os
import time
import uuid
from datetime import timedelta
from pathlib import Path

from aero.db.models import Run
from aero.db.queries import overview
from aero.db.queries.common import insert_all
from aero.server.metrics import FLOWS as LABELLED
from aero.server.metrics import SHARE, Metrics
from aero.testing import make_app

RUNS = int(os.environ.get("AERO_BENCH_KEPT", "200000"))
FLOWS = 1000
BATCH = 20_000
LOG = "a line that the function printed\n" * 30


def nothing(k):
    pass


def test_of_many_runs(database_url: str, engine: str, tmp_path: Path, figures) -> None:
    with make_app(tmp_path, database_url=database_url) as app:
        function = app.register_function(nothing)
        flows = [
            app.register_flow("local", function, kwargs={"k": k})["id"]
            for k in range(FLOWS)
        ]
        with app.db.read() as tx:
            now = app.db.now(tx)
        for first in range(0, RUNS, BATCH):
            rows = [_row(flows, number, now) for number in range(first, first + BATCH)]
            app.db.write(lambda tx, rows=rows: insert_all(tx, Run, rows))
        with app.db.read() as tx:
            began = time.perf_counter()
            found = overview.runs_by_flow(tx, LABELLED)
            counting = time.perf_counter() - began
        assert sum(count for *_, count in found) == RUNS
        assert len(found) == 2 * (LABELLED + 1)
        scraped = Metrics(app)
        times = []
        for _ in range(10):
            began = time.perf_counter()
            text = scraped.text(app.db)
            times.append(time.perf_counter() - began)
        figures.add(f"count {RUNS} runs", counting * 1000, "ms", engine=engine)
        figures.add("first scrape", times[0] * 1000, "ms", engine=engine)
        figures.add("next scrape", min(times[1:]) * 1000, "ms", engine=engine)
        figures.add("size of a scrape", len(text) / 1024, "KiB", engine=engine)
        figures.add("share of time spent counting", 100 / (1 + SHARE), "%")


def _row(flows, number, now):
    flow = flows[number % len(flows)]
    status = "FAILED" if number // len(flows) % 10 == 0 else "SUCCEEDED"
    moment = now - timedelta(seconds=number)
    return {
        "id": str(uuid.uuid4()),
        "flow_id": flow,
        "task": 0,
        "source_key": "",
        "status": status,
        "priority": 0,
        "limited": False,
        "trigger_kind": "manual",
        "trigger_key": f"manual:{number}",
        "attempt": 1,
        "function_failures": 0,
        "lost_tries": 0,
        "not_before": moment,
        "log_tail": LOG,
        "created_at": moment,
        "finished_at": moment,
    }
