"""A thousand clients at once: `pytest tests/benchmarks/bench_load.py -s`.

Each keeps one connection from the first to the last second, and asks again some time
after it was answered: THINK seconds on average, between none and twice as much. Without
that, a closed loop of so many measures nothing but the queue that it makes itself; its
figures are printed as well, and what they must show is that nothing is refused. One
request in five writes. The server is a process of its own, as `aero serve` runs it, and
so are the workers that execute the runs that are asked for; all share the machine.
"""

import os
from pathlib import Path

from aero.testing import make_app
from tests.load import furnish, load, quantile, served, told

CLIENTS = int(os.environ.get("AERO_BENCH_CLIENTS", "1000"))
SECONDS = float(os.environ.get("AERO_BENCH_SECONDS", "30"))
THINK = float(os.environ.get("AERO_BENCH_THINK", "20"))
LONGEST = 1.0


def test_of_many_clients(
    database_url: str, engine: str, tmp_path: Path, publisher, figures
) -> None:
    home = tmp_path / "home"
    with make_app(home, database_url=database_url) as app:
        kinds = furnish(app, publisher.publish("cases.csv", "day,cases\n1,4\n"))
    with served(AERO_HOME=str(home), AERO_DATABASE_URL=database_url) as url:
        thinking = load(url, kinds, clients=CLIENTS, seconds=SECONDS, think=THINK)
        print(f"\n{engine}, {THINK:g} s of thought: {told(thinking, kinds)}")
        hurried = load(url, kinds, clients=CLIENTS, seconds=SECONDS / 3, think=0)
        print(f"{engine}, without thought: {told(hurried, kinds)}")
    reads = thinking.of(kinds, writes=False)
    p50, p99 = quantile(reads, 0.5), quantile(reads, 0.99)
    figures.add("read, p50", 1000 * p50, "ms", engine=engine)
    figures.add("read, p99", 1000 * p99, "ms", engine=engine, budget="< 1000 ms")
    figures.add("answers, thinking", thinking.rate, "1/s", engine=engine)
    figures.add("answers, at most", hurried.rate, "1/s", engine=engine)
    assert thinking.connected == hurried.connected == CLIENTS
    assert [*thinking.errors, *hurried.errors] == []
    assert p99 < LONGEST
