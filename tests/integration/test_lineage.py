"""Where results come from and what they lead to, through the public API."""

import json

import pytest

from aero.error import InvalidValueError
from aero.hashing import sha256_text
from aero.provenance.tree import tree_lines
from tests.scenarios import (
    analysis,
    both,
    constant,
    length,
    made,
    source,
    upper,
    written,
)


@pytest.fixture
def chain(app, publisher):
    """cases -> upper -> n; cases -> same; the first two of two versions."""
    origin = source(app, publisher.publish("cases.csv", "one"))
    first = analysis(app, upper, {"cases": made(origin)}, ("cases",))
    second = analysis(app, length, {"cases": made(first)})
    same = analysis(app, constant, {"cases": made(origin)})
    for content in ("one", "three"):
        publisher.publish("cases.csv", content)
        app.run_flow(origin["id"])
        app.run_until_idle(10)
    return origin, first, second, same


def names(lineage):
    return {(n["data_id"], n["version"]) for n in lineage.nodes.values()}


def test_up_to_the_source_and_its_bytes(app, publisher, chain):
    origin, first, second, _ = chain
    up = app.lineage(made(second))
    assert names(up) == {(made(f), 2) for f in (origin, first, second)}
    leaf = next(n for n in up.nodes.values() if n["data_id"] == made(origin))
    assert leaf["source"]["url"] == publisher.url("cases.csv")
    assert leaf["source"]["sha256"] == leaf["sha256"] == sha256_text("three")
    root = up.nodes[up.root]
    assert root["function"]["name"] == "length"
    assert root["function"]["sha256"]
    assert root["flow_id"] == second["id"]
    assert app.get_provenance(root["run_id"])["id"] == root["provenance_id"]
    drawn = list(tree_lines(up))
    assert sha256_text("three") in drawn[-1]
    assert publisher.url("cases.csv") in drawn[-2]
    json.dumps(up.record())


def test_a_version_of_the_past(app, chain):
    origin, _, second, _ = chain
    up = app.lineage(f"{made(second)}@1")
    assert (made(origin), 1) in names(up)
    assert {version for _, version in names(up)} == {1}


def test_down_marks_reproductions(app, chain):
    origin, first, second, same = chain
    down = app.lineage(f"{made(origin)}@2", "down")
    assert names(down) == {
        *((made(f), 2) for f in (origin, first, second)),
        (made(same), 1),
    }
    [(child, parent)] = down.reproductions
    assert down.nodes[child]["data_id"] == made(same)
    assert parent == down.root
    record = down.record()
    assert record["reproductions"] == [{"child": child, "parent": parent}]
    down = app.lineage(f"{made(origin)}@1", "down")
    assert names(down) >= {(made(same), 1)}
    assert down.reproductions == []


def test_a_reproduction_is_no_ancestor(app, chain):
    origin, *_, same = chain
    assert names(app.lineage(made(same))) == {(made(same), 1), (made(origin), 1)}


def test_depth(app, chain):
    origin, _first, second, _ = chain
    sizes = [len(app.lineage(made(second), depth=d).nodes) for d in (0, 1, 2, 3)]
    assert sizes == [1, 2, 3, 3]
    sizes = [len(app.lineage(made(origin), "down", d).nodes) for d in (0, 1, 2)]
    assert sizes == [1, 3, 4]


def test_a_direction_that_there_is_not(app, chain):
    with pytest.raises(InvalidValueError, match="'up' or 'down'"):
        app.lineage(made(chain[0]), "sideways")


def test_a_diamond_is_drawn_once(app, chain):
    origin, first, _second, _same = chain
    flow = analysis(app, both, {"a": made(first), "b": made(origin)}, ("joined",))
    app.run_until_idle(10)
    up = app.lineage(made(flow))
    assert len(up.nodes) == 3
    assert len(up.edges) == 3
    assert sum("(above)" in line for line in tree_lines(up)) == 1


def test_everything_a_download_led_to_knows_its_source(app, publisher, tmp_path):
    function = written(
        tmp_path,
        "splits",
        """
        from pathlib import Path
        Path("s").write_text("summary")
        return [AeroOutput("raw", raw), AeroOutput("summary", "s")]
        """,
        "raw",
    )
    url = publisher.publish("raw.csv", "raw")
    flow = app.register_flow(
        "local",
        app.register_function(function),
        {},
        {"raw": {"url": url}, "summary": {}},
    )
    assert app.run_flow(flow["id"])["status"] == "SUCCEEDED"
    for name in ("raw", "summary"):
        up = app.lineage(name)
        source = up.nodes[up.root]["source"]
        assert (source["url"], source["sha256"]) == (url, sha256_text("raw"))
        assert sha256_text("raw") in "\n".join(tree_lines(up))


def test_the_impact_of_a_version_that_many_reproduced(app, publisher, tmp_path):
    origin = source(app, publisher.publish("cases.csv", "one"))
    app.run_flow(origin["id"])
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps([{"factor": n} for n in range(40)]))
    flow = analysis(app, length, {"cases": made(origin)}, config=path, policy="NONE")
    for _ in range(2):
        app.run_flow(flow["id"])
    down = app.lineage(made(origin), "down")
    assert len(down.nodes) == 41
    assert len(down.reproductions) == 40
