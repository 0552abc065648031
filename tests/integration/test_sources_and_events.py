"""Sources, their types, and what happens when somebody says that they changed."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aero import events
from aero.app import Aero
from aero.error import (
    ConflictError,
    DuplicateError,
    InvalidTypeError,
    InvalidValueError,
    NotFoundError,
)
from aero.sources.connections import close_connections
from aero.testing import make_app
from aero.types import AeroOutput, PolicyEnum
from tests.loopback import Answer, Loopback, loopback

EVENT = PolicyEnum.INGESTION_EVENT.value


def shout(cases):
    from pathlib import Path

    Path("out.csv").write_text(Path(cases).read_text().upper())
    return AeroOutput("cases", "out.csv")


def where(cases_url, cases_signed_url="none"):
    from pathlib import Path

    Path("where.txt").write_text(f"{cases_url} {cases_signed_url}")
    return AeroOutput("place", "where.txt")


def where_read(cases, cases_url):
    from pathlib import Path

    Path("where.txt").write_text(cases_url)
    return AeroOutput("place", "where.txt")


@pytest.fixture
def app(database_url: str, tmp_path: Path) -> Iterator[Aero]:
    with make_app(tmp_path / "home", database_url=database_url) as found:
        yield found


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as found:
        yield found
        close_connections()


def versions(app: Aero, data: str) -> list[tuple[int, str, str]]:
    rows = app.list_versions(data)
    return [(row["version"], row["source_key"], row["checksum"]) for row in rows]


def content(app: Aero, data: str, tmp_path: Path, version: int | None = None) -> str:
    app.fetch_version(data, tmp_path / "copy", version)
    return (tmp_path / "copy").read_text()


def stored(app: Aero) -> list[Path]:
    root = app.settings.store
    return [path for path in root.rglob("*") if path.is_file()]


# Creating


def test_a_source_has_one_shape(app: Aero) -> None:
    made = app.create_source(
        "cases", "https://h/a.csv", description="Daily cases", tags=["flu"]
    )
    assert made["name"] == "cases"
    assert made["description"] == "Daily cases"
    assert made["url"] == "https://h/a.csv"
    assert made["type_name"] is None
    assert made["policy"] == EVENT
    assert made["input_data"] == {"cases": {"id": made["id"]}}
    assert made["tags"] == ["flu"]
    assert made["no_copy"] is False
    assert app.get_data(made["id"])["name"] == "cases"
    flow = app.get_flow(made["flow_id"], inputs_only=False)
    assert flow["contributed_to"][0]["id"] == made["id"]
    assert flow["timer_job_id"] is None
    polled = app.create_source("b", "https://h/b", policy="INGESTION", cron="0 6 * * *")
    typed = app.create_source("c", "https://h/c", type_name="T", no_copy=True)
    assert made.keys() == polled.keys() == typed.keys()
    assert polled["timer_job_id"] == polled["flow_id"]
    assert polled["cron"] == "0 6 * * *"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"policy": PolicyEnum.ANY}, "cannot have the policy ANY"),
        ({"timer_delay": 60}, "no schedule"),
        ({"cron": "0 6 * * *"}, "no schedule"),
        ({"no_copy": True, "policy": "INGESTION"}, "be polled"),
        ({"no_copy": True, "policy": 0, "timer_delay": 60}, "be polled"),
        ({"no_copy": True, "timer_delay": 60}, "no schedule"),
        ({"no_copy": True, "kwargs": {"a": 1}}, "have kwargs"),
        ({"no_copy": True, "function_uuid": "f"}, "have a function"),
        ({"url": "ftp://h/a"}, "starts with"),
        ({"name": ""}, "no name for a source"),
        ({"type_name": " "}, "no name for a type"),
        ({"name": "my cases", "function_uuid": "f"}, "output="),
        (
            {"url": "https://h/*", "type_name": "T", "policy": "INGESTION"},
            "cannot be polled",
        ),
        ({"output": "no name"}, "no Python identifier"),
    ],
)
def test_what_cannot_be_is_refused(
    app: Aero, options: dict[str, Any], match: str
) -> None:
    wanted = {"name": "cases", "url": "https://h/a.csv", **options}
    with pytest.raises(ValueError, match=match):
        app.create_source(**wanted)
    assert list(app.list_metadata("data")) == []
    assert app.list_source_types() == []


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("my cases", "my_cases"),
        ("2024", "source_2024"),
        ("class", "source_class"),
        ("aero", "source_aero"),
        ("-", "source"),
        ("naïve", "naïve"),
    ],
)
def test_any_name_will_do_without_a_function(app: Aero, name: str, key: str) -> None:
    made = app.create_source(name, "https://h/a.csv")
    assert made["name"] == name
    assert made["input_data"] == {key: {"id": made["id"]}}


def test_the_scheduler_hears_of_a_new_source(
    app: Aero, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bool] = []
    monkeypatch.setattr(
        app.engine, "wake", lambda *, scheduled=False: heard.append(scheduled)
    )
    app.create_source(
        "polled", "http://x.org/polled", policy="INGESTION", timer_delay=5
    )
    assert heard == [True]


def test_an_equal_source_is_refused_or_returned(app: Aero) -> None:
    made = app.create_source("cases", "https://h/a.csv", type_name="T")
    with pytest.raises(DuplicateError) as caught:
        app.create_source("cases", "https://h/a.csv")
    assert caught.value.flow_id == made["flow_id"]
    again = app.create_source("cases", "https://h/a.csv", type_name="T", exist_ok=True)
    assert again == made
    with pytest.raises(ConflictError, match="of the type 'T' already"):
        app.create_source("cases", "https://h/a.csv", type_name="U", exist_ok=True)
    assert [each["name"] for each in app.list_source_types()] == ["T"]


def test_a_function_may_call_it_otherwise(
    app: Aero, server: Loopback, tmp_path: Path
) -> None:
    server.at("/a.csv", Answer(body=b"a,b\n"))
    made = app.create_source(
        "Daily cases",
        f"{server.url}/a.csv",
        function_uuid=app.register_function(shout),
        output="cases",
        policy="INGESTION",
    )
    app.run_until_idle(30)
    assert made["input_data"] == {"cases": {"id": made["id"]}}
    assert content(app, "Daily cases", tmp_path) == "A,B\n"


# Types


def test_a_type_groups_urls(app: Aero) -> None:
    made = app.create_source("cases", "https://h/2024/*.csv", type_name="T")
    assert made["type_name"] == "T"
    assert app.get_source_type("T")["data_id"] == made["id"]
    changed = app.add_type_url("T", "https://h/2025/*.csv")
    assert changed["urls"] == [
        {"url": f"https://h/{year}/*.csv", "object_key": f"{year}/*.csv"}
        for year in (2024, 2025)
    ]
    assert changed["no_copy"] is False
    assert app.add_type_url("T", "http://other/2025/*.csv") == changed
    assert app.list_source_types() == [changed]
    with pytest.raises(NotFoundError, match="no source type 'U'"):
        app.get_source_type("U")
    with pytest.raises(NotFoundError, match="no source type 'U'"):
        app.add_type_url("U", "https://h/x")
    with pytest.raises(InvalidValueError, match="starts with"):
        app.add_type_url("T", "x")


def test_a_name_and_a_key_belong_to_one_type(app: Aero) -> None:
    app.create_source("a", "https://h/a.csv", type_name="T")
    with pytest.raises(ConflictError, match="add_type_url"):
        app.create_source("b", "https://h/b.csv", type_name="T")
    with pytest.raises(ConflictError, match="belongs to the type 'T'"):
        app.create_source("b", "http://mirror/a.csv", type_name="U")
    app.create_source("b", "https://h/b.csv", type_name="U")
    with pytest.raises(ConflictError, match="belongs to the type 'T'"):
        app.add_type_url("U", "https://h/a.csv")
    assert [each["name"] for each in app.list_metadata("data")] == ["b", "a"]


def test_a_deleted_source_gives_its_type_free(app: Aero) -> None:
    old = app.create_source("a", "https://h/a.csv", type_name="T")
    app.delete_flow(old["flow_id"])
    assert app.get_source_type("T")["data_id"] == old["id"]
    new = app.create_source("a", "https://h/a.csv", type_name="T")
    assert app.get_source_type("T")["data_id"] == new["id"] != old["id"]


def test_types_made_at_once_do_not_break_each_other(app: Aero) -> None:
    def make(number: int) -> str:
        url = f"https://h/{number}.csv"
        try:
            return str(app.create_source(f"s{number}", url, type_name="T")["id"])
        except ConflictError:
            return ""

    _ = app.db
    with ThreadPoolExecutor(4) as pool:
        made = [data_id for data_id in pool.map(make, range(8)) if data_id]
    assert [each["data_id"] for each in app.list_source_types()] == made
    assert [each["id"] for each in app.list_metadata("data")] == made


# Which source a notification is about


def told(app: Aero, **about: Any) -> str:
    """Return the name of the Data that a notification is found to be about."""
    run = app.notify(etag="e", **about)
    made = app.get_flow(run["flow_id"], inputs_only=False)["contributed_to"]
    return str(made[0]["name"])


def test_the_nearest_registered_url_wins(app: Aero) -> None:
    for name, url in {
        "all": "https://h/data/**",
        "csv": "https://h/data/**/*.csv",
        "year": "https://h/data/2024/*.csv",
        "one": "https://h/data/2024/x.csv",
    }.items():
        app.create_source(name, url, type_name=name, no_copy=True)
    assert told(app, url="http://elsewhere:81/data/2024/x.csv?v=1") == "one"
    assert told(app, key="/data/2024/y.csv") == "year"
    assert told(app, key="data/2023/y.csv") == "csv"
    assert told(app, key="data/readme.txt") == "all"
    with pytest.raises(NotFoundError, match="No source has the object 'x'"):
        app.notify(key="x", etag="e")


def test_a_tie_is_a_conflict(app: Aero) -> None:
    a = app.create_source("a", "https://h/?/x", type_name="A", no_copy=True)
    app.create_source("b", "https://h/*/x", type_name="B", no_copy=True)
    with pytest.raises(ConflictError, match="notify one of them by file_id") as caught:
        app.notify(key="1/x", etag="e")
    assert caught.value.code == 409
    assert told(app, key="1/x", file_id=a["id"]) == "a"


def test_two_patterns_of_one_type_are_no_tie(app: Aero) -> None:
    app.create_source("a", "https://h/?/x", type_name="A", no_copy=True)
    app.add_type_url("A", "https://h/*/x")
    assert told(app, key="1/x") == "a"


def test_equal_keys_on_two_hosts_are_told_apart_by_url(app: Aero) -> None:
    app.create_source("a", "https://a/x.csv", no_copy=True)
    app.create_source("b", "https://b/x.csv", no_copy=True)
    assert told(app, url="https://b/x.csv") == "b"
    with pytest.raises(ConflictError):
        app.notify(key="x.csv", etag="e")


def test_the_whole_of_a_pattern_cannot_change(app: Aero) -> None:
    many = app.create_source("many", "https://h/*.csv", no_copy=True)
    with pytest.raises(InvalidValueError, match="has many objects"):
        app.notify(file_id=many["id"], etag="e")
    assert told(app, file_id="many", key="a.csv") == "many"
    with pytest.raises(NotFoundError):
        app.notify(file_id="many", key="a.txt", etag="e")


def test_a_source_that_is_deleted_meanwhile_is_not_run(
    app: Aero, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = app.create_source("a", "https://h/a.csv")
    found = events.find

    def find(tx: Any, told: Any) -> Any:
        target = found(tx, told)
        app.delete_flow(made["flow_id"])
        return target

    monkeypatch.setattr(events, "find", find)
    with pytest.raises(NotFoundError, match="was deleted"):
        app.notify(url="https://h/a.csv")
    assert list(app.list_runs()) == []


def test_only_living_sources_are_notified(app: Aero) -> None:
    made = app.create_source("a", "https://h/a.csv", no_copy=True)
    app.delete_flow(made["flow_id"])
    with pytest.raises(NotFoundError, match="No source has"):
        app.notify(url="https://h/a.csv", etag="e")
    with pytest.raises(NotFoundError, match="No living flow ingests a"):
        app.notify(file_id=made["id"], etag="e")
    with pytest.raises(NotFoundError, match="no Data"):
        app.notify(file_id="nothing", etag="e")


@pytest.mark.parametrize(
    ("body", "error", "match"),
    [
        ({}, InvalidValueError, "does not say what changed"),
        ({"etag": "e", "unknown": 1}, InvalidValueError, "does not say what changed"),
        ({"url": "https://h/a", "key": "a"}, InvalidValueError, "Both url and key"),
        ({"key": 5}, InvalidTypeError, "key is a int"),
        ({"key": "a", "size": "5"}, InvalidTypeError, "size is a str"),
        ({"key": "a", "size": True}, InvalidTypeError, "size is a bool"),
        ({"key": "a", "size": -1}, InvalidValueError, "from 0"),
        ({"key": "a", "size": 2**63}, InvalidValueError, "from 0"),
        ({"key": "a", "dedup": 0}, InvalidTypeError, "dedup is a int"),
        (["a"], InvalidTypeError, "notification is a list"),
        ({"key": "a", "etag": "a\0"}, InvalidValueError, "etag holds a NUL"),
        ({"key": "a", "delivery_id": "\ud800"}, InvalidValueError, "half a surrogate"),
        ({"file_id": "a", "bucket": "b"}, InvalidValueError, "without a key"),
    ],
)
def test_a_malformed_notification_is_refused(
    app: Aero, body: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match) as caught:
        app.notify(body)
    assert caught.value.code == 422


# Sources whose bytes are kept


def test_an_event_downloads_the_object(
    app: Aero, server: Loopback, tmp_path: Path
) -> None:
    server.at("/d/a.csv", Answer(body=b"a", headers={"ETag": '"1"'}))
    server.at("/d/b%20c.csv", Answer(body=b"b"))
    app.create_source("cases", f"{server.url}/d/*.csv", type_name="T")
    run = app.notify({"url": f"{server.url}/d/a.csv", "ignored": True})
    assert run["status"] == "PENDING"
    assert run["trigger_kind"] == "event"
    assert run["source_key"] == "d/a.csv"
    app.notify({"key": "d/b c.csv"})
    app.run_until_idle(30)
    keys = {key for _, key, _ in versions(app, "cases")}
    assert keys == {"d/a.csv", "d/b c.csv"}
    contents = {content(app, "cases", tmp_path, n) for n in (1, 2)}
    assert contents == {"a", "b"}


def test_a_notification_names_no_host_of_its_own(app: Aero, server: Loopback) -> None:
    server.at("/d/a.csv", Answer(body=b"a"))
    app.create_source("cases", f"{server.url}/d/*.csv", type_name="T")
    app.notify(url="http://127.0.0.1:9/d/a.csv")
    app.run_until_idle(30)
    assert len(versions(app, "cases")) == 1


def test_events_about_one_object_coalesce_and_no_others(app: Aero) -> None:
    app.create_source("cases", "https://h/*.csv", type_name="T")
    runs = [app.notify(key=key)["id"] for key in ("a.csv", "a.csv", "b.csv")]
    assert runs[0] == runs[1] != runs[2]


def test_a_delivery_counts_once(app: Aero) -> None:
    app.create_source("cases", "https://h/*.csv", no_copy=True, type_name="T")
    first = app.notify(key="a.csv", etag="1", delivery_id="d")
    assert app.notify(key="a.csv", etag="2", delivery_id="d") == first
    other = app.notify(key="b.csv", etag="1", delivery_id="d")
    assert other["id"] != first["id"]
    assert [key for _, key, _ in versions(app, "cases")] == ["b.csv", "a.csv"]


def test_the_same_bytes_again_are_no_version_unless_forced(
    app: Aero, server: Loopback
) -> None:
    server.at("/a.csv", Answer(body=b"a"))
    made = app.create_source("cases", f"{server.url}/a.csv")
    for dedup, count in ((True, 1), (True, 1), (False, 2)):
        run = app.notify(file_id=made["id"], dedup=dedup)
        assert run["source_key"] == ""
        app.run_until_idle(30)
        assert len(versions(app, made["id"])) == count


def test_a_forced_version_is_made_whatever_joins_its_run(
    app: Aero, server: Loopback
) -> None:
    server.at("/a.csv", Answer(body=b"a"))
    made = app.create_source("cases", f"{server.url}/a.csv", policy="INGESTION")
    app.run_until_idle(30)
    forced = app.notify(file_id=made["id"], dedup=False)
    assert app.notify(file_id=made["id"])["id"] == forced["id"]
    app.run_until_idle(30)
    assert len(versions(app, made["id"])) == 2


def test_an_event_of_one_source_leaves_the_flows_others_alone(
    app: Aero, server: Loopback, tmp_path: Path
) -> None:
    server.at("/a/1", Answer(body=b"a"))
    server.at("/b", Answer(body=b"b"))
    flow = app.register_flow(
        "local",
        None,
        {},
        {"a": {"url": f"{server.url}/a/*"}, "b": {"url": f"{server.url}/b"}},
        policy=PolicyEnum.INGESTION_EVENT,
    )
    app.notify(key="a/1")
    app.run_until_idle(30)
    made = {data["name"]: data["id"] for data in flow["contributed_to"]}
    assert content(app, made["a"], tmp_path) == "a"
    assert content(app, made["b"], tmp_path) == "b"


def test_what_only_events_name_is_not_run_by_hand(app: Aero, server: Loopback) -> None:
    server.at("/a.csv", Answer(body=b"a"))
    for options in ({"type_name": "T"}, {}, {"no_copy": True}):
        url = "https://h/*" if not options.get("no_copy") else "https://h/a.csv"
        made = app.create_source(f"s{len(options)}{url}", url, **options)
        with pytest.raises(ConflictError, match="use notify"):
            app.run_flow(made["flow_id"])
    one = app.create_source("one", f"{server.url}/a.csv")
    assert app.run_flow(one["flow_id"])["status"] == "SUCCEEDED"


# No-copy


def test_a_no_copy_notification_is_committed_at_once(app: Aero) -> None:
    made = app.create_source("cases", "https://h/d/*.csv", no_copy=True)
    run = app.notify(url="https://h/d/a.csv", etag='"1"', size=5)
    assert run["status"] == "SUCCEEDED"
    assert run["finished_at"] is not None
    version = app.get_version(made["id"])
    assert version["checksum"] == '"1"'
    assert version["uri"] is None
    assert version["source_key"] == "d/a.csv"
    assert version["media_type"] == "text/csv"
    assert version["data_file"] == {
        "file_name": "a.csv",
        "file_type": "csv",
        "file_size": 5,
        "encoding": None,
    }
    record = app.get_provenance(run["id"])
    assert record["steps"][0]["url"] == "https://h/d/a.csv"
    (made_by,) = record["contributed_to"]
    assert made_by["id"] == version["id"]
    assert made_by["is_new"] is True
    assert stored(app) == []
    with pytest.raises(NotFoundError, match="get it from its source"):
        app.fetch_version(made["id"], "nowhere")


def test_repeats_are_detected_per_key(app: Aero) -> None:
    app.create_source("cases", "https://h/*.csv", no_copy=True, type_name="T")

    def notify(key: str, etag: str, **options: Any) -> str:
        return str(app.notify(key=key, etag=etag, **options)["status"])

    assert notify("a.csv", "1") == "SUCCEEDED"
    assert notify("b.csv", "1") == "SUCCEEDED"
    assert notify("a.csv", '"1"') == "UNCHANGED"
    assert notify("a.csv", "2") == "SUCCEEDED"
    assert notify("b.csv", "1", dedup=False) == "SUCCEEDED"
    assert notify("a.csv", "1") == "SUCCEEDED"
    found = [(key, etag) for _, key, etag in reversed(versions(app, "cases"))]
    assert found == [
        ("a.csv", "1"),
        ("b.csv", "1"),
        ("a.csv", "2"),
        ("b.csv", "1"),
        ("a.csv", "1"),
    ]
    assert len(list(app.list_metadata("prov"))) == 5


def test_an_object_is_asked_for_its_etag(app: Aero, server: Loopback) -> None:
    server.at("/a.csv", Answer(body=b"12345", headers={"ETag": '"7"'}))
    made = app.create_source("cases", f"{server.url}/a.csv", no_copy=True)
    app.notify(file_id=made["id"])
    version = app.get_version(made["id"])
    assert (version["checksum"], version["data_file"]["file_size"]) == ('"7"', 5)
    assert version["source_key"] == ""
    assert version["data_file"]["file_name"] == "a.csv"
    assert app.notify(file_id=made["id"], etag="7")["status"] == "UNCHANGED"


def test_a_type_of_one_url_keeps_its_key(app: Aero) -> None:
    made = app.create_source("a", "https://h/d/a.csv", type_name="T", no_copy=True)
    assert app.notify(file_id=made["id"], etag="1")["source_key"] == "d/a.csv"
    assert app.notify(key="d/a.csv", etag="1")["status"] == "UNCHANGED"


@pytest.mark.parametrize("answer", [Answer(body=b"1"), Answer(404)])
def test_without_an_etag_there_is_no_version(
    app: Aero, server: Loopback, answer: Answer
) -> None:
    server.at("/a.csv", answer)
    made = app.create_source("cases", f"{server.url}/a.csv", no_copy=True)
    with pytest.raises(InvalidValueError, match="send the etag") as caught:
        app.notify(file_id=made["id"], etag="")
    assert caught.value.code == 400
    assert list(app.list_runs()) == []


def test_a_paused_no_copy_source_says_so(app: Aero) -> None:
    made = app.create_source("cases", "https://h/a.csv", no_copy=True)
    app.pause_flow(made["flow_id"])
    with pytest.raises(ConflictError, match="is paused"):
        app.notify(file_id=made["id"], etag="1")
    assert list(app.list_runs()) == []
    app.resume_flow(made["flow_id"])
    assert app.notify(file_id=made["id"], etag="1")["status"] == "SUCCEEDED"


def test_many_notifications_at_once_lose_nothing(app: Aero) -> None:
    app.create_source("cases", "https://h/*.csv", no_copy=True, type_name="T")

    def notify(number: int) -> str:
        key, etag = f"{number % 3}.csv", str(number % 4)
        return str(app.notify(key=key, etag=f"{key}{etag}")["status"])

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(notify, range(24)))
    found = versions(app, "cases")
    assert set(ended) <= {"SUCCEEDED", "UNCHANGED"}
    assert len(found) == ended.count("SUCCEEDED")
    assert [number for number, _, _ in found] == list(range(len(found), 0, -1))


# What reads them


def test_a_dependent_is_told_where_the_object_is(app: Aero, tmp_path: Path) -> None:
    made = app.create_source("cases", "https://h/d/*.csv", no_copy=True)
    flow = app.register_flow(
        "local",
        app.register_function(where),
        {"cases": {"id": made["id"], "fetch": False}},
        {"place": {}},
        policy=PolicyEnum.ANY,
    )
    place = flow["contributed_to"][0]["id"]
    app.notify(key="d/a b.csv", etag="1")
    app.run_until_idle(30)
    assert content(app, place, tmp_path) == "https://h/d/a%20b.csv none"
    urls = {"trigger_url": "https://t/1", "signed_url": "https://s/1"}
    app.notify(key="d/a b.csv", etag="2", **urls)
    app.run_until_idle(30)
    assert content(app, place, tmp_path) == "https://t/1 https://s/1"
    for depth in (None, 1):
        assert made["id"] in json.dumps(app.lineage(place, depth=depth).record())


def test_who_wants_the_bytes_of_a_no_copy_input_is_told_how(app: Aero) -> None:
    made = app.create_source("cases", "https://h/a.csv", no_copy=True)
    app.register_flow(
        "local",
        app.register_function(shout),
        {"cases": {"id": made["id"]}},
        {"out": {}},
        policy=PolicyEnum.ANY,
    )
    app.notify(file_id=made["id"], etag="1")
    app.run_until_idle(30)
    (failed,) = app.list_runs(status="FAILED")
    assert '"fetch": false' in failed["error_message"]


def test_a_kept_input_may_be_named_by_its_url_too(
    app: Aero, server: Loopback, tmp_path: Path
) -> None:
    server.at("/a.csv", Answer(body=b"a"))
    made = app.create_source("cases", f"{server.url}/a.csv")
    flow = app.register_flow(
        "local",
        app.register_function(where_read),
        {"cases": {"id": made["id"]}},
        {"place": {}},
        policy=PolicyEnum.ANY,
    )
    app.notify(file_id=made["id"])
    app.run_until_idle(30)
    place = flow["contributed_to"][0]["id"]
    assert content(app, place, tmp_path) == f"{server.url}/a.csv"
