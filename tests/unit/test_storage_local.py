"""What is the local store's own: files, modes, crashes, threads, locations."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.error import CorruptObjectError, InvalidValueError, StorageError
from aero.storage import (
    LocalStorage,
    MemoryStorage,
    local_location,
    open_storage,
)

CONTENT = b"date,cases\n1849-01-01,3\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "data" / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.csv"
    path.write_bytes(CONTENT)
    return path


def files(storage: LocalStorage) -> list[Path]:
    return [path for path in storage.root.rglob("*") if path.is_file()]


def object_path(storage: LocalStorage, sha256: str = SHA256) -> Path:
    return storage.root / "objects" / sha256[:2] / sha256


def age(path: Path, by: timedelta) -> None:
    moment = (datetime.now(UTC) - by).timestamp()
    os.utime(path, (moment, moment))


def failing(
    error: OSError, real: Callable[..., object], *, after: int = 0
) -> Callable[..., object]:
    calls = iter(range(1000))

    def call(*args: object, **kwargs: object) -> object:
        if next(calls) >= after:
            raise error
        return real(*args, **kwargs)

    return call


def test_nothing_is_created_before_the_first_put(storage: LocalStorage) -> None:
    assert not storage.exists("sha256:" + SHA256)
    assert list(storage.objects()) == []
    assert storage.empty_trash() == 0
    assert storage.clean_temp(datetime.now(UTC)) == 0
    assert not storage.root.parent.exists()


@pytest.mark.parametrize("move", [False, True])
def test_files_are_read_only_and_folders_private(
    storage: LocalStorage, source: Path, move: bool
) -> None:
    storage.put(source, sha256=SHA256, move=move)
    assert files(storage) == [object_path(storage)]
    assert stat.S_IMODE(object_path(storage).stat().st_mode) == 0o444
    folders = [storage.root, *(p for p in storage.root.rglob("*") if p.is_dir())]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def test_a_known_file_is_renamed_not_copied(
    storage: LocalStorage, source: Path
) -> None:
    inode = source.stat().st_ino
    storage.put(source, sha256=SHA256, move=True)
    assert object_path(storage).stat().st_ino == inode


def test_a_file_with_a_second_name_is_copied(
    storage: LocalStorage, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "second").hardlink_to(source)
    storage.put(source, sha256=SHA256, move=True)
    assert object_path(storage).stat().st_nlink == 1
    assert not source.exists()
    (tmp_path / "second").write_bytes(b"changed")
    assert object_path(storage).read_bytes() == CONTENT


def test_a_symbolic_link_is_followed_not_moved(
    storage: LocalStorage, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(source)
    storage.put(tmp_path / "link", sha256=SHA256, move=True)
    assert not object_path(storage).is_symlink()
    assert object_path(storage).read_bytes() == source.read_bytes()
    assert not (tmp_path / "link").is_symlink()


def test_across_file_systems_the_file_is_copied(
    storage: LocalStorage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(path: Path, target: Path) -> Path:
        if path == source:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return path.rename(target)

    monkeypatch.setattr(Path, "replace", replace)
    stored = storage.put(source, sha256=SHA256, move=True)
    assert not source.exists()
    assert files(storage) == [object_path(storage)]
    assert stored.size == len(CONTENT)


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_put_again_touches(
    storage: LocalStorage, source: Path, tmp_path: Path, move: bool, kept: bool
) -> None:
    storage.put(source)
    age(object_path(storage), timedelta(days=2))
    inode = object_path(storage).stat().st_ino
    if not kept:
        object_path(storage).chmod(0o600)
        object_path(storage).write_bytes(b"short")
        age(object_path(storage), timedelta(days=2))
    storage.put(source, sha256=SHA256, move=move)
    (entry,) = storage.objects()
    assert datetime.now(UTC) - entry.mtime < timedelta(hours=1)
    assert (object_path(storage).stat().st_ino == inode) is kept
    assert object_path(storage).read_bytes() == CONTENT
    assert files(storage) == [object_path(storage)]


def test_a_moved_file_is_as_fresh_as_a_copied_one(
    storage: LocalStorage, source: Path
) -> None:
    age(source, timedelta(days=400))
    storage.put(source, sha256=SHA256, move=True)
    (entry,) = storage.objects()
    assert datetime.now(UTC) - entry.mtime < timedelta(hours=1)


@pytest.mark.parametrize("damage", [b"", CONTENT[::-1], CONTENT + b"\n"])
def test_damage_is_found_on_read(
    storage: LocalStorage, source: Path, tmp_path: Path, damage: bytes
) -> None:
    uri = storage.put(source).uri
    object_path(storage).chmod(0o600)
    object_path(storage).write_bytes(damage)
    with pytest.raises(CorruptObjectError, match=uri):
        storage.get(uri, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    storage.put(source)
    storage.get(uri, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_put_that_breaks_leaves_nothing(
    storage: LocalStorage,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    move: bool,
) -> None:
    other = source.with_name("other")
    other.write_bytes(b"other")
    storage.put(other)
    before = files(storage)
    error = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        owner = Path if call == "replace" else os
        patch.setattr(owner, call, failing(error, getattr(owner, call)))
        with pytest.raises(StorageError, match="disk is full") as raised:
            storage.put(source, sha256=SHA256, move=move)
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.__cause__ is error
    assert files(storage) == before
    assert source.read_bytes() == CONTENT
    storage.put(source, sha256=SHA256, move=move)
    assert object_path(storage).read_bytes() == CONTENT


def test_interrupted_put_leaves_nothing(
    storage: LocalStorage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    storage.root.mkdir(parents=True)
    (storage.root / "tmp").mkdir()
    with pytest.raises(KeyboardInterrupt):
        storage.put(source)
    assert files(storage) == []


def test_no_directory_entry_is_promised_before_it_is_on_disk(
    storage: LocalStorage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(source)
    object_path(storage).unlink()
    synced: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    storage.put(source)
    assert [stat.S_ISDIR(info.st_mode) for info in synced] == [False, True]
    assert synced[1].st_ino == object_path(storage).parent.stat().st_ino


def test_the_disk_limit_of_a_process(storage: LocalStorage, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(1 << 20) * 3)
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from aero.error import StorageError\n"
        "from aero.storage import LocalStorage\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 21, 1 << 21))\n"
        "try:\n"
        "    LocalStorage(Path(sys.argv[1])).put(Path(sys.argv[2]))\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(storage.root), str(big)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "ulimit -f" in done.stdout
    assert files(storage) == []


def test_clean_temp_removes_what_a_killed_process_left(
    storage: LocalStorage, source: Path
) -> None:
    storage.put(source)
    for name, days in (("old", 2), ("new", 0)):
        (storage.root / "tmp" / name).write_bytes(b"x")
        age(storage.root / "tmp" / name, timedelta(days=days))
    assert storage.clean_temp(datetime.now(UTC) - timedelta(days=1)) == 1
    assert [path.name for path in (storage.root / "tmp").iterdir()] == ["new"]


def test_foreign_files_are_no_objects(storage: LocalStorage, source: Path) -> None:
    uri = storage.put(source).uri
    (storage.root / "objects" / ".DS_Store").write_bytes(b"x")
    (object_path(storage).parent / "notes.txt").write_bytes(b"x")
    assert [entry.uri for entry in storage.objects()] == [uri]


def test_restore_counts_as_touched(storage: LocalStorage, source: Path) -> None:
    uri = storage.put(source).uri
    age(object_path(storage), timedelta(days=2))
    storage.trash(uri)
    (entry,) = storage.trashed()
    assert datetime.now(UTC) - entry.mtime > timedelta(days=1)
    storage.restore(uri)
    (entry,) = storage.objects()
    assert datetime.now(UTC) - entry.mtime < timedelta(hours=1)


def test_eight_threads_put_the_same_bytes(storage: LocalStorage, source: Path) -> None:
    start = Barrier(8)

    def put(_: int) -> str:
        start.wait(timeout=30)
        return storage.put(source).uri

    with ThreadPoolExecutor(8) as pool:
        uris = set(pool.map(put, range(8)))
    assert uris == {"sha256:" + SHA256}
    assert files(storage) == [object_path(storage)]
    assert object_path(storage).read_bytes() == CONTENT


def test_no_permission_is_one_sentence(storage: LocalStorage, source: Path) -> None:
    storage.root.parent.mkdir()
    storage.root.write_bytes(b"a file where the store should be")
    with pytest.raises(StorageError, match=r"check that the path .*\.$"):
        storage.put(source)
    with pytest.raises(StorageError, match="Listing"):
        list(storage.objects())
    for call in (storage.size, storage.open):
        with pytest.raises(StorageError):
            call("sha256:" + SHA256)


def test_repr_names_the_folder(storage: LocalStorage) -> None:
    assert repr(storage) == f"LocalStorage({str(storage.root)!r})"


@settings(deadline=None)
@given(
    name=st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1
    ).filter(lambda name: name not in {".", ".."})
)
def test_location_round_trip(name: str) -> None:
    root = Path("/data") / name
    storage = open_storage(local_location(root))
    assert isinstance(storage, LocalStorage)
    assert storage.root == root


def test_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    location = local_location("a b%#?")
    assert location == f"{tmp_path.as_uri()}/a%20b%25%23%3F"
    assert open_storage(location) is open_storage(location)
    shared = open_storage("memory:test-locations")
    assert isinstance(shared, MemoryStorage)
    assert shared is MemoryStorage.named("test-locations")
    assert shared is not open_storage("memory:another")


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/data/store",
        "memory:",
        "file:relative",
        "file://host/data",
        "file:///data?x=1",
        "file:///data#x",
        "file:///a%00b",
        "s3://bucket/key",
    ],
)
def test_other_locations_are_refused(location: str) -> None:
    with pytest.raises(InvalidValueError, match="write file:///"):
        open_storage(location)
