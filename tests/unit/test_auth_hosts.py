import base64
from pathlib import Path

import pytest

from aero.auth.hosts import Login, login_for, read_logins
from aero.error import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.touch(mode=0o600)
    return path


def test_logins_are_found_by_host_and_port(file: Path) -> None:
    file.write_text(
        "# the archive\n"
        "machine Data.example.org login ada password one\n"
        "machine data.example.org:8443 login bob password two\n"
    )
    logins = read_logins(file)
    assert login_for(logins, "data.example.org", 443) == Login(
        user="ada", password="one"
    )
    assert login_for(logins, "DATA.example.org", 8443) == Login(
        user="bob", password="two"
    )
    assert login_for(logins, "example.org", 443) is None


def test_a_login_is_a_basic_header_in_utf8() -> None:
    header = Login(user="ada", password="pässwörd: #1").authorization()
    kind, _, value = header.partition(" ")
    assert kind == "Basic"
    assert base64.b64decode(value).decode() == "ada:pässwörd: #1"


def test_a_password_never_prints() -> None:
    assert "hidden" not in repr(Login(user="ada", password="hidden"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_file_open_to_others_is_refused(file: Path, mode: int) -> None:
    file.write_text("machine h login ada password hidden\n")
    file.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {file}"):
        read_logins(file)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_its_owner_is_read(file: Path, mode: int) -> None:
    file.write_text("machine h login ada password hidden\n")
    file.chmod(mode)
    assert set(read_logins(file)) == {"h"}


@pytest.mark.parametrize(
    "content",
    [
        b"machine h login ada passwort hidden\n",
        b"hidden\n",
        b"machine h login ada password\n",
        b"default login ada password hidden\n",
        b"machine h password hidden\n",
        b"machine h login a:b password hidden\n",
        b"machine h login ada password \xff\xfe\n",
    ],
)
def test_what_is_not_understood_is_refused_without_quoting_it(
    file: Path, content: bytes
) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=str(file)) as raised:
        read_logins(file)
    assert "hidden" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_logins(tmp_path / "none")


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="text file"):
        read_logins(folder)
