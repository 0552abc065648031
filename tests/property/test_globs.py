"""Globs against a naive recursive matcher that shares nothing with what it judges."""

from functools import cache
from urllib.parse import quote

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aero.object_keys import (
    best,
    is_exact,
    literal_prefix,
    matches,
    object_key,
    object_url,
    pattern_key,
)

ALPHABET = "ab/"
keys = st.text(ALPHABET, max_size=12)
globs = st.lists(
    st.sampled_from(
        ["a", "b", "/", "*", "**", "**/", "/**/", "?", "[a]", "[!a]", "[^a]", "[a-b]"]
    ),
    max_size=8,
).map("".join)


def naive(pattern: str, key: str) -> bool:
    """Try every way in which the pattern could match."""

    @cache
    def at(i: int, j: int) -> bool:
        if i == len(pattern):
            return j == len(key)
        if pattern[i] == "*":
            return stars(i, j)
        if j == len(key):
            return False
        end = pattern.index("]", i) if pattern[i] == "[" else i
        return one(pattern[i : end + 1], key[j]) and at(end + 1, j + 1)

    def stars(i: int, j: int) -> bool:
        end = i
        while end < len(pattern) and pattern[end] == "*":
            end += 1
        rest = range(j, len(key) + 1)
        if end - i == 1:
            return any(at(end, k) for k in rest if "/" not in key[j:k])
        opens = i == 0 or pattern[i - 1] == "/"
        if opens and pattern[end : end + 1] == "/":
            return any(at(end + 1, k) for k in rest if k == j or key[k - 1] == "/")
        return any(at(end, k) for k in rest)

    return at(0, 0)


def one(part: str, character: str) -> bool:
    if part == "?":
        return character != "/"
    if part[0] != "[":
        return part == character
    body = part[1:-1]
    negated = body[0] in "!^"
    members = {"a": "a", "a-b": "ab"}[body.lstrip("!^")]
    return character != "/" and (character in members) != negated


@settings(max_examples=500)
@given(globs, keys)
@example("**a*b", "a/ab")
@example("**/a", "a")
@example("a/**/b", "a/b")
@example("a**/b", "a/b")
@example("**/**/b", "b")
@example("*b**a*b*", "bab/aab")
def test_a_glob_matches_what_the_naive_matcher_says(pattern: str, key: str) -> None:
    assert matches(pattern, key) == naive(pattern, key)


@given(globs, keys)
def test_every_match_begins_with_the_literal_prefix(pattern: str, key: str) -> None:
    if naive(pattern, key):
        assert key.startswith(literal_prefix(pattern))
        assert not is_exact(pattern) or key == literal_prefix(pattern)


@given(st.lists(globs, max_size=6), keys)
def test_no_pattern_beats_a_best_one(patterns: list[str], key: str) -> None:
    found = best(patterns, key)
    assert bool(found) == any(naive(p, key) for p in patterns)
    ranks = {(is_exact(p), len(literal_prefix(p)), len(p)) for p in found}
    for pattern in set(patterns) - set(found):
        assert not naive(pattern, key) or not is_exact(pattern)
        if naive(pattern, key) and not any(is_exact(p) for p in found):
            own = (False, len(literal_prefix(pattern)), len(pattern))
            assert all(own < rank for rank in ranks)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_key_survives_its_url(key: str) -> None:
    key = key.strip("/")
    assert object_key(object_url("https://example.org:8080/x", key)) == key


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_an_encoded_url_is_a_pattern_that_matches_itself_only(key: str) -> None:
    url = "https://example.org/" + quote(key.strip("/"), safe="/")
    assert is_exact(pattern_key(url))
    assert matches(pattern_key(url), object_key(url))
