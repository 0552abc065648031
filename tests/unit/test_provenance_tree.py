from itertools import pairwise

from aero.provenance.graph import Lineage
from aero.provenance.tree import tree_lines

RAW = "f" * 64


def node(name, *, source=None, function="f", sha256="a" * 64):
    return {
        "name": name,
        "version": 3,
        "sha256": sha256,
        "function": function and {"name": function},
        "sources": [{"url": url, "sha256": RAW} for url in source or []],
    }


def test_every_path_ends_in_its_url_and_the_full_hash_of_what_came():
    lineage = Lineage(
        root="c",
        direction="up",
        nodes={
            "c": node("figure"),
            "a": node("left", source=["http://x/left.csv"]),
            "b": node("right", source=["http://x/right.csv"], function=None),
        },
        edges=[("c", "a"), ("c", "b")],
    )
    assert list(tree_lines(lineage)) == [
        "figure@3  sha256 aaaaaaaaaaaa  by f",
        "├── left@3  sha256 aaaaaaaaaaaa  by f",
        "│   └── http://x/left.csv",
        f"│       sha256 {RAW}",
        "└── right@3  sha256 aaaaaaaaaaaa",
        "    └── http://x/right.csv",
        f"        sha256 {RAW}",
    ]


def test_what_two_paths_lead_to_is_drawn_in_full_once():
    lineage = Lineage(
        root="d",
        direction="up",
        nodes={name: node(name, function=None, sha256=None) for name in "abcd"},
        edges=[("d", "b"), ("d", "c"), ("b", "a"), ("c", "a")],
    )
    assert list(tree_lines(lineage)) == [
        "d@3",
        "├── b@3",
        "│   └── a@3",
        "└── c@3",
        "    └── a@3 (above)",
    ]


def test_an_ingestion_with_inputs_shows_both():
    lineage = Lineage(
        root="b",
        direction="up",
        nodes={"b": node("b", source=["http://x/b"]), "a": node("a", function=None)},
        edges=[("b", "a")],
    )
    assert list(tree_lines(lineage))[1:] == [
        "├── http://x/b",
        f"│   sha256 {RAW}",
        "└── a@3  sha256 aaaaaaaaaaaa",
    ]


def test_every_source_of_a_run_is_drawn():
    nodes = {"a": node("a", source=["http://x/a", "http://x/b"])}
    lineage = Lineage(root="a", direction="up", nodes=nodes, edges=[])
    assert list(tree_lines(lineage))[1:] == [
        "├── http://x/a",
        f"│   sha256 {RAW}",
        "└── http://x/b",
        f"    sha256 {RAW}",
    ]


def test_downwards_sources_are_left_out():
    lineage = Lineage(
        root="a",
        direction="down",
        nodes={"a": node("a", source=["http://x/a"]), "b": node("b")},
        edges=[("b", "a")],
    )
    lines = list(tree_lines(lineage))
    assert len(lines) == 2
    assert lines[1].startswith("└── b@3")


def test_what_lies_beyond_the_depth_is_not_drawn():
    lineage = Lineage(
        root="b", direction="up", nodes={"b": node("b")}, edges=[("b", "a")]
    )
    assert len(list(tree_lines(lineage))) == 1


def test_a_chain_may_be_longer_than_the_stack():
    names = [str(number) for number in range(5000)]
    lineage = Lineage(
        root=names[0],
        direction="up",
        nodes={name: node(name) for name in names},
        edges=list(pairwise(names)),
    )
    assert len(list(tree_lines(lineage))) == 5000


def test_downwards_a_reproduction_is_marked():
    lineage = Lineage(
        root="a",
        direction="down",
        nodes={name: node(name) for name in "abc"},
        edges=[("b", "a")],
        reproductions=[("c", "a")],
    )
    assert [line[-12:] for line in tree_lines(lineage)][1:] == [
        "aaaaaa  by f",
        "(reproduced)",
    ]
