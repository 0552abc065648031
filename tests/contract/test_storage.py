"""What every storage adapter promises (aero.storage.base.Storage)."""

import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aero.error import (
    CorruptObjectError,
    InvalidValueError,
    MissingObjectError,
    StorageError,
)
from aero.storage import LocalStorage, MemoryStorage, Storage

CONTENT = b"2024-01-01,3\r\n\xff\x00"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ABSENT = "sha256:" + "0" * 64


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(tmp_path / "store")
    return MemoryStorage()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.csv"
    path.write_bytes(CONTENT)
    return path


def test_every_adapter_is_a_storage(storage: Storage) -> None:
    assert isinstance(storage, Storage)


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.binary(max_size=5000))
def test_put_get_round_trip(storage: Storage, tmp_path: Path, content: bytes) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(content)
    stored = storage.put(source)
    assert stored == storage.put(source)
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert stored.uri == f"sha256:{stored.sha256}"
    assert stored.size == len(content) == storage.size(stored.uri)
    storage.get(stored.uri, target)
    assert target.read_bytes() == content == source.read_bytes()
    with storage.open(stored.uri) as stream:
        assert stream.read() == content
    assert [entry.uri for entry in storage.objects()].count(stored.uri) == 1


def test_more_than_one_chunk(storage: Storage, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 2 + b"tail"
    (tmp_path / "in").write_bytes(content)
    stored = storage.put(tmp_path / "in")
    storage.get(stored.uri, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content


def test_a_known_sha256_is_believed(storage: Storage, source: Path) -> None:
    assert storage.put(source, sha256=SHA256).uri == f"sha256:{SHA256}"
    assert source.exists()


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_move_gives_the_file_up(
    storage: Storage, source: Path, tmp_path: Path, sha256: str | None
) -> None:
    stored = storage.put(source, sha256=sha256, move=True)
    assert not source.exists()
    storage.get(stored.uri, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_move_of_what_is_stored_already(storage: Storage, source: Path) -> None:
    first = storage.put(source)
    assert storage.put(source, sha256=SHA256, move=True) == first
    assert not source.exists()


def test_get_gives_a_private_writable_copy(
    storage: Storage, source: Path, tmp_path: Path
) -> None:
    uri = storage.put(source).uri
    target = tmp_path / "out"
    target.write_bytes(b"replaced")
    storage.get(uri, target)
    info = target.lstat()
    assert stat.S_IMODE(info.st_mode) == 0o600
    assert stat.S_ISREG(info.st_mode)
    assert info.st_nlink == 1
    target.write_bytes(b"mine")
    storage.get(uri, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == CONTENT


def test_missing_object(storage: Storage, tmp_path: Path) -> None:
    assert not storage.exists(ABSENT)
    for ask in (storage.open, storage.size, lambda uri: storage.get(uri, tmp_path)):
        with pytest.raises(MissingObjectError) as raised:
            ask(ABSENT)
        assert raised.value.uri == ABSENT
    assert list(storage.objects()) == list(storage.trashed()) == []


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "sha256:",
        "sha256:../../etc/passwd",
        "sha256:" + "A" * 64,
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 64 + "\n",
        "0" * 64,
        "md5:" + "0" * 64,
        "sha256:sha256:" + "0" * 64,
    ],
)
def test_malformed_address(storage: Storage, uri: str, tmp_path: Path) -> None:
    for ask in (
        storage.open,
        storage.exists,
        storage.size,
        storage.delete,
        storage.trash,
        storage.restore,
        lambda uri: storage.get(uri, tmp_path / "out"),
    ):
        with pytest.raises(InvalidValueError):
            ask(uri)


def test_malformed_sha256(storage: Storage, source: Path) -> None:
    with pytest.raises(InvalidValueError):
        storage.put(source, sha256="../../x", move=True)
    assert source.exists()


def test_wrong_bytes_are_never_handed_out(
    storage: Storage, source: Path, tmp_path: Path
) -> None:
    uri = storage.put(source, sha256="1" * 64).uri
    with pytest.raises(CorruptObjectError, match=uri) as raised:
        storage.get(uri, tmp_path / "out")
    assert raised.value.uri == uri
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [source.name]


def test_put_replaces_a_damaged_object(
    storage: Storage, source: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(CONTENT[::-1])
    uri = storage.put(damaged, sha256=SHA256).uri
    storage.put(source)
    storage.get(uri, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_unreadable_sources(storage: Storage, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "pipe"):
        for sha256 in (None, SHA256):
            with pytest.raises(StorageError, match="failed"):
                storage.put(path, sha256=sha256, move=True)
    assert list(storage.objects()) == []


def test_get_into_a_folder_that_is_not_there(
    storage: Storage, source: Path, tmp_path: Path
) -> None:
    uri = storage.put(source).uri
    with pytest.raises(StorageError, match="No such file"):
        storage.get(uri, tmp_path / "absent" / "out")


def test_listing_says_size_and_time(storage: Storage, source: Path) -> None:
    stored = storage.put(source)
    (entry,) = storage.objects()
    assert (entry.uri, entry.size) == (stored.uri, len(CONTENT))
    assert entry.mtime.tzinfo is UTC
    assert abs(datetime.now(UTC) - entry.mtime) < timedelta(minutes=1)


def test_trash_is_still_readable_until_emptied(
    storage: Storage, source: Path, tmp_path: Path
) -> None:
    uri = storage.put(source).uri
    (before,) = storage.objects()
    storage.trash(uri)
    assert list(storage.objects()) == []
    assert list(storage.trashed()) == [before]
    assert storage.exists(uri)
    assert storage.size(uri) == len(CONTENT)
    storage.get(uri, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert storage.empty_trash() == len(CONTENT)
    assert not storage.exists(uri)
    assert storage.empty_trash() == 0


def test_restore_brings_back(storage: Storage, source: Path) -> None:
    uri = storage.put(source).uri
    storage.trash(uri)
    storage.restore(uri)
    assert [entry.uri for entry in storage.objects()] == [uri]
    assert list(storage.trashed()) == []


def test_restore_touches_what_is_not_in_the_trash(
    storage: Storage, source: Path
) -> None:
    uri = storage.put(source).uri
    [before] = storage.objects()
    # A file system's clock may tick in hundredths of a second.
    while datetime.now(UTC) < before.mtime + timedelta(milliseconds=20):
        pass
    storage.restore(uri)
    [after] = storage.objects()
    assert after.mtime > before.mtime
    storage.get(uri, source.with_name("again"))


def test_put_after_trash_stores_anew(storage: Storage, source: Path) -> None:
    uri = storage.put(source).uri
    storage.trash(uri)
    storage.put(source)
    assert [entry.uri for entry in storage.objects()] == [uri]
    storage.restore(uri)
    assert list(storage.trashed()) == []
    assert storage.exists(uri)


def test_empty_trash_spares_what_was_touched_since(
    storage: Storage, source: Path
) -> None:
    uri = storage.put(source).uri
    storage.trash(uri)
    moment = datetime.now(UTC)
    assert storage.empty_trash(untouched_since=moment - timedelta(hours=1)) == 0
    assert storage.exists(uri)
    later = moment + timedelta(hours=1)
    assert storage.empty_trash(untouched_since=later) == len(CONTENT)


def test_trash_restore_and_delete_are_idempotent(
    storage: Storage, source: Path
) -> None:
    for _ in range(2):
        storage.trash(ABSENT)
        storage.restore(ABSENT)
        storage.delete(ABSENT)
    uri = storage.put(source).uri
    storage.trash(uri)
    storage.trash(uri)
    storage.delete(uri)
    assert not storage.exists(uri)


def test_clean_temp_leaves_objects_alone(storage: Storage, source: Path) -> None:
    uri = storage.put(source).uri
    assert storage.clean_temp(datetime.now(UTC) + timedelta(days=1)) == 0
    assert storage.exists(uri)
