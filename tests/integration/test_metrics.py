"""What Prometheus reads of a workspace that is served, and what reading it costs."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from aero import AeroOutput
from aero.app import Aero
from aero.server import metrics
from aero.server.serving import serving
from aero.testing import FrozenClock
from tests.conftest import Publisher

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def copied(cases):
    from pathlib import Path

    Path("copy.txt").write_text(Path(cases).read_text())
    return AeroOutput("copy", "copy.txt")


def broken(number):
    raise ValueError("no good")


class Scraper:
    """Reads the metrics of a server."""

    def __init__(self, url: str, pool: urllib3.PoolManager) -> None:
        self.url = url
        self._pool = pool
        self.values: Values = {}

    def get(self, path: str, method: str = "GET") -> int:
        return self._pool.request(method, self.url + path, retries=False).status

    def scrape(self) -> None:
        answer = self._pool.request("GET", f"{self.url}/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        self.values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.data.decode())
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.values.get((name, frozenset(labels.items())))

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(found)[label] for each, found in self.values if each == name}


@pytest.fixture
def scraper(app: Aero, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scraper]:
    # However long it takes on a busy machine, runs are counted at each scrape.
    monkeypatch.setattr(metrics, "SHARE", 0)
    with urllib3.PoolManager() as pool, serving(app, api_only=True) as url:
        yield Scraper(url, pool)


def failing(app: Aero, number: int, runs: int) -> str:
    """Register a flow, and let it fail so many times; return its id."""
    function = app.register_function(broken)
    flow = app.register_flow("local", function, kwargs={"number": number})
    for _ in range(runs):
        app.run_flow(flow["id"])
    return str(flow["id"])


def test_runs_steps_and_bytes_are_counted(
    app: Aero, scraper: Scraper, publisher: Publisher
) -> None:
    scraper.scrape()
    assert scraper("aero_database_up") == 1
    assert scraper("aero_queue_depth") == 0
    made = app.create_source(
        "cases", publisher.publish("cases.csv", "day,cases\n"), policy="INGESTION"
    )
    inputs = {"cases": {"id": made["id"]}}
    flow = app.register_flow(
        "local", app.register_function(copied), inputs, {"copy": {}}, policy="ANY"
    )
    scraper.scrape()
    assert scraper("aero_queue_depth") == 1
    assert scraper("aero_runs", flow=made["flow_id"], status="PENDING") == 1
    app.run_until_idle(20)
    broken_id = failing(app, 0, 1)
    scraper.scrape()
    assert scraper("aero_queue_depth") == 0
    assert scraper("aero_workers") == 1
    for flow_id, status in (
        (made["flow_id"], "SUCCEEDED"),
        (flow["id"], "SUCCEEDED"),
        (broken_id, "FAILED"),
    ):
        assert scraper("aero_runs", flow=flow_id, status=status) == 1
    assert scraper("aero_runs", flow=made["flow_id"], status="PENDING") is None
    assert scraper("aero_download_bytes_total") == len("day,cases\n")
    count = "aero_step_seconds_count"
    assert scraper(count, step="download", status="SUCCEEDED") == 1
    assert scraper(count, step="function", status="SUCCEEDED") == 1
    assert scraper(count, step="function", status="FAILED") == 1
    assert scraper("aero_step_seconds_sum", step="download", status="SUCCEEDED") > 0


def test_the_tick_lag_is_how_late_the_first_flow_is(
    app: Aero, scraper: Scraper, publisher: Publisher, clock: FrozenClock
) -> None:
    url = publisher.publish("cases.csv", "one")
    app.create_source("cases", url, policy="INGESTION", timer_delay=3600)
    app.run_until_idle(20)
    scraper.scrape()
    assert scraper("aero_tick_lag_seconds") == 0
    clock.advance(timedelta(seconds=3690))
    scraper.scrape()
    assert scraper("aero_tick_lag_seconds") == 90
    assert scraper("aero_queue_depth") == 1
    app.run_until_idle(20)
    scraper.scrape()
    assert scraper("aero_tick_lag_seconds") == 0


def test_only_so_many_flows_have_a_label_of_their_own(
    app: Aero, scraper: Scraper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "FLOWS", 2)
    ids = [failing(app, number, runs) for number, runs in enumerate((1, 3, 2, 1))]
    scraper.scrape()
    assert scraper.labels("aero_runs", "flow") == {ids[1], ids[2], "others"}
    assert scraper("aero_runs", flow=ids[1], status="FAILED") == 3
    assert scraper("aero_runs", flow="others", status="FAILED") == 2


def test_a_scrape_asks_as_much_of_many_flows_as_of_one(
    app: Aero, scraper: Scraper
) -> None:
    asked: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    def cost() -> int:
        del asked[:]
        event.listen(app.db.engine, "before_cursor_execute", note)
        try:
            scraper.scrape()
        finally:
            event.remove(app.db.engine, "before_cursor_execute", note)
        return len(asked)

    failing(app, 0, 1)
    one = cost()
    for number in range(1, 21):
        failing(app, number, 1)
    assert cost() == one
    # PostgreSQL is asked for its time, too.
    assert one <= 5


def test_what_takes_long_to_count_is_counted_seldom(
    sqlite_app: Aero, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, counted = [100.0], []

    def count(_tx: Any, _most: int) -> list[tuple[str | None, str, int]]:
        counted.append(now[0])
        now[0] += 2.0
        return [(None, "FAILED", len(counted))]

    monkeypatch.setattr(metrics.overview, "runs_by_flow", count)
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    found = metrics._Workspace(sqlite_app)
    with sqlite_app.db.read() as tx:
        found._counted(tx)
        now[0] += metrics.SHARE * 2.0 - 1
        assert found._counted(tx) == [(None, "FAILED", 1)]
        now[0] += 1
        assert found._counted(tx) == [(None, "FAILED", 2)]
    assert counted == [100.0, 102.0 + metrics.SHARE * 2.0]


def test_requests_are_told_by_their_route(app: Aero, scraper: Scraper) -> None:
    for number in range(3):
        assert scraper.get(f"/data/nothing-{number}") == 404
        assert scraper.get(f"/no/such/{number}") == 404
    assert scraper.get("/data/") == 200
    assert scraper.get("/data", "BREW") == 405
    scraper.scrape()
    total = "aero_http_requests_total"
    assert scraper(total, method="GET", route="/data/{ref}", status="404") == 3
    assert scraper(total, method="GET", route="none", status="404") == 3
    assert scraper(total, method="GET", route="/data", status="200") == 1
    assert scraper(total, method="OTHER", route="none", status="405") == 1
    latencies = "aero_http_request_seconds_count"
    assert scraper(latencies, method="GET", route="/data/{ref}") == 3
    assert scraper("process_resident_memory_bytes") > 0


def test_each_server_counts_for_itself(sqlite_app: Aero, tmp_path: Path) -> None:
    with (
        urllib3.PoolManager() as pool,
        serving(sqlite_app, api_only=True) as one,
        serving(sqlite_app, api_only=True) as other,
    ):
        first, second = Scraper(one, pool), Scraper(other, pool)
        first.get("/data")
        second.scrape()
        assert second.labels("aero_http_requests_total", "route") == set()
        first.scrape()
        assert first.labels("aero_http_requests_total", "route") == {"/data"}
    assert sqlite_app.engine.listeners == []
