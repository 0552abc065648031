import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aero.error import StorageError
from aero.sources.sink import INLINE, Sink

piece_lists = st.lists(st.integers(0, INLINE), max_size=6)


@given(before=piece_lists, after=piece_lists)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=40,
)
def test_the_hash_is_that_of_the_file(
    tmp_path: Path, before: list[int], after: list[int]
) -> None:
    path = tmp_path / "data"
    whole = b""
    with Sink(path) as sink:
        for length in before:
            sink.write(os.urandom(length))
        sink.restart()
        for length in after:
            piece = os.urandom(length)
            sink.write(piece)
            whole += piece
        assert not list(tmp_path.glob("data"))
        digest = sink.finish()
    assert sink.size == len(whole)
    assert path.read_bytes() == whole
    assert digest == hashlib.sha256(whole).hexdigest()
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()


def test_without_bytes_the_disk_is_left_alone(tmp_path: Path) -> None:
    with Sink(tmp_path / "data"):
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"old")
    sink = Sink(path)
    sink.write(bytes(3 * INLINE))
    with pytest.raises(ZeroDivisionError), sink:
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = (tmp_path / "temporary").open("wb")
    with Path("/dev/full").open("wb") as device:
        os.dup2(device.fileno(), full.fileno())
    monkeypatch.setattr("tempfile.NamedTemporaryFile", lambda **_: full)
    with pytest.raises(StorageError, match="make room"), Sink(tmp_path / "data") as s:
        s.write(bytes(INLINE))
    assert full.closed
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_replaced_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(StorageError), Sink(tmp_path / "data") as sink:
        sink.finish()
    assert [found.name for found in tmp_path.iterdir()] == ["data"]
