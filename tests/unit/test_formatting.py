import copy
import functools
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aero.error import (
    CorruptObjectError,
    InvalidTypeError,
    InvalidValueError,
    MissingObjectError,
)
from aero.formatting import (
    aero_format,
    is_wrapped,
    media_type,
    plain,
    stage,
)
from aero.hashing import sha256_file
from aero.storage import local_location, open_storage
from aero.types import AeroOutput


@pytest.fixture
def location(tmp_path):
    return local_location(tmp_path / "store")


@pytest.fixture
def stored(tmp_path, location):
    """Return a function that stores bytes and gives the entry of an input."""

    def put(content: bytes, file_name: str = "data.csv", **more):
        path = tmp_path / "to-store"
        path.write_bytes(content)
        found = open_storage(location).put(path, move=True)
        return {
            "id": "d1",
            "version": 1,
            "uri": found.uri,
            "sha256": found.sha256,
            "size": found.size,
            "file_name": file_name,
            "media_type": "text/csv",
            "encoding": None,
            "storage": location,
            **more,
        }

    return put


@pytest.fixture
def payload(location):
    def make(inputs=None, outputs=("out",), **more):
        return {
            "schema": 1,
            "flow_id": "f",
            "run_id": "r",
            "attempt": 1,
            "task": 0,
            "input_data": inputs or {},
            "output_data": {
                name: {"id": f"id-{name}", "storage": location} for name in outputs
            },
            **more,
        }

    return make


def write(name="out", content=b"result", file_name=None):
    path = Path(file_name or f"{name}.csv")
    path.write_bytes(content)
    return AeroOutput(name, path)


def read_back(entry, tmp_path):
    path = tmp_path / "read-back"
    open_storage(entry["storage"]).get(entry["uri"], path)
    return path.read_bytes()


def private_leftovers():
    return list(Path(os.environ["TMPDIR"]).iterdir())


@pytest.fixture(autouse=True)
def own_temporary_directory(tmp_path, monkeypatch):
    import tempfile

    where = tmp_path / "tmp"
    where.mkdir()
    monkeypatch.setenv("TMPDIR", str(where))
    monkeypatch.setattr(tempfile, "tempdir", None)


# Authoring


def test_a_wrapped_function_is_still_called_by_hand():
    @aero_format
    def double(x, /, *, y=1):
        """Doubles."""
        return 2 * x + y

    assert double(3) == 7
    assert double(3, y=0) == 6
    assert double.__name__ == "double"
    assert double.__doc__ == "Doubles."
    assert double.__wrapped__(1) == 3


def test_wrapping_twice_is_harmless():
    def fn():
        return 1

    once = aero_format(fn)
    assert aero_format(once) is once
    assert is_wrapped(once)
    assert not is_wrapped(fn)
    assert plain(once) is fn
    assert plain(fn) is fn


def test_a_decorator_around_a_wrapped_function_is_not_taken_for_the_wrapper():
    @aero_format
    def fn():
        return 1

    @functools.wraps(fn)
    def outer():
        return fn() + 1

    assert not is_wrapped(outer)
    assert aero_format(outer)() == 2


def test_only_what_can_be_called_can_be_wrapped():
    with pytest.raises(InvalidTypeError, match="int"):
        aero_format(5)


# Files in


def test_inputs_come_as_private_writable_copies_with_their_names(
    stored, payload, tmp_path
):
    seen = {}

    def fn(first, second):
        assert isinstance(first, str)
        seen["names"] = [Path(first).name, Path(second).name]
        seen["bytes"] = [Path(first).read_bytes(), Path(second).read_bytes()]
        seen["inside"] = [
            Path(each).is_relative_to(Path.cwd()) for each in (first, second)
        ]
        seen["listing"] = list(Path.cwd().glob("*.csv"))
        Path(first).write_bytes(b"over")
        return AeroOutput("out", first)

    entry = stored(b"\xff\x00raw")
    before = Path.cwd()
    done = aero_format(fn)(
        aero=payload({"first": entry, "second": stored(b"b", "data.csv")})
    )["aero"]
    assert seen == {
        "names": ["data.csv", "data.csv"],
        "bytes": [b"\xff\x00raw", b"b"],
        "inside": [True, True],
        "listing": [],
    }
    assert read_back(done["output_data"]["out"], tmp_path) == b"over"
    assert read_back(entry, tmp_path) == b"\xff\x00raw"
    assert Path.cwd() == before
    assert private_leftovers() == []


