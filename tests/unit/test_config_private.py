"""The token of a profile: where it comes from, and who may read it."""

from pathlib import Path

import pytest

from aero.config import ClientConf, load_conf
from aero.error import ConfigError


def configured(home: Path, text: str = "", **environ: str) -> ClientConf:
    home.mkdir(exist_ok=True)
    path = home / "config.toml"
    path.write_text(f'[default]\nserver_url = "https://h"\n{text}\n[lab]\n')
    path.chmod(0o600)
    return load_conf(environ={"AERO_HOME": str(home), **environ})


def private(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def test_a_token_comes_from_the_file_the_table_or_the_environment(
    tmp_path: Path,
) -> None:
    home = tmp_path / "h"
    assert configured(home).token is None
    private(home / "default.token", "aero_file\n")
    assert configured(home).token == "aero_file"
    assert configured(home, 'token = "aero_table"').token == "aero_table"
    found = configured(home, 'token = "aero_table"', AERO_TOKEN="aero_env")
    assert found.token == "aero_env"


def test_a_token_is_of_one_profile_and_its_server(tmp_path: Path) -> None:
    home = tmp_path / "h"
    private(home / "default.token", "aero_file")
    configured(home)
    environ = {"AERO_HOME": str(home), "AERO_PROFILE": "lab"}
    assert load_conf(environ=environ).token is None
    other = load_conf(environ={**environ, "AERO_SERVER_URL": "https://other"})
    assert other.token is None


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "h"
    path = private(home / "default.token", "aero_file")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        configured(home)
    path.unlink()
    configured(home, 'token = "aero_table"')
    (home / "config.toml").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_conf(environ={"AERO_HOME": str(home)})


def test_a_wrong_token_is_not_quoted(tmp_path: Path) -> None:
    home = tmp_path / "h"
    private(home / "default.token", "hunter2 hunter2")
    with pytest.raises(ConfigError, match="nothing else") as file:
        configured(home)
    with pytest.raises(ConfigError, match="wrong kind") as table:
        configured(home, 'token = "hunter2 hunter2"')
    with pytest.raises(ConfigError, match="wrong kind") as variable:
        configured(home, AERO_TOKEN="hunter2 hunter2")
    for caught in (file, table, variable):
        assert "hunter2" not in str(caught.value)


def test_the_secret_of_the_servers_client_is_in_a_file_of_its_own(
    tmp_path: Path,
) -> None:
    home = tmp_path / "h"
    environ = {"AERO_HOME": str(home)}
    path = private(home / "default.client_secret", "the-secret-of-it\n")
    assert load_conf(environ=environ).portal_client_secret is None
    environ |= {"AERO_PORTAL_CLIENT_ID": "id"}
    found = load_conf(environ=environ)
    assert found.portal_client_secret == "the-secret-of-it"
    assert "the-secret" not in repr(found) + str(found.shown())
    said = environ | {"AERO_PORTAL_CLIENT_SECRET": "another-secret-of-it"}
    assert load_conf(environ=said).portal_client_secret == "another-secret-of-it"
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=r"client secret file .*chmod 600"):
        load_conf(environ=environ)
    path.unlink()
    private(path, "two words")
    with pytest.raises(ConfigError, match="client secret file") as caught:
        load_conf(environ=environ)
    assert "two words" not in str(caught.value)


def test_a_configuration_file_with_the_secret_is_private(
    tmp_path: Path,
) -> None:
    home = tmp_path / "h"
    environ = {"AERO_HOME": str(home)}
    path = home / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[default]\nportal_client_secret = "{"s" * 16}"\n')
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="with a token or a secret"):
        load_conf(environ=environ)
    path.chmod(0o600)
    assert load_conf(environ=environ).portal_client_secret == "s" * 16
