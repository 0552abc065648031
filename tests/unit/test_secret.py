import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero import secret
from aero.error import InvalidValueError

plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text().filter(lambda key: key != "$secret"), inner)
    ),
    max_leaves=20,
)


def test_a_reference_is_found_and_resolved_however_deep(monkeypatch):
    monkeypatch.setenv("TOKEN", "s3same")
    monkeypatch.setenv("OTHER", "open")
    kwargs = {
        "auth": {"headers": [{"$secret": "TOKEN"}, ({"$secret": "OTHER"},)]},
        "n": 1,
    }
    assert secret.names(kwargs) == {"TOKEN", "OTHER"}
    assert secret.resolve(kwargs) == {
        "auth": {"headers": ["s3same", ("open",)]},
        "n": 1,
    }
    assert kwargs["auth"]["headers"][0] == {"$secret": "TOKEN"}


@given(plain_json)
def test_what_holds_no_reference_comes_back_equal_as_a_copy(value):
    before = json.dumps(value)
    resolved = secret.resolve(value)
    assert resolved == value
    assert secret.names(value) == set()
    if isinstance(resolved, dict | list):
        assert resolved is not value
        resolved.clear()
    assert json.dumps(value) == before


def test_a_missing_secret_is_named(monkeypatch):
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(InvalidValueError, match="NOT_THERE") as caught:
        secret.resolve({"key": {"$secret": "NOT_THERE"}})
    assert caught.value.secret == "NOT_THERE"


@pytest.mark.parametrize(
    "malformed",
    [{"$secret": 5}, {"$secret": ""}, {"$secret": "A", "default": "b"}],
)
def test_a_malformed_reference_is_refused_with_the_right_form(malformed):
    with pytest.raises(InvalidValueError, match="NAME"):
        secret.resolve([malformed])
    with pytest.raises(InvalidValueError, match="NAME"):
        secret.names({"a": malformed})


def test_masking_hides_the_longest_value_first(monkeypatch):
    monkeypatch.setenv("SHORT", "pass")
    monkeypatch.setenv("LONG", "passphrase")
    assert secret.mask("my passphrase, my pass", ["SHORT", "LONG"]) == "my ***, my ***"


def test_masking_finds_a_value_as_repr_and_json_write_it(monkeypatch):
    monkeypatch.setenv("KEY_FILE", "line one\nline 'two'\té")
    value = "line one\nline 'two'\té"
    for text in (value, repr(value), json.dumps(value)):
        hidden = secret.mask(f"<{text}>", ["KEY_FILE"])
        assert "line" not in hidden
        assert "***" in hidden


def test_masking_leaves_alone_what_has_no_value(monkeypatch):
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("ABSENT", raising=False)
    assert secret.mask("text", ["EMPTY", "ABSENT"]) == "text"


def test_masking_remembers_values_that_left_the_environment(monkeypatch):
    monkeypatch.setenv("TOKEN", "s3same")
    known = secret.values(["TOKEN", "ABSENT"])
    monkeypatch.delenv("TOKEN")
    assert known == {"TOKEN": "s3same"}
    assert secret.mask("s3same", ["TOKEN"], environment=known) == "***"


@given(st.text(st.characters(exclude_characters="*"), min_size=1), st.text(), st.text())
def test_no_masked_text_holds_the_value(value, before, after):
    masked = secret.mask(before + value + after, ["S"], environment={"S": value})
    assert value not in masked