@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("a/b.tar.gz", "b.tar.gz"),
        ("..", "x"),
        ("", "x"),
        (None, "x"),
        ("nul\0.csv", "nul.csv"),
        ("ä" * 150 + ".csv", "ä" * 98 + ".csv"),
        ("." + "e" * 300, "." + "e" * 199),
        ("n." + "e" * 300, "n." + "e" * 198),
    ],
)
def test_a_file_name_stays_inside_the_private_directory(
    stored, payload, tmp_path, file_name, expected
):
    around = tmp_path / "private"
    around.mkdir()
    paths = stage(payload({"x": stored(b"1", file_name)}), around)
    path = Path(paths["x"])
    assert path.name == expected
    assert path.parent.parent == around / ".aero"


def test_the_private_directory_goes_when_the_function_raises(payload):
    @aero_format
    def fn():
        Path("half").write_text("x")
        raise KeyError("mine")

    before = Path.cwd()
    with pytest.raises(KeyError, match="mine"):
        fn(aero=payload())
    assert private_leftovers() == []
    assert Path.cwd() == before


def test_damaged_and_missing_inputs_are_refused(stored, payload, tmp_path):
    @aero_format
    def fn(x):
        return write()

    entry = stored(b"good")
    missing = {**entry, "uri": "sha256:" + "0" * 64}
    with pytest.raises(MissingObjectError):
        fn(aero=payload({"x": missing}))
    (object_file,) = [
        path
        for path in (tmp_path / "store").rglob("*")
        if path.is_file() and path.read_bytes() == b"good"
    ]
    object_file.chmod(0o600)
    object_file.write_bytes(b"evil")
    with pytest.raises(CorruptObjectError):
        fn(aero=payload({"x": entry}))


def test_an_input_without_bytes_says_how_to_take_its_url(stored, payload):
    @aero_format
    def fn(x):
        return write()

    entry = {**stored(b""), "uri": None}
    with pytest.raises(InvalidValueError, match='"fetch": false'):
        fn(aero=payload({"x": entry}))


def test_an_entry_without_a_storage_is_named(stored, payload):
    entry = stored(b"")
    del entry["storage"]
    with pytest.raises(InvalidValueError, match="'x' names no storage"):
        aero_format(lambda x: None)(aero=payload({"x": entry}, ()))


# Urls


def test_urls_are_passed_when_the_signature_names_them(stored, payload):
    seen = {}

    @aero_format
    def fn(x, x_url, x_signed_url, y, **rest):
        seen.update(url=x_url, signed=x_signed_url, rest=rest)
        return write()

    entry = stored(b"1", trigger_url="https://t/x", url="https://u/x", signed_url="s")
    fn(aero=payload({"x": entry, "y": entry}))
    assert seen == {"url": "https://t/x", "signed": "s", "rest": {}}


def test_an_opted_out_input_is_its_url_and_is_not_downloaded(payload):
    seen = {}

    @aero_format
    def fn(x_url, y_signed_url, **rest):
        seen.update(x=x_url, y=y_signed_url, rest=rest)
        return write()

    out = {"fetch": False, "url": "https://u/x", "storage": "nowhere:1"}
    fn(aero=payload({"x": out, "y": {**out, "signed_url": "s"}, "z": out}))
    assert seen == {"x": "https://u/x", "y": "s", "rest": {"z_url": "https://u/x"}}


def test_an_opted_out_input_needs_a_url_and_a_parameter(payload):
    @aero_format
    def fn(x_url=None):
        return write()

    with pytest.raises(ValueError, match=r"'x'.*no url"):
        fn(aero=payload({"x": {"fetch": False}}))
    with pytest.raises(TypeError, match="no parameter for 'y_url'"):
        fn(aero=payload({"y": {"fetch": False, "url": "https://u/y"}}))


# The signature


def test_every_kind_of_parameter_is_filled(stored, payload):
    seen = {}

    @aero_format
    def fn(x, skipped=5, /, *args, n, default="d", **rest):
        seen.update(
            x=Path(x).read_bytes(),
            skipped=skipped,
            args=args,
            n=n,
            default=default,
            rest=rest,
        )
        return write()

    fn(n=1, more=[2], aero=payload({"x": stored(b"1")}))
    assert seen == {
        "x": b"1",
        "skipped": 5,
        "args": (),
        "n": 1,
        "default": "d",
        "rest": {"more": [2]},
    }


def test_a_parameter_that_nothing_fills_is_named_before_the_call(payload):
    @aero_format
    def fn(alpha, beta, gamma=1):
        pytest.fail("called")

    with pytest.raises(TypeError, match="'alpha', 'beta'") as caught:
        fn(aero=payload())
    assert isinstance(caught.value, InvalidTypeError)
    assert caught.value.names == ["alpha", "beta"]


