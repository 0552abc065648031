import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from aero.error import InvalidValueError, SourceError, SourceUnavailableError
from aero.sources import FetchPolicy
from aero.sources.file import FileSource, local_path
from aero.types import Fetched, NotModified, Validators

BODY = bytes(range(256)) * 2000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "published"
    found.mkdir()
    return found


@pytest.fixture
def target(tmp_path: Path) -> Path:
    found = tmp_path / "target"
    found.mkdir()
    return found / "data"


Progress = Callable[[int, int | None], None]


def get(
    source: Path | str,
    target: Path,
    *,
    policy: FetchPolicy | None = None,
    previous: Validators | None = None,
    progress: Progress | None = None,
) -> Fetched | NotModified:
    url = source if isinstance(source, str) else source.as_uri()
    try:
        return FileSource(sleep=lambda seconds: None).fetch(
            url, target, policy=policy, previous=previous, progress=progress
        )
    finally:
        assert set(target.parent.iterdir()) <= {target}


def test_a_copy_says_what_it_got(folder: Path, target: Path) -> None:
    source = folder / "deaths é 1849.csv"
    source.write_bytes(BODY)
    seen: list[tuple[int, int | None]] = []
    found = get(source, target, progress=lambda *at: seen.append(at))
    assert isinstance(found, Fetched)
    assert target.read_bytes() == BODY
    assert found.sha256 == hashlib.sha256(BODY).hexdigest()
    assert (found.size, found.file_name) == (len(BODY), source.name)
    assert (found.media_type, found.encoding) == ("text/csv", None)
    assert found.url == found.final_url == source.as_uri()
    assert seen[-1] == (len(BODY), len(BODY))


def test_same_size_and_another_time_is_a_change(folder: Path, target: Path) -> None:
    source = folder / "x"
    source.write_bytes(b"old")
    first = get(source, target)
    assert isinstance(first, Fetched)
    previous = Validators(etag=first.etag, last_modified=first.last_modified)
    unchanged = get(source, target, previous=previous)
    assert isinstance(unchanged, NotModified)
    assert unchanged.etag == first.etag
    source.write_bytes(b"new")
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))
    assert isinstance(get(source, target, previous=previous), Fetched)
    assert target.read_bytes() == b"new"


def test_a_file_that_replaces_another_is_a_change(folder: Path, target: Path) -> None:
    source, other = folder / "x", folder / "y"
    source.write_bytes(b"old")
    other.write_bytes(b"new")
    for path in (source, other):
        os.utime(path, ns=(0, 10**18))
    first = get(source, target)
    other.replace(source)
    second = get(source, target, previous=Validators(etag=first.etag))
    assert isinstance(second, Fetched)
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///a/b", "/a/b"),
        ("file:/a/b", "/a/b"),
        ("file://localhost/a%20b%3F%23", "/a b?#"),
        ("FILE:///caf%C3%A9", "/café"),
    ],
)
def test_urls_name_absolute_paths(url: str, path: str) -> None:
    assert local_path(url) == Path(path)


def test_a_name_need_not_be_utf8() -> None:
    assert os.fsencode(local_path("file:///%ff")) == b"/\xff"


@pytest.mark.parametrize(
    "url",
    [
        "file:data.csv",
        "file:",
        "file://",
        "file://host/x",
        "file://user:pw@localhost/x",
        "file:///a?b",
        "file:///a#b",
        "file:///a%00b",
        "file://[/x",
    ],
)
def test_other_file_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidValueError, match="file:///PATH"):
        local_path(url)


