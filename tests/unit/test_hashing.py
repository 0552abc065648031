import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.hashing import (
    KEY_LIMIT,
    bounded_key,
    canonical,
    fingerprint,
    sha256_file,
    sha256_text,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.binary(max_size=4096))
def test_a_file_hashes_to_what_its_bytes_do(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("hash") / "file"
    path.write_bytes(content)
    assert sha256_file(path) == hashlib.sha256(content).hexdigest()


@given(TEXTS)
def test_text_is_hashed_in_utf_8(text):
    assert sha256_text(text) == hashlib.sha256(text.encode()).hexdigest()


@given(JSON)
def test_canonical_json_round_trips_and_is_stable(value):
    text = canonical(value)
    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text


@given(st.dictionaries(TEXTS, JSON, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_matter(value, random):
    keys = list(value)
    random.shuffle(keys)
    assert canonical({key: value[key] for key in keys}) == canonical(value)


@given(JSON, JSON)
def test_different_values_have_different_texts(one, other):
    # 1 and True and 1.0 are equal in Python, and not the same JSON.
    if json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True):
        assert canonical(one) != canonical(other)
        assert fingerprint(a=one) != fingerprint(a=other)


def test_canonical_json_is_compact_and_not_escaped():
    assert canonical({"b": [1, 2], "ä": None}) == '{"b":[1,2],"ä":null}'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical([value])


@pytest.mark.parametrize("value", [{1}, b"x", object()])
def test_what_json_has_no_word_for_is_refused(value):
    with pytest.raises(TypeError):
        canonical({"a": value})


def test_a_fingerprint_knows_its_parts_by_name():
    assert fingerprint(a=1, b=2) == fingerprint(b=2, a=1)
    assert fingerprint(a=1, b=2) != fingerprint(a=2, b=1)
    assert len(fingerprint()) == 64


@given(TEXTS)
def test_a_short_key_is_itself(text):
    if len(text.encode()) <= KEY_LIMIT:
        assert bounded_key(text) == text


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=60, max_size=400))
def test_a_key_is_never_over_the_limit_and_ends_in_its_hash(text):
    key = bounded_key(text)
    assert len(key.encode()) <= KEY_LIMIT
    if key != text:
        assert key.endswith(f":{sha256_text(text)}")
        assert text.startswith(key[:-65])
    assert bounded_key(key) == key


@given(
    st.text(min_size=190, max_size=260, alphabet="aä€😀"),
    st.text(min_size=190, max_size=260, alphabet="aä€😀"),
)
def test_different_keys_stay_different(one, other):
    assert (one == other) == (bounded_key(one) == bounded_key(other))


@pytest.mark.parametrize("length", [KEY_LIMIT - 1, KEY_LIMIT, KEY_LIMIT + 1])
def test_the_limit_is_in_bytes(length):
    key = bounded_key("x" * length)
    assert (key == "x" * length) == (length <= KEY_LIMIT)
    assert bounded_key("ä" * 101) != "ä" * 101
