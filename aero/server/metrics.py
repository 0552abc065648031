"""What Prometheus reads: of the workspace at each scrape, of this process as counted.

A scrape asks four queries, whatever the workspace holds. Labels are few: the flows with
the most runs have one of their own and the others share one, and a request is told by
its route's pattern. Flows that who asks may not see are among the others.
"""

import threading
import time
from collections import Counter as Sums
from collections.abc import Iterator, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from aero.app import Aero
from aero.db.models import Flow
from aero.db.queries import overview
from aero.db.session import Database
from aero.db.sight import seen_among
from aero.error import DatabaseUnavailableError
from aero.runs import presence
from aero.types import Json, Step

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FLOWS = 200
"""How many flows have a label of their own."""
OTHERS = "others"
SHARE = 20
"""Runs are counted again after so many times as long as it took."""

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_STEP_SECONDS = (0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)


class Metrics:
    """What is known of a workspace and of the process that serves it.

    Args:
        workspace: The one that is served.
    """

    def __init__(self, workspace: Aero) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._workspace = _Workspace(workspace)
        self._requests = Counter(
            "aero_http_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._latencies = Histogram(
            "aero_http_request_seconds",
            "How long requests took, to the last byte",
            ["method", "route"],
            buckets=_REQUEST_SECONDS,
            registry=self._registry,
        )
        self._steps = Histogram(
            "aero_step_seconds",
            "How long the steps took of runs that this process executed",
            ["step", "status"],
            buckets=_STEP_SECONDS,
            registry=self._registry,
        )
        self._downloaded = Counter(
            "aero_download_bytes",
            "Bytes downloaded by runs that this process executed",
            registry=self._registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        known = method if method in _METHODS else "OTHER"
        self._requests.labels(known, route, str(status)).inc()
        self._latencies.labels(known, route).observe(seconds)

    def heard(self, event: str, facts: Json) -> None:
        """Count the steps of a run that ended here."""
        if event != "ended":
            return
        for step in facts.get("steps", []):
            name = Step(step["name"]).value
            self._steps.labels(name, step["status"]).observe(step.get("seconds", 0.0))
            self._downloaded.inc(step.get("bytes", 0))

    def text(self, db: Database) -> bytes:
        """Return all of it, as Prometheus reads it.

        Args:
            db: The workspace's database, as who asks sees it.
        """
        scraped = CollectorRegistry()
        scraped.register(_Scrape(self._workspace, db))
        return generate_latest(scraped) + generate_latest(self._registry)


class _Scrape(Collector):
    """One look at a workspace."""

    def __init__(self, workspace: "_Workspace", db: Database) -> None:
        self._workspace = workspace
        self._db = db

    def collect(self) -> Iterator[GaugeMetricFamily]:
        return self._workspace.collect(self._db)


class _Workspace:
    """Asks the database when it is scraped; says so where that does not answer."""

    def __init__(self, workspace: Aero) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._counts: Sequence[tuple[str | None, str, int]] = ()
        self._next = 0.0

    def collect(self, db: Database) -> Iterator[GaugeMetricFamily]:
        try:
            with db.outages.impatient():
                found = db.look(self._look)
        except DatabaseUnavailableError:
            found = []
        yield _gauge("aero_database_up", "Whether the database answers", bool(found))
        yield from found

    def _look(self, tx: Connection) -> list[GaugeMetricFamily]:
        now = self._workspace.db.now(tx)
        nearest = overview.next_due(tx)
        late = (now - nearest.next_due).total_seconds() if nearest else 0.0
        ready = overview.waiting(tx, now, self._workspace.engine.endpoints)
        return [
            self._runs(tx),
            _gauge("aero_queue_depth", "Runs that wait and could start now", ready),
            _gauge(
                "aero_tick_lag_seconds",
                "For how long the flow that is due first has been due",
                max(0.0, late),
            ),
            _gauge(
                "aero_workers",
                "Processes that execute runs",
                presence.alive(tx, now),
            ),
        ]

    def _runs(self, tx: Connection) -> GaugeMetricFamily:
        runs = GaugeMetricFamily(
            "aero_runs",
            f"Runs kept, of the {FLOWS} flows with the most, and of all others",
            labels=["flow", "status"],
        )
        counted = self._counted(tx)
        seen = seen_among(tx, Flow, {f for f, _, _ in counted if f is not None})
        sums: Sums[tuple[str, str]] = Sums()
        for flow_id, status, count in counted:
            label = flow_id if flow_id is not None and flow_id in seen else OTHERS
            sums[label, status] += count
        for labels, count in sums.items():
            runs.add_metric(labels, count)
        return runs

    def _counted(self, tx: Connection) -> Sequence[tuple[str | None, str, int]]:
        # All runs are read for it: where that takes long, it is not done each time.
        with self._lock:
            began = time.monotonic()
            if began >= self._next:
                self._counts = overview.runs_by_flow(tx, FLOWS)
                ended = time.monotonic()
                self._next = ended + SHARE * (ended - began)
            return self._counts


def _gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_, value=value)
