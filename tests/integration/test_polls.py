"""What a poll of several sources, or of one for several tasks, must not miss."""

import json
from datetime import timedelta
from pathlib import Path

from aero.app import Aero
from aero.testing import FrozenClock
from tests.conftest import Publisher
from tests.invariants import check_invariants


def test_only_the_source_that_changed_gets_a_version(
    app: Aero, clock: FrozenClock, publisher: Publisher
) -> None:
    urls = {name: publisher.publish(name, f"{name} 1") for name in ("east", "west")}
    app.register_flow(
        "local",
        None,
        None,
        {name: {"url": url} for name, url in urls.items()},
        policy="INGESTION",
        timer_delay=60,
    )
    app.run_until_idle(10)
    publisher.publish("west", "west 2")
    clock.advance(timedelta(seconds=60))
    app.run_until_idle(10)
    versions = {
        name: [each["version"] for each in app.list_versions(name)] for name in urls
    }
    assert versions == {"east": [1], "west": [2, 1]}
    assert app.get_version("west")["data_file"]["file_size"] == len("west 2")
    assert check_invariants(app.db, store=app.settings.store, idle=True) == []


def keep(series: str, factor: int) -> None:
    from pathlib import Path

    from aero import AeroOutput

    out = Path("out.txt")
    out.write_text(Path(series).read_text() * factor)
    return AeroOutput("series", out)


def test_a_poll_for_one_task_of_a_sweep_says_nothing_of_another(
    app: Aero, clock: FrozenClock, publisher: Publisher, tmp_path: Path
) -> None:
    url = publisher.publish("series", "old ")
    config = tmp_path / "sweep.json"
    config.write_text(json.dumps([{"factor": 1}, {"factor": 2}]))
    flow = app.register_flow(
        "local",
        app.register_function(keep),
        None,
        {"series": {"url": url}},
        policy="INGESTION",
        timer_delay=60,
        config=config,
    )
    app.run_until_idle(10)
    publisher.publish("series", "new ")
    runs = app.run_flow(flow["id"], wait=False)["runs"]
    second = next(run for run in runs if run["task"] == 1)
    app.cancel_run(second["id"])
    app.run_until_idle(10)
    app.retry_run(second["id"])
    app.run_until_idle(10)
    assert app.get_run(second["id"])["status"] == "SUCCEEDED"
    found = [(v["version"], v["task"]) for v in app.list_versions("series")]
    assert sorted(found)[2:] == [(3, 0), (4, 1)]


def test_validators_of_the_same_bytes_are_kept(app: Aero, publisher: Publisher) -> None:
    url = publisher.publish("series", "same", etag="one")
    flow = app.register_flow(
        "local", None, None, {"series": {"url": url}}, policy="INGESTION"
    )
    app.run_until_idle(10)
    publisher.publish("series", "same", etag="two")
    polls = [app.run_flow(flow["id"], timeout=10) for _ in range(2)]
    assert [poll["status"] for poll in polls] == ["UNCHANGED"] * 2
    transferred = [app.get_run(poll["id"])["steps"][0]["bytes"] for poll in polls]
    assert transferred == [len("same"), 0]
