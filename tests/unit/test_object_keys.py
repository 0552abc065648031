"""Object keys, globs and which of several patterns wins."""

import time

import pytest

from aero.error import InvalidValueError
from aero.object_keys import (
    best,
    is_exact,
    literal_prefix,
    matches,
    normal_key,
    object_key,
    object_url,
    pattern_key,
    place,
)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://example.org/data/a.csv", "data/a.csv"),
        ("http://example.org:8080//data/a.csv/?token=x/y#top", "data/a.csv"),
        ("https://user@example.org/a%20b/%C3%A9.csv", "a b/é.csv"),
        ("https://example.org/100%25.csv", "100%.csv"),
        ("https://example.org/a%2Fb", "a/b"),
        ("https://example.org", ""),
        ("https://example.org?q=/a", ""),
        ("s3://bucket/year=2024/x.csv", "year=2024/x.csv"),
        ("file:///srv/a.csv", "srv/a.csv"),
        ("file:/srv/a.csv", "srv/a.csv"),
        ("https://[::1]:9000/a", "a"),
        ("data/a.csv", "data/a.csv"),
        ("https://example.org/a+b", "a+b"),
    ],
)
def test_the_key_is_the_decoded_path(url: str, key: str) -> None:
    assert object_key(url) == key


def test_bytes_that_are_no_utf8_stay_apart() -> None:
    assert object_key("https://h/%ff") != object_key("https://h/%fe")


def test_a_nul_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="NUL"):
        object_key("https://h/a%00b")
    with pytest.raises(InvalidValueError, match="NUL"):
        normal_key("a\0b")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://h/data/*.csv", "data/*.csv"),
        ("https://h/a?.csv", "a?.csv"),
        ("https://h/a?.csv?token=1", "a?.csv"),
        ("https://h/download?id=3", "download"),
        ("https://h/a?b/c=d", "a?b/c=d"),
        ("https://h/a%2Ab", "a[*]b"),
        ("https://h/a%3fb%5Bc", "a[?]b[[]c"),
        ("https://h/a%252Ab", "a%2Ab"),
        ("https://h/a#top", "a"),
    ],
)
def test_a_registered_url_keeps_its_globs(url: str, key: str) -> None:
    assert pattern_key(url) == key


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a/*.csv", ["a/x.csv", "a/.csv"], ["a/b/x.csv", "b/a/x.csv", "a/x.csvx"]),
        ("a/**", ["a/x", "a/b/c", "a/"], ["a", "ab/x"]),
        ("a/**.csv", ["a/x.csv", "a/b/x.csv"], ["a/x.txt"]),
        ("a/**/x", ["a/x", "a/b/x", "a/b/c/x"], ["ax", "a/bx", "a/b/xx"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["ax", "x/a"]),
        ("a?c", ["abc", "a?c"], ["a/c", "ac", "abbc"]),
        ("a[bc]d", ["abd", "acd"], ["add", "a[bc]d"]),
        ("a[b-d]e", ["abe", "ace", "ade"], ["aae", "a-e"]),
        ("a[!bc]d", ["aad", "a!d"], ["abd", "a/d", "ad"]),
        ("a[^bc]d", ["aad", "a^d"], ["abd", "a/d"]),
        ("a[]]b", ["a]b"], ["ab"]),
        ("a[!]]b", ["axb"], ["a]b"]),
        ("a[b-]c", ["abc", "a-c"], ["acc"]),
        ("a[+-9]b", ["a,b", "a0b"], ["a/b"]),
        ("a[b", ["a[b"], ["ab"]),
        ("a[b/c]d", ["a[b/c]d"], ["abd"]),
        ("a[]", ["a[]"], ["a"]),
        ("a[z-b]c", [], ["abc", "azc", "a-c"]),
        ("a[!z-b]c", ["abc", "azc"], ["a/c"]),
        ("x.y", ["x.y"], ["xzy"]),
        ("*", ["", "a\nb"], ["a/b"]),
        ("****", ["a/b"], []),
        ("", [""], ["a"]),
    ],
)
def test_what_a_glob_matches(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [key for key in yes if not matches(pattern, key)] == []
    assert [key for key in no if matches(pattern, key)] == []


@pytest.mark.parametrize(
    ("pattern", "prefix", "exact"),
    [
        ("a/b.csv", "a/b.csv", True),
        ("a[*]b", "a*b", True),
        ("a/*.csv", "a/", False),
        ("a[bc]", "a", False),
        ("[!a]b", "", False),
        ("a[b", "a[b", True),
    ],
)
def test_literal_prefix(pattern: str, prefix: str, exact: bool) -> None:
    assert literal_prefix(pattern) == prefix
    assert is_exact(pattern) is exact


@pytest.mark.parametrize(
    ("patterns", "winners"),
    [
        (["data/**", "data/2024/x.csv", "data/2024/*.csv"], ["data/2024/x.csv"]),
        (["data/**", "data/2024/*.csv"], ["data/2024/*.csv"]),
        (["data/**", "data/**/*.csv"], ["data/**/*.csv"]),
        (["data/202?/x.csv", "data/202[4]/*"], ["data/202[4]/*"]),
        (["data/2*4/x.csv", "data/2?24/*.csv"], ["data/2?24/*.csv"]),
        (["data/*/x.csv", "data/?*/x.cs"], ["data/*/x.csv"]),
        (["data/2*/x.csv", "data/2*/?.csv"], ["data/2*/x.csv", "data/2*/?.csv"]),
        (["data/2*/x.csv", "data/2*/x.csv"], ["data/2*/x.csv"]),
        (["data/2024/x.csv", "data/2024/[x].csv"],) * 2,
        (["other/*"], []),
        ([], []),
    ],
)
def test_which_pattern_wins(patterns: list[str], winners: list[str]) -> None:
    assert best(patterns, "data/2024/x.csv") == winners


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 40 + "b", "**a" * 40 + "b", "**/*a*a" * 12 + "b", "**a*a" * 20 + "/**b"],
)
@pytest.mark.parametrize("key", ["a" * 1500, "a/" * 750, "aa/a" * 375])
def test_no_pattern_takes_long(pattern: str, key: str) -> None:
    began = time.process_time()
    assert not matches(pattern, key)
    assert time.process_time() - began < 1.0


def test_the_url_of_a_key_is_where_the_pattern_is() -> None:
    found = object_url("https://h:8080/data/*.csv", "data/a b#%.csv")
    assert found == "https://h:8080/data/a%20b%23%25.csv"
    assert place("data/a.csv") == ""