def test_only_the_roots_may_be_read(folder: Path, target: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s")
    inside = folder / "x"
    inside.write_bytes(b"x")
    policy = FetchPolicy(file_roots=(folder,))
    link = folder / "link"
    link.symlink_to(secret)
    around = f"file://{folder}/../secret"
    for source in (secret, link, around):
        with pytest.raises(SourceError, match="file_roots"):
            get(source, target, policy=policy)
    assert isinstance(get(inside, target, policy=policy), Fetched)
    with pytest.raises(SourceError):
        get(inside, target, policy=FetchPolicy(file_roots=()))


def test_roots_and_links_inside_them_may_be_links(
    folder: Path, target: Path, tmp_path: Path
) -> None:
    (folder / "x").write_bytes(b"x")
    (folder / "link").symlink_to("x")
    (tmp_path / "root").symlink_to(folder)
    policy = FetchPolicy(file_roots=(tmp_path / "root",))
    assert isinstance(get(folder / "link", target, policy=policy), Fetched)


def test_what_is_no_readable_file_is_final(folder: Path, target: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "file").write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as unix:
        here = Path.cwd()
        os.chdir(folder)
        unix.bind("socket")
        os.chdir(here)
    names = ["missing", "file/x", "pipe", "loop", "socket", ".", "n" * 300]
    for name in names:
        with pytest.raises(SourceError) as raised:
            get(folder / name, target)
        assert type(raised.value) is SourceError
        assert raised.value.url == (folder / name).as_uri()


def test_an_empty_file_is_data(folder: Path, target: Path) -> None:
    (folder / "empty").touch()
    found = get(folder / "empty", target)
    assert isinstance(found, Fetched)
    assert (found.size, target.read_bytes()) == (0, b"")


def test_the_size_limit_holds(folder: Path, target: Path) -> None:
    (folder / "x").write_bytes(BODY)
    with pytest.raises(SourceError, match="max_download"):
        get(folder / "x", target, policy=FetchPolicy(max_size=len(BODY) - 1))
    get(folder / "x", target, policy=FetchPolicy(max_size=len(BODY)))
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite"])
def test_a_file_that_changes_meanwhile_is_read_again(
    folder: Path, target: Path, change: str
) -> None:
    source = folder / "x"
    source.write_bytes(BODY)
    after = {"grow": BODY + b"+", "shrink": BODY[:140000], "rewrite": BODY[::-1]}
    calls: list[int] = []

    def meddle(done: int, total: int | None) -> None:
        calls.append(done)
        if len(calls) == 1:
            source.write_bytes(after[change])
            os.utime(source, ns=(0, 10**18))

    found = get(source, target, progress=meddle)
    assert isinstance(found, Fetched)
    assert target.read_bytes() == after[change]
    assert found.sha256 == hashlib.sha256(after[change]).hexdigest()


def test_a_file_that_never_rests_is_unavailable(folder: Path, target: Path) -> None:
    source = folder / "x"
    source.write_bytes(BODY)
    times = iter(range(10**6))

    def meddle(done: int, total: int | None) -> None:
        os.utime(source, ns=(0, next(times)))

    with pytest.raises(SourceUnavailableError, match="changed"):
        get(source, target, progress=meddle)
    assert not target.exists()


def test_a_file_replaced_while_it_is_opened_is_opened_again(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = folder / "x", folder / "y"
    source.write_bytes(b"old")
    other.write_bytes(b"new")
    real = os.open

    def opened(path: str, *rest: int, **options: int) -> int:
        handle = real(path, *rest, **options)
        if str(path) == str(source) and other.exists():
            other.replace(source)
        return handle

    monkeypatch.setattr(os, "open", opened)
    assert isinstance(get(source, target), Fetched)
    assert target.read_bytes() == b"new"


def test_a_failing_file_system_is_asked_again(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder / "x"
    source.write_bytes(b"x")
    real, failures = os.open, iter([OSError(5, "Input/output error")])

    def opened(path: str, *rest: int, **options: int) -> int:
        if str(path) == str(source):
            for error in failures:
                raise error
        return real(path, *rest, **options)

    monkeypatch.setattr(os, "open", opened)
    assert isinstance(get(source, target), Fetched)


def test_a_file_of_others_is_final(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder / "x"
    source.touch()

    def refused(path: str, *rest: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(SourceError, match="permissions"):
        get(source, target)
