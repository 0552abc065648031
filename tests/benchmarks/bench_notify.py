"""What notifications cost: `pytest tests/benchmarks/bench_notify.py -s`.

With and without them in turns, on the same database, while another process listens.
"""

import threading
import time

import pytest
from sqlalchemy import text

from aero.db.changes import Notified, Topic, tell
from aero.db.session import Database
from aero.testing import make_app
from tests.scenarios import tick

RUNS, ROUNDS = 20, 10
THREADS, WRITES = 8, 100


@pytest.fixture
def listener(postgres_url):
    db = Database(postgres_url)
    db.changes.listen(lambda topics: None)
    yield db
    db.dispose()


def in_turns(monkeypatch, measure, best):
    """Return the `best` that `measure` gives without and with notifications."""
    announce, sent = Notified.announce, []

    def counting(self, tx, topics):
        sent.append(topics)
        announce(self, tx, topics)

    found = {False: [], True: []}
    measure()
    for _ in range(ROUNDS):
        for told in (False, True):
            quiet = counting if told else lambda *_: None
            monkeypatch.setattr(Notified, "announce", quiet)
            found[told].append(measure())
    # What others do on the machine can only make it worse.
    return best(found[False]), best(found[True]), len(sent) / ROUNDS


def test_of_a_run(postgres_url, listener, tmp_path, monkeypatch):
    with make_app(tmp_path, database_url=postgres_url) as app:
        flow = app.register_flow("local", app.register_function(tick))["id"]

        def measure():
            began = time.perf_counter()
            for _ in range(RUNS):
                app.run_flow(flow)
            return (time.perf_counter() - began) / RUNS * 1000

        without, told, sent = in_turns(monkeypatch, measure, min)
    print(
        f"a run by hand: {without:.2f} ms without, {told:.2f} ms with {sent / RUNS:.0f}"
        f" notifications, {told - without:+.2f} ms"
    )
    assert sent / RUNS <= 2
    assert told < 2 * without


def test_of_transactions_at_once(postgres_url, listener, tmp_path, monkeypatch):
    """A commit that notifies waits for those before it: not one per run, then."""
    db = Database(postgres_url)
    db.write(lambda tx: tx.execute(text("CREATE TABLE n (id INTEGER PRIMARY KEY)")))
    fresh = iter(range(10**9))

    def work():
        for _ in range(WRITES):
            db.write(insert)

    def insert(tx):
        tx.execute(text("INSERT INTO n VALUES (:id)"), {"id": next(fresh)})
        tell(tx, Topic.RUNS)

    def measure():
        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return THREADS * WRITES / (time.perf_counter() - began)

    without, told, _ = in_turns(monkeypatch, measure, max)
    db.dispose()
    print(
        f"{THREADS} threads: {without:.0f} transactions a second without, "
        f"{told:.0f} with a notification each ({told / without:.0%})"
    )
    assert told > 0.2 * without