@pytest.mark.parametrize("how", ["kwarg", "input", "download"])
def test_what_the_function_has_no_parameter_for_is_named(stored, payload, how):
    @aero_format
    def fn(args=(), *kwargs):
        pytest.fail("called")

    inputs = {"surplus": stored(b"1")} if how == "input" else {}
    given = payload(inputs)
    if how == "download":
        given["output_data"]["surplus"] = stored(b"1")
    with pytest.raises(TypeError, match="'surplus'"):
        fn(**({"surplus": 1} if how == "kwarg" else {}), aero=given)


def test_one_name_for_two_things_is_refused(stored, payload):
    @aero_format
    def fn(x):
        pytest.fail("called")

    with pytest.raises(TypeError, match="among its kwargs"):
        fn(x=1, aero=payload({"x": stored(b"1")}))
    clash = payload({"x": stored(b"1")})
    clash["output_data"]["x"] = stored(b"2")
    with pytest.raises(TypeError, match="as an input and as a download"):
        fn(aero=clash)


def test_a_payload_travels_with_keywords_only(payload):
    @aero_format
    def fn(x):
        pytest.fail("called")

    with pytest.raises(TypeError, match="positional"):
        fn(1, aero=payload())
    with pytest.raises(TypeError, match="list"):
        fn(aero=[])


# What comes back


def test_outputs_are_stored_and_described(payload, tmp_path):
    @aero_format
    def fn():
        return [write("a", b"x,y\n", "table.csv"), write("b", b"", "model")]

    before = datetime.now(UTC)
    done = fn(aero=payload(outputs=("a", "b")))["aero"]
    entry = done["output_data"]["a"]
    assert entry["id"] == "id-a"
    assert Path(entry["file"]).is_absolute()
    assert entry["file_bn"] == "table.csv"
    assert entry["file_format"] == "csv"
    assert entry["media_type"] == "text/csv"
    assert entry["encoding"] is None
    assert entry["size"] == 4
    assert entry["checksum"] == entry["sha256"]
    assert before <= datetime.fromisoformat(entry["created_at"]) <= datetime.now(UTC)
    assert read_back(entry, tmp_path) == b"x,y\n"
    assert sha256_file(tmp_path / "read-back") == entry["sha256"]
    assert "raw" not in entry
    model = done["output_data"]["b"]
    assert (model["file_format"], model["size"]) == ("", 0)
    assert json.loads(json.dumps(done)) == done


def test_an_output_is_copied_never_moved(payload, tmp_path):
    kept = tmp_path / "kept.csv"
    kept.write_bytes(b"mine")
    aero_format(lambda: AeroOutput("out", str(kept)))(aero=payload())
    assert kept.read_bytes() == b"mine"


def test_a_flow_without_outputs_may_return_none_or_nothing(payload):
    for nothing in (None, []):
        done = aero_format(lambda value=nothing: value)(aero=payload(outputs=()))
        assert done["aero"]["output_data"] == {}


def test_the_raw_facts_of_a_download_are_kept_apart(stored, payload, tmp_path):
    seen = {}

    @aero_format
    def fn(out):
        seen["name"] = Path(out).name
        return write("out", Path(out).read_bytes().upper(), "clean.txt")

    download = stored(b"raw", "never-used")
    facts = {
        "url": "https://s/raw.csv",
        "final_url": "https://s/2/raw.csv",
        "etag": '"1"',
        "last_modified": "Mon",
        "retrieved_at": "2024-01-01T00:00:00+00:00",
        "encoding": "latin-1",
    }
    del download["file_name"]
    given = payload()
    given["output_data"]["out"] = {**download, **facts, "file_bn": "raw.csv"}
    before = copy.deepcopy(given)
    entry = fn(aero=given)["aero"]["output_data"]["out"]
    assert given == before
    assert seen["name"] == "raw.csv"
    assert entry["raw"] == {
        **facts,
        "sha256": download["sha256"],
        "size": 3,
        "uri": download["uri"],
        "media_type": "text/csv",
        "file_name": "raw.csv",
    }
    assert entry["file_bn"] == "clean.txt"
    assert (entry["url"], entry["etag"]) == ("https://s/raw.csv", '"1"')
    assert entry["encoding"] is None
    assert "final_url" not in entry
    assert read_back(entry, tmp_path) == b"RAW"


