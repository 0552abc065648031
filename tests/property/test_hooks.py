"""Whatever a webhook brings is read or refused; only its sender's signature opens."""

import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero import hooks
from aero.error import InvalidValueError, UnauthorizedError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)
NAMES = st.sampled_from(
    ["eventName", "s3", "object", "bucket", "key", "name", "eTag", "size", "sequencer"]
)
RECORDS = st.recursive(
    st.none() | st.integers() | TEXT | st.just("ObjectCreated:Put"),
    lambda inner: st.dictionaries(NAMES, inner) | st.lists(inner),
    max_leaves=20,
)
SECRETS = st.from_regex(r"[!-~]{16,40}", fullmatch=True)


def record(key: str, **more: Any) -> dict[str, Any]:
    about = {"key": key, "size": 3, "eTag": "e", "sequencer": "1", **more}
    return {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "bucket"}, "object": about},
    }


def body(*records: Any) -> bytes:
    return json.dumps({"Records": records}).encode()


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_read_or_refused(sent: bytes) -> None:
    for read in (hooks.bucket_events, lambda found: hooks.signed_events(found, "s")):
        try:
            events = read(sent)
        except InvalidValueError:
            continue
        assert all((told.notice is None) is bool(told.note) for told in events)


@given(st.lists(RECORDS, max_size=5))
def test_a_record_that_cannot_be_read_keeps_no_other_from_counting(
    records: list[Any],
) -> None:
    *others, last = hooks.bucket_events(body(*records, record("good")))
    assert len(others) == len(records)
    assert last.notice is not None
    assert (last.notice.bucket, last.notice.key) == ("bucket", "good")


@given(KEYS, st.sampled_from([quote_plus, quote]))
def test_a_key_is_read_as_it_was_written(key: str, encoded: Any) -> None:
    [told] = hooks.bucket_events(body(record(encoded(key))))
    assert told.notice is not None
    assert told.notice.key == key
    assert told.notice.object_key == f"bucket/{key}".strip("/")


@given(KEYS, st.text("0123456789ABCDEF", min_size=1), st.text("abcdef", min_size=1))
def test_an_event_has_one_name_and_another_one_another(
    key: str, sequencer: str, etag: str
) -> None:
    def name(mark: str, tag: str) -> str:
        found = record(quote_plus(key), sequencer=mark, eTag=tag)
        [told] = hooks.bucket_events(body(found))
        assert told.notice is not None
        return told.notice.delivery_id

    assert name(sequencer, etag) == name(sequencer, etag)
    assert name(sequencer + "0", etag) != name(sequencer, etag)
    assert name(sequencer, etag + "a") != name(sequencer, etag)


def verified(secret: str, sent: bytes, **changed: Any) -> str:
    found = {"timestamp": "1700000000", "body": sent, "now": 1_700_000_000.0}
    signature = hooks.sign(secret, found["timestamp"], sent)
    return hooks.verify(
        **({"secret": secret, "signature": signature} | found | changed)
    )


@given(SECRETS, st.binary(), st.integers(-hooks.WINDOW, hooks.WINDOW))
def test_what_its_sender_signed_is_taken_within_the_window(
    secret: str, sent: bytes, late: int
) -> None:
    assert verified(secret, sent, now=1_700_000_000.0 + late).startswith("sha256=")


@given(SECRETS, SECRETS, st.binary(), st.binary(min_size=1))
def test_nothing_else_is(secret: str, other: str, sent: bytes, more: bytes) -> None:
    signature = hooks.sign(secret, "1700000000", sent)
    forged: list[dict[str, Any]] = [
        {"body": sent + more},
        {"timestamp": "1700000001"},
        {"timestamp": None},
        {"timestamp": "soon"},
        {"timestamp": chr(0x661) * 10},
        {"signature": None},
        {"signature": ""},
        {"signature": signature.removeprefix("sha256=")},
        {"signature": signature.upper()},
        {"signature": signature[:-1] + ("0" if signature[-1] != "0" else "1")},
        {"now": 1_700_000_000.0 + hooks.WINDOW + 1},
        {"now": 1_700_000_000.0 - hooks.WINDOW - 1},
    ]
    if other != secret:
        forged.append({"signature": hooks.sign(other, "1700000000", sent)})
    for changed in forged:
        with pytest.raises(UnauthorizedError):
            verified(secret, sent, **changed)


@given(SECRETS, TEXT)
def test_only_the_secret_is_a_bearer_token(secret: str, other: str) -> None:
    hooks.authorise(secret, f"Bearer {secret}")
    hooks.authorise(None, None)
    for given_ in (None, "", secret, f"Basic {secret}", f"Bearer {secret}x", other):
        with pytest.raises(UnauthorizedError):
            hooks.authorise(secret, given_)
