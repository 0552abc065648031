"""While the database is away a server says so at once, and lives; then it goes on."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import urllib3

from aero.db.outages import Outages
from aero.server.serving import serving
from aero.testing import make_app
from tests.cluster import Cluster, private_cluster
from tests.waiting import until

THREADS = 40
"""How many requests Starlette answers at once."""


@pytest.fixture
def server() -> Iterator[Cluster]:
    """A PostgreSQL that only this test uses."""
    with private_cluster() as found:
        yield found


def stuck(pool: urllib3.PoolManager, url: str) -> bool:
    """Whether there is no answer for a second."""
    try:
        pool.request("GET", url, timeout=1)
    except urllib3.exceptions.ReadTimeoutError:
        return True
    return False


def test_it_says_so_at_once_and_goes_on(
    server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        make_app(tmp_path, database_url=server.url) as app,
        urllib3.PoolManager(maxsize=THREADS, retries=False) as pool,
        serving(app, api_only=True) as url,
    ):

        def get(path: str) -> Any:
            return pool.request("GET", url + path, timeout=30)

        assert get("/health/ready").status == 200
        server.stop()

        began = time.monotonic()
        ready = get("/health/ready")
        took = time.monotonic() - began
        problem = json.loads(ready.data)
        assert (ready.status, problem["status"]) == (503, 503)
        assert ready.headers["Content-Type"] == "application/problem+json"
        assert problem["type"] == "urn:aero:database-unavailable"
        print(f"\nready answered 503 in {took:.3f} s")
        assert "aero_database_up 0.0" in get("/metrics").data.decode()

        # Requests that wait for the database take every thread.
        held = [threading.Thread(target=get, args=["/data"]) for _ in range(THREADS)]
        for thread in held:
            thread.start()
        until(lambda: stuck(pool, f"{url}/health/ready"), seconds=30)
        assert get("/health/live").status == 200

        server.start()
        for thread in held:
            thread.join(60)
        assert get("/health/ready").status == 200
        assert "aero_database_up 1.0" in get("/metrics").data.decode()

        # Patience is what it would have waited with.
        impatient = Outages.impatient
        monkeypatch.setattr(Outages, "impatient", lambda _: ExitStack())
        server.stop()
        assert stuck(pool, f"{url}/health/ready")
        monkeypatch.setattr(Outages, "impatient", impatient)
        server.start()
