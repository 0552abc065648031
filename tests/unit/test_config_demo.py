from pathlib import Path

import pytest

from aero.config import load_conf
from aero.config.demo import demo_conf, shell_settings


@pytest.fixture(autouse=True)
def no_files(tmp_path, monkeypatch):
    """A user without configuration, in a directory of their own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def lands_at(conf, environ):
    settings = shell_settings(conf, environ)
    found = load_conf(environ={**environ, **settings})
    return found.home == conf.home and found.embedded, settings


def test_the_workspace_is_below_the_working_directory():
    assert demo_conf({}).home == Path.cwd() / "aero-demo"


def test_aero_home_moves_it_and_nothing_else_counts(tmp_path):
    environ = {
        "AERO_HOME": "elsewhere",
        "AERO_PROFILE": "none",
        "AERO_SERVER_URL": "https://aero.example",
    }
    conf = demo_conf(environ)
    assert conf.home == tmp_path / "elsewhere"
    assert conf.embedded


def test_a_shell_needs_aero_home_only():
    conf = demo_conf({})
    assert lands_at(conf, {}) == (True, {"AERO_HOME": str(conf.home)})


@pytest.mark.parametrize(
    "environ",
    [
        {"AERO_SERVER_URL": "https://aero.example"},
        {"AERO_PROFILE": "missing"},
        {"AERO_CONFIG_FILE": "missing.toml"},
        {"AERO_STORE": "/other/store"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_what_leads_elsewhere_is_put_out_of_force(environ):
    landed, settings = lands_at(demo_conf({}), environ)
    assert landed
    assert settings["AERO_CONFIG_FILE"] == "/dev/null"


def test_a_configuration_file_that_leads_elsewhere_is_put_out_of_force(tmp_path):
    home = tmp_path / "aero-demo"
    home.mkdir()
    (home / "config.toml").write_text('[default]\nstore = "/other/store"\n')
    landed, settings = lands_at(demo_conf({}), {})
    assert landed
    assert settings == {"AERO_CONFIG_FILE": "/dev/null", "AERO_HOME": str(home)}