def test_bytes_handed_through_keep_the_encoding_that_is_known(stored, payload):
    given = payload()
    given["output_data"]["out"] = stored(b"raw", encoding="latin-1")
    done = aero_format(lambda out: AeroOutput("out", out))(aero=given)["aero"]
    assert done["output_data"]["out"]["encoding"] == "latin-1"


def test_an_unchanged_poll_runs_no_function(payload):
    @aero_format
    def fn():
        pytest.fail("called")

    given = payload()
    given["output_data"]["out"].update(url="https://s/x", not_modified=True)
    assert fn(n=1, aero=given) == {"n": 1, "aero": given}


@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        (lambda: None, ValueError, "declared but not returned, 'a', 'b'"),
        (lambda: write("a"), ValueError, "declared but not returned, 'b'"),
        (
            lambda: [write("a"), write("b"), write("c")],
            ValueError,
            "returned but not declared, 'c'",
        ),
        (lambda: [write("a"), write("b"), write("a")], ValueError, "'a' twice"),
        (lambda: "a.csv", TypeError, "returned a str"),
        (lambda: (write("a"), write("b")), TypeError, "returned a tuple"),
        (lambda: [write("a"), None], TypeError, "returned a NoneType"),
        (
            lambda: [write("a"), AeroOutput("b", "not/there.csv")],
            ValueError,
            "not/there.csv, which is no readable file",
        ),
        (
            lambda: [write("a"), AeroOutput("b", ".")],
            ValueError,
            "which is a directory",
        ),
    ],
)
def test_a_broken_contract_is_named_and_stores_nothing(
    payload, tmp_path, returned, error, words
):
    with pytest.raises(error, match=words) as caught:
        aero_format(returned)(aero=payload(outputs=("a", "b")))
    assert isinstance(caught.value, InvalidValueError | InvalidTypeError)
    store = tmp_path / "store"
    assert [each for each in store.rglob("*") if each.is_file()] == []


# Payloads


def test_nothing_that_is_given_is_changed(stored, payload):
    @aero_format
    def fn(x, options):
        options["deep"].append("mine")
        return write()

    given = payload({"x": stored(b"1")})
    options = {"deep": [1]}
    before = copy.deepcopy((given, options))
    done = fn(options=options, aero=given)
    assert (given, options) == before
    assert done["options"] == {"deep": [1]}


def test_an_unknown_schema_is_refused_by_name_of_both(payload):
    with pytest.raises(InvalidValueError, match=r"schema 2 .*schema 1") as caught:
        aero_format(write)(aero=payload(schema=2))
    assert (caught.value.schema, caught.value.understood) == (2, 1)


def test_a_payload_without_schema_is_accepted(payload):
    given = payload()
    del given["schema"]
    del given["input_data"]
    done = aero_format(lambda: write())(aero=given)["aero"]
    assert "schema" not in done
    assert done["output_data"]["out"]["size"] == 6


def test_metrics_are_noted_in_nanoseconds(payload):
    fn = aero_format(lambda: write())
    done = fn(metrics=True, aero=payload())
    step = done["aero"]["metrics"]["function"]
    assert done["metrics"] is True
    assert step["task_end"] - step["task_start"] == step["duration"] > 0
    assert abs(step["task_start"] / 1e9 - datetime.now(UTC).timestamp()) < 60
    assert "metrics" not in fn(metrics=False, aero=payload())["aero"]


def test_metrics_reach_a_function_that_names_them(payload):
    seen = []

    def fn(metrics):
        seen.append(metrics)
        return write()

    aero_format(fn)(metrics=True, aero=payload())
    assert seen == [True]


def test_secrets_are_resolved_for_the_function_alone(payload, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3same")
    seen = []

    @aero_format
    def fn(auth):
        seen.append(auth)
        return write()

    kwargs = {"auth": {"header": [{"$secret": "TOKEN"}]}}
    done = fn(**kwargs, aero=payload())
    assert seen == [{"header": ["s3same"]}]
    assert done["auth"] == kwargs["auth"]
    assert "s3same" not in json.dumps(done)
    monkeypatch.delenv("TOKEN")
    with pytest.raises(ValueError, match="TOKEN"):
        fn(**kwargs, aero=payload())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "text/csv"),
        ("v1.2.json", "application/json"),
        ("a.csv.gz", "application/gzip"),
        ("a.txt.Z", "application/octet-stream"),
        ("data:x.png", "image/png"),
        ("README", "application/octet-stream"),
    ],
)
def test_media_types_follow_the_name(name, expected):
    assert media_type(name) == expected
