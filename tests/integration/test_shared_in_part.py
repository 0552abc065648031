"""Things of which somebody sees one half: a flow and not its data, or the other way."""

import json
import uuid
from typing import Any

import pytest

from aero import AeroOutput
from aero.app import Aero
from aero.error import (
    AmbiguousError,
    ConflictError,
    DuplicateError,
    ForbiddenError,
    NotFoundError,
)
from tests.conftest import Publisher
from tests.guests import GROUP, acting, copied, join, own


@pytest.fixture
def olga(sqlite_app: Aero) -> Aero:
    join(sqlite_app, olga="editor", ed="editor")
    return acting(sqlite_app, "olga")


@pytest.fixture
def ed(sqlite_app: Aero, olga: Aero) -> Aero:
    return acting(sqlite_app, "ed")


def swapped(first, second):
    from pathlib import Path

    one, two = Path(first).read_text(), Path(second).read_text()
    Path("1.txt").write_text(two)
    Path("2.txt").write_text(one)
    return [AeroOutput("first", "1.txt"), AeroOutput("second", "2.txt")]


def test_what_was_downloaded_for_hidden_data_is_hidden(
    sqlite_app: Aero, olga: Aero, ed: Aero, publisher: Publisher
) -> None:
    urls = {name: publisher.publish(name, name) for name in ("first", "second")}
    flow = olga.register_flow(
        "local",
        olga.register_function(swapped),
        {},
        {name: {"url": url} for name, url in urls.items()},
        group=GROUP,
    )
    run = olga.run_flow(flow["id"])
    assert run["status"] == "SUCCEEDED"
    seen, hidden = (olga.get_data(name)["id"] for name in urls)
    olga.share("data", hidden)

    def shown(user: Aero) -> list[list[str]]:
        node = user.lineage(seen).nodes[user.get_version(seen)["id"]]
        record = user.get_provenance(run["id"])
        return [sorted(s["url"] for s in each["sources"]) for each in (node, record)]

    assert shown(ed) == [[urls["first"]], [urls["first"]]]
    assert shown(olga) == [sorted(urls.values())] * 2


def test_an_equal_source_with_hidden_data_will_not_do(
    sqlite_app: Aero, olga: Aero, ed: Aero, publisher: Publisher
) -> None:
    its = own(sqlite_app, publisher, "olga", "x", public=True)
    assert ed.create_source("x", its.url, exist_ok=True)["id"] == its.data
    with pytest.raises(DuplicateError) as caught:
        ed.create_source("x", its.url)
    assert caught.value.flow_id == its.flow
    olga.share("data", its.data)
    with pytest.raises(DuplicateError, match="belongs to somebody else") as caught:
        ed.create_source("x", its.url, exist_ok=True)
    assert caught.value.facts == {}


def test_a_type_is_for_who_may_change_the_data(
    olga: Aero, ed: Aero, publisher: Publisher
) -> None:
    url = publisher.publish("plain.csv", "x")
    olga.create_source("plain", url, public=True)
    with pytest.raises(ForbiddenError):
        ed.create_source("plain", url, type_name="mine", exist_ok=True)
    assert ed.list_source_types() == []
    olga.share("data", "plain", group=GROUP)
    made = ed.create_source("plain", url, type_name="mine", exist_ok=True)
    assert made["type_name"] == "mine"


def test_data_whose_flow_is_hidden_cannot_be_notified(
    sqlite_app: Aero, olga: Aero, ed: Aero, publisher: Publisher
) -> None:
    its = own(sqlite_app, publisher, "olga", "x", group=GROUP)
    assert ed.notify(file_id=its.data)["flow_id"] == its.flow
    olga.share("flow", its.flow)
    with pytest.raises(NotFoundError, match="No living flow ingests"):
        ed.notify(file_id=its.data)
    with pytest.raises(NotFoundError, match="No source has the object"):
        ed.notify(url=its.url)
    olga.share("flow", its.flow, public=True)
    with pytest.raises(ForbiddenError, match="The flow belongs"):
        ed.notify(url=its.url)


def test_a_flow_whose_data_is_hidden_does_not_name_it(
    sqlite_app: Aero, olga: Aero, ed: Aero
) -> None:
    made = olga.create_source(
        "secretive", "http://h/secretive", no_copy=True, group=GROUP
    )
    with pytest.raises(ConflictError, match="secretive") as caught:
        ed.run_flow(made["flow_id"])
    assert caught.value.data_id == made["id"]
    olga.share("data", made["id"])
    with pytest.raises(ConflictError, match="hidden") as caught:
        ed.run_flow(made["flow_id"])
    assert "secretive" not in str(caught.value)
    assert caught.value.data_id is None
    record = ed.get_flow(made["flow_id"], inputs_only=False)
    assert record["contributed_to"] == [{"hidden": True}]
    assert record["function_args"]["kwargs"]["aero"]["output_data"] == {
        "secretive": {"hidden": True}
    }


def test_candidates_name_no_hidden_flow(
    sqlite_app: Aero, olga: Aero, ed: Aero, publisher: Publisher
) -> None:
    its = own(sqlite_app, publisher, "olga", "x", group=GROUP)
    ed.create_source("x", publisher.publish("other.csv", "y"))
    olga.share("flow", its.flow)
    with pytest.raises(AmbiguousError) as caught:
        ed.get_data("x")
    assert its.flow not in json.dumps(caught.value.candidates)
    writers = {c["id"]: c["flow"] for c in caught.value.candidates}
    assert writers[its.data] == "none"
    with pytest.raises(AmbiguousError) as caught:
        sqlite_app.get_data("x")
    assert its.flow in json.dumps(caught.value.candidates)


def test_functions_of_globus_are_known_to_who_names_them(
    sqlite_app: Aero, olga: Aero, ed: Aero
) -> None:
    remote, mine = str(uuid.uuid4()), olga.register_function(copied)
    ask: dict[str, Any] = {"output_data": {"copy": {}}}
    olga.register_flow("cluster", remote, **ask)
    flow = ed.register_flow("cluster", remote, kwargs={"n": 1}, **ask)
    assert (flow["function_id"], flow["function_name"]) == (None, "(hidden)")
    # One with a source is somebody's, and the rest of the answer is as for no function.
    with pytest.raises(NotFoundError, match="There is no function"):
        ed.register_flow("cluster", mine, **ask)


def test_downloads_of_hidden_runs_are_hidden(
    sqlite_app: Aero, olga: Aero, ed: Aero, publisher: Publisher
) -> None:
    assert ed.downloads() == []
    its = own(sqlite_app, publisher, "olga", "x")
    folder = sqlite_app.settings.scratch / f"{its.run}.1" / ".aero" / "download"
    folder.mkdir(parents=True)
    note = {"url": its.url, "received": 1, "expected": 2}
    (folder / "progress.json").write_text(json.dumps(note))
    shown = [{"run_id": its.run, **note}]
    assert (ed.downloads(), olga.downloads()) == ([], shown)
    assert sqlite_app.downloads() == shown
