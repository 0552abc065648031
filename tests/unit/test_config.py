"""Configuration: where it is found, what overrides what, what is refused."""

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aero.config.settings as settings_module
from aero.config import (
    ClientConf,
    active_file,
    configure,
    load_conf,
    refuse_network_filesystem,
)
from aero.config.files import to_toml
from aero.config.keys import KEYS, size_in_bytes
from aero.config.mounts import mount_table, parse_mountinfo
from aero.config.settings import physical_memory, server_parts, usable_cores
from aero.error import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the real user's files out of reach."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "user" / name.lower()))
    for name in [name for name in os.environ if name.startswith("AERO_")]:
        monkeypatch.delenv(name)
    return tmp_path / "home"


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    return {"AERO_HOME": str(home)}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# Defaults


def test_no_file_is_needed(home: Path, environ: dict[str, str]) -> None:
    conf = load_conf(environ=environ)
    assert conf.profile == "default"
    assert conf.config_file is None
    assert conf.home == conf.aero_dir == home
    assert conf.database_url == f"sqlite:///{home}/aero.db"
    assert conf.store == home / "store"
    assert conf.scratch == home / "scratch"
    assert conf.credentials == home / "credentials"
    assert 1 <= conf.workers <= 8
    assert conf.timeout == 86400
    assert (conf.allow_private_addresses, conf.file_roots) == (None, None)
    assert (conf.private_allowed, conf.readable_roots) == (True, (Path("/"),))
    assert (conf.admins, conf.globus_groups, conf.rate_limit) == ((), False, None)
    assert conf.max_download is None
    assert (conf.http_timeout, conf.lease, conf.heartbeat) == (30, 60, 15)
    assert conf.retention_days == 30
    assert conf.client_uuid == "c78511ef-8cf7-4802-a7e1-7d56e27b1bf8"
    assert conf.portal_client_id is conf.server_address is conf.server_url is None
    assert conf.token_file == "client_tokens.json"
    assert conf.embedded
    assert not home.exists()


def test_the_platform_folders(tmp_path: Path) -> None:
    conf = load_conf(environ={})
    user = tmp_path / "user"
    assert conf.home.is_relative_to(user)
    assert conf.home.name == "aero-orchestrator"
    assert conf.credentials == active_file({}).parent / "credentials"
    assert active_file({}).is_relative_to(user)


def test_only_home_must_be_given(tmp_path: Path) -> None:
    conf = ClientConf(home=tmp_path, server_address="aero.example.org")
    assert conf.credentials == tmp_path / "credentials"
    assert conf.server_url == "https://aero.example.org"
    assert not conf.embedded


def test_memory_per_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = ClientConf(home=tmp_path, workers=3)
    assert conf.memory_per_worker == physical_memory() * 9 // 10 // 3
    assert ClientConf(home=tmp_path, memory_limit=5).memory_per_worker == 5

    before = physical_memory()
    real = os.sysconf

    def sysconf(name: str) -> int:
        if name == "SC_PHYS_PAGES":
            raise ValueError
        return real(name)

    monkeypatch.setattr(os, "sysconf", sysconf)
    assert physical_memory() == pytest.approx(before, rel=0.05)


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (3, 3), (64, 8)])
def test_workers_follow_the_cores(
    cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda _: set(range(cores)), raising=False
    )
    assert usable_cores() == workers
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert usable_cores() == workers
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


# Where the file is found, and what overrides what


def test_search_order(tmp_path: Path, home: Path, environ: dict[str, str]) -> None:
    platform = write(active_file({}), "[default]\nworkers = 1\n")
    assert load_conf(environ=environ).config_file == platform
    in_home = write(home / "config.toml", "[default]\nworkers = 2\n")
    assert load_conf(environ=environ).config_file == in_home
    named = write(tmp_path / "named.toml", "[default]\nworkers = 3\n")
    environ["AERO_CONFIG_FILE"] = str(named)
    assert load_conf(environ=environ).workers == 3
    environ["AERO_WORKERS"] = "4"
    assert load_conf(environ=environ).workers == 4
    given_file = write(tmp_path / "given.toml", "[default]\nlease = 50\n")
    conf = load_conf(str(given_file), environ=environ)
    assert (conf.config_file, conf.lease, conf.workers) == (given_file, 50.0, 4)
    assert conf.credentials == tmp_path / "credentials"


def test_the_older_program_s_files_are_not_read(environ: dict[str, str]) -> None:
    write(Path.home() / ".aero" / "config.toml", "workers = 'x'\n")
    write(Path.home() / ".local/share/aero/config.toml", "workers = 'x'\n")
    assert load_conf(environ={}).config_file is None


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read"):
        load_conf(environ={"AERO_CONFIG_FILE": str(tmp_path / "absent.toml")})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_conf(tmp_path / "absent.toml")


def test_every_variable_overrides(tmp_path: Path, home: Path) -> None:
    write(home / "config.toml", "[default]\nserver_url = 'https://old.example.org'\n")
    environ = {
        "AERO_HOME": str(home),
        "AERO_DATABASE_URL": "postgresql+psycopg://h/db",
        "AERO_STORE": str(tmp_path / "s"),
        "AERO_WORKERS": "5",
        "AERO_MEMORY_LIMIT": "4 GiB",
        "AERO_TIMEOUT": "1.5",
        "AERO_ALLOW_PRIVATE_ADDRESSES": "No",
        "AERO_FILE_ROOTS": f"/data{os.pathsep}/srv",
        "AERO_MAX_DOWNLOAD": "500 MB",
        "AERO_HTTP_TIMEOUT": "7",
        "AERO_CREDENTIALS": "/c",
        "AERO_LEASE": "90",
        "AERO_HEARTBEAT": "9",
        "AERO_RETENTION_DAYS": "0",
        "AERO_CLIENT_UUID": "c",
        "AERO_PORTAL_CLIENT_ID": "p",
        "AERO_PORTAL_CLIENT_SECRET": "s" * 16,
        "AERO_ADMINS": "ada@example.org, id-of-bob",
        "AERO_GLOBUS_GROUPS": "yes",
        "AERO_GLOBUS_MEMBER_ROLE": "viewer",
        "AERO_RATE_LIMIT": "2.5",
        "AERO_CACHE_DIR": "/cache",
        "AERO_TOKEN_FILE": "t.json",
        "AERO_SERVER": "new.example.org:444",
        "AERO_TEST_REQUIRE_SERVICES": "1",
        "AERO_UNHEARD_OF": "ignored",
    }
    assert load_conf(environ=environ) == ClientConf(
        home=home,
        config_file=home / "config.toml",
        database_url="postgresql+psycopg://h/db",
        store=tmp_path / "s",
        workers=5,
        memory_limit=4 * 1024**3,
        timeout=1.5,
        allow_private_addresses=False,
        file_roots=(Path("/data"), Path("/srv")),
        max_download=500_000_000,
        http_timeout=7.0,
        credentials=Path("/c"),
        lease=90.0,
        heartbeat=9.0,
        retention_days=0,
        client_uuid="c",
        portal_client_id="p",
        portal_client_secret="s" * 16,
        admins=("ada@example.org", "id-of-bob"),
        globus_groups=True,
        globus_member_role="viewer",
        rate_limit=2.5,
        aero_dir=Path("/cache"),
        token_file="t.json",
        server_address="new.example.org:444",
        server_url="https://new.example.org:444",
    )


def test_there_is_one_variable_for_every_field() -> None:
    fields = set(ClientConf.__dataclass_fields__) - {"profile", "config_file"}
    assert set(KEYS) == fields | {"server", "cache_dir"}


def test_where_others_name_urls_what_was_not_said_is_refused(tmp_path: Path) -> None:
    exposed = ClientConf(home=tmp_path).exposed()
    assert (exposed.allow_private_addresses, exposed.file_roots) == (False, ())
    assert (exposed.private_allowed, exposed.readable_roots) == (False, ())
    said = ClientConf(
        home=tmp_path, allow_private_addresses=True, file_roots=(tmp_path,)
    )
    assert said.exposed() == said
    assert (said.private_allowed, said.readable_roots) == (True, (tmp_path,))
    assert ClientConf(home=tmp_path, file_roots=()).readable_roots == ()


def test_any_number_of_requests_is_a_rate(home: Path, environ: dict[str, str]) -> None:
    write(home / "config.toml", "[default]\nrate_limit = 0\n")
    assert load_conf(environ=environ).rate_limit == 0


def test_empty_variables_say_nothing(environ: dict[str, str]) -> None:
    assert load_conf(environ=environ | {"AERO_WORKERS": "", "AERO_PROFILE": ""})


def test_paths_are_relative_to_the_file(home: Path, environ: dict[str, str]) -> None:
    write(
        home / "config.toml",
        "[default]\nstore = 'bytes'\nfile_roots = ['in', '/srv', '~/x']\n",
    )
    conf = load_conf(environ=environ)
    assert conf.store == home / "bytes"
    assert conf.file_roots == (home / "in", Path("/srv"), Path.home() / "x")


# Profiles and the older form


def test_profiles(home: Path, environ: dict[str, str]) -> None:
    write(
        home / "config.toml",
        "[default]\nworkers = 1\n[testing]\nretention_days = 2\n",
    )
    testing = load_conf(environ=environ | {"AERO_PROFILE": "testing"})
    assert (testing.profile, testing.retention_days) == ("testing", 2)
    assert load_conf(profile="testing", environ=environ) == testing
    environ["AERO_PROFILE"] = "testing"
    assert load_conf(profile="default", environ=environ).workers == 1


def test_missing_profile_lists_those_there_are(
    home: Path, environ: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match="there is: none"):
        load_conf(profile="prod", environ=environ)
    write(home / "config.toml", "[testing]\n[staging]\n")
    with pytest.raises(ConfigError, match="there is: staging, testing") as raised:
        load_conf(profile="prod", environ=environ)
    assert raised.value.profiles == ["staging", "testing"]
    assert load_conf(environ=environ).profile == "default"


OLDER = (
    "client_uuid = 'c'\nportal_client_id = 'p'\n"
    "[aero]\ncache_dir = '/cache'\nserver = 'https://aero.example.org/api/'\n"
)


@pytest.mark.parametrize(
    "text",
    [
        OLDER,
        OLDER.replace("[aero]", ""),
        "[default]\n" + OLDER.replace("[aero]", ""),
        OLDER + "[testing]\nworkers = 1\n",
    ],
)
def test_the_older_form_is_the_default_profile(
    home: Path, environ: dict[str, str], text: str
) -> None:
    write(home / "config.toml", text)
    conf = load_conf(environ=environ)
    assert (conf.client_uuid, conf.portal_client_id) == ("c", "p")
    assert (conf.aero_dir, conf.home) == (Path("/cache"), home)
    assert conf.server_address == "aero.example.org"
    assert conf.server_url == "https://aero.example.org/api"


def test_the_older_table_alone(home: Path, environ: dict[str, str]) -> None:
    write(home / "config.toml", "[aero]\nserver = 'localhost:5000'\n")
    conf = load_conf(environ=environ)
    assert conf.server_url == "http://localhost:5000"


def test_default_twice(home: Path, environ: dict[str, str]) -> None:
    write(home / "config.toml", "workers = 1\n[default]\nworkers = 2\n")
    with pytest.raises(ConfigError, match=r"move those keys into the table"):
        load_conf(environ=environ)


@pytest.mark.parametrize(
    ("server", "parts"),
    [
        ("aero.example.org", ("aero.example.org", "https://aero.example.org")),
        ("http://h:1/x/", ("h:1", "http://h:1/x")),
        ("127.0.0.1:8000", ("127.0.0.1:8000", "http://127.0.0.1:8000")),
        ("u:p@h:1", ("h:1", "https://u:p@h:1")),
        ("[::1]:8000/", ("[::1]:8000", "http://[::1]:8000")),
        ("localhost.example.org", None),
    ],
)
def test_server_parts(server: str, parts: tuple[str, str] | None) -> None:
    assert server_parts(server) == (parts or (server, f"https://{server}"))


# What is refused


@pytest.mark.parametrize(
    ("key", "near"),
    [("wrkers", "workers"), ("databse_url", "database_url"), ("Store", "store")],
)
def test_unknown_keys(home: Path, environ: dict[str, str], key: str, near: str) -> None:
    write(home / "config.toml", f"[default]\n{key} = 'hunter2'\n")
    with pytest.raises(ConfigError, match=f"{key!r}: did you mean {near!r}") as raised:
        load_conf(environ=environ)
    assert raised.value.key == key
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "line",
    [
        "workers = '2'",
        "workers = true",
        "workers = 0",
        "workers = 1.5",
        "timeout = 0",
        "timeout = inf",
        "timeout = '1'",
        "lease = true",
        "allow_private_addresses = 1",
        "file_roots = '/'",
        "file_roots = [1]",
        "max_download = '4 parsecs'",
        "max_download = 0",
        "memory_limit = 1.5",
        "memory_limit = '0 GB'",
        "store = 5",
        "store = ''",
        "store = '~no-such-user-here/x'",
        "server_url = 'ftp://host'",
        "server = 'https://'",
        "database_url = 'postgresql+psycopg://h:bad/x'",
        "database_url = 'mysql://h/x'",
        "retention_days = -1",
        "client_uuid = []",
        "admins = 'ada'",
        "admins = [' ']",
        "globus_member_role = 'owner'",
        "globus_member_role = []",
        "rate_limit = -1",
        "rate_limit = false",
        "rate_limit = inf",
        "max_download = '" + "9" * 400 + "'",
    ],
)
def test_wrong_values(home: Path, environ: dict[str, str], line: str) -> None:
    write(home / "config.toml", f"[default]\n{line}\n")
    key = line.split(" ")[0]
    with pytest.raises(ConfigError, match=rf"^{key} in \[default\] .*: write .*\.$"):
        load_conf(environ=environ)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("AERO_WORKERS", "two"),
        ("AERO_DATABASE_URL", "postgresql+psycopg://h:99999/x"),
        ("AERO_TIMEOUT", "soon"),
        ("AERO_ALLOW_PRIVATE_ADDRESSES", "perhaps"),
        ("AERO_FILE_ROOTS", f"/a{os.pathsep}"),
    ],
)
def test_wrong_variables(environ: dict[str, str], name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is .*: write "):
        load_conf(environ=environ | {name: text})


def test_heartbeat_within_lease(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="heartbeat"):
        load_conf(environ=environ | {"AERO_LEASE": "10"})


@pytest.mark.parametrize("content", [b"workers = ", b"\xff = 1", b"a = 1\na = 2"])
def test_not_toml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(ConfigError, match="is not TOML"):
        load_conf(tmp_path / "c.toml")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:hunter2@db:5432/aero",
        "postgresql+psycopg://me:hun@ter2@db/aero",
        "postgresql+psycopg://db/aero?user=me&password=hunter2&sslmode=require",
    ],
)
def test_secrets_never_print(tmp_path: Path, url: str) -> None:
    conf = ClientConf(home=tmp_path, database_url=url, server_url="https://u:hunter2@h")
    assert conf.database_url == url
    for text in (repr(conf), str(conf), f"{conf}"):
        assert "ter2" not in text
        assert "***" in text
        assert "server_address='h'" in text
        assert "db" in text
        assert f"home={tmp_path!r}" in text


def test_a_wrong_secret_never_prints(home: Path, environ: dict[str, str]) -> None:
    write(home / "config.toml", "[default]\ndatabase_url = ['hunter2']\n")
    with pytest.raises(ConfigError) as raised:
        load_conf(environ=environ)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["postgres://h/db", "postgresql://me:hunter2@h/db", "mysql://h/db", "aero.db"],
)
def test_a_database_is_sqlite_or_postgresql_with_the_driver_that_is_used(
    environ: dict[str, str], url: str
) -> None:
    environ["AERO_DATABASE_URL"] = url
    with pytest.raises(
        ConfigError, match=r"write sqlite.*postgresql\+psycopg"
    ) as raised:
        load_conf(environ=environ)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4 GiB", 4 * 1024**3),
        ("4GB", 4 * 10**9),
        ("1.5 kib", 1536),
        ("100", 100),
        ("2T", 2 * 10**12),
        (7, 7),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert size_in_bytes(text) == size


# Installing


def test_configure_merges_under_the_profile(
    tmp_path: Path, home: Path, environ: dict[str, str]
) -> None:
    target = write(
        home / "config.toml",
        "[default]\nworkers = 1\n[testing]\nlease = 70.5\n"
        "server_url = 'https://old'\naero_dir = '/old'\n",
    )
    source = write(tmp_path / "in" / "new.toml", OLDER + "store = 'bytes'\n")
    assert configure(source, "testing", environ) == target
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert tomllib.loads(target.read_text()) == {
        "default": {"workers": 1},
        "testing": {
            "lease": 70.5,
            "client_uuid": "c",
            "portal_client_id": "p",
            "cache_dir": "/cache",
            "server": "https://aero.example.org/api/",
            "store": str(tmp_path / "in" / "bytes"),
        },
    }
    conf = load_conf(profile="testing", environ=environ)
    assert conf.server_url == "https://aero.example.org/api"
    assert [path.name for path in home.iterdir()] == ["config.toml"]


def test_load_conf_update_installs(
    tmp_path: Path, home: Path, environ: dict[str, str]
) -> None:
    source = write(
        tmp_path / "new.toml",
        "[default]\nworkers = 2\nallow_private_addresses = false\n"
        "file_roots = ['data']\n[other]\nmemory_limit = '1 GiB'\n",
    )
    conf = load_conf(str(source), update=True, environ=environ)
    assert conf.config_file == home / "config.toml" == active_file(environ)
    assert (conf.workers, conf.allow_private_addresses) == (2, False)
    assert conf.file_roots == (tmp_path / "data",)
    assert load_conf(profile="other", environ=environ).memory_limit == 1024**3
    environ["AERO_CONFIG_FILE"] = str(tmp_path / "deep" / "er" / "c.toml")
    conf = load_conf(source, update=True, profile="other", environ=environ)
    assert str(conf.config_file) == environ["AERO_CONFIG_FILE"]
    assert stat.S_IMODE((tmp_path / "deep" / "er").stat().st_mode) == 0o700


def test_update_needs_a_file(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="give load_conf"):
        load_conf(update=True, environ=environ)


@pytest.mark.parametrize(
    "text", ["[default]\nwrkers = 1\n", "[default]\nheartbeat = 60\n", "x", "[a]\n[b]"]
)
def test_a_bad_file_changes_nothing(
    tmp_path: Path, home: Path, environ: dict[str, str], text: str
) -> None:
    target = write(home / "config.toml", "[default]\nworkers = 1\n")
    profile = "testing" if text == "[a]\n[b]" else None
    with pytest.raises(ConfigError):
        configure(write(tmp_path / "new.toml", text), profile, environ)
    assert target.read_text() == "[default]\nworkers = 1\n"
    assert [path.name for path in home.iterdir()] == ["config.toml"]


def test_a_linked_configuration_stays_linked(
    tmp_path: Path, home: Path, environ: dict[str, str]
) -> None:
    real = write(tmp_path / "dotfiles" / "aero.toml", "")
    home.mkdir()
    (home / "config.toml").symlink_to(real)
    assert configure(write(tmp_path / "n", "workers = 2\n"), None, environ) == real
    assert (home / "config.toml").is_symlink()
    assert load_conf(environ=environ).workers == 2


def test_configuration_that_cannot_be_written(
    tmp_path: Path, home: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    source = write(tmp_path / "new.toml", "workers = 2\n")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        configure(source, None, environ)
    assert list(home.iterdir()) == []


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.one_of(
    TEXT,
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.lists(TEXT),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(profiles=st.dictionaries(TEXT, st.dictionaries(TEXT, VALUES)))
def test_toml_round_trip(profiles: dict[str, dict[str, Any]]) -> None:
    assert tomllib.loads(to_toml(profiles)) == profiles


# Network file systems


@pytest.mark.parametrize(
    "kind",
    ["nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "afs", "fuse.sshfs"],
)
def test_network_file_systems_are_refused(tmp_path: Path, kind: str) -> None:
    home = tmp_path.resolve() / "not" / "yet" / "there"
    with pytest.raises(ConfigError, match=r"AERO_HOME.*AERO_DATABASE_URL") as raised:
        refuse_network_filesystem(home, [("/", "ext4"), (str(tmp_path), kind)])
    assert raised.value.filesystem == kind


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "share")
    mounts = [("/", "ext4"), (str((tmp_path / "share").resolve()), "nfs4")]
    with pytest.raises(ConfigError):
        refuse_network_filesystem(tmp_path / "home" / "aero", mounts)


@pytest.mark.parametrize(
    "mounts",
    [
        [],
        [("/", "ext4"), ("/srv", "nfs")],
        [("/", "nfs"), ("/data", "xfs")],
        [("/data", "xfs"), ("/", "nfs")],
        [("/data", "nfs"), ("/data", "ext4")],
        [("/", "ext4"), ("/dat", "nfs")],
        [("/", "autofs"), ("/data/aero/deeper", "nfs")],
    ],
)
def test_local_disks_are_not(mounts: list[tuple[str, str]]) -> None:
    assert refuse_network_filesystem(Path("/data/aero"), mounts) is None


def test_mountinfo(tmp_path: Path) -> None:
    table = write(
        tmp_path / "mountinfo",
        "36 35 98:0 / / rw,noatime shared:1 master:2 - ext4 /dev/root rw\n"
        "37 36 0:44 /x /mnt/my\\040data rw - nfs4 host:/x rw,vers=4.2\n",
    )
    assert parse_mountinfo(table) == [("/", "ext4"), ("/mnt/my data", "nfs4")]


def test_this_machine_s_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "/" in [point for point, _ in mount_table()]
    refuse_network_filesystem(Path("/proc"))
    monkeypatch.setattr("aero.config.mounts._MOUNTINFO", tmp_path / "absent")
    monkeypatch.setattr(sys, "platform", "linux")
    assert mount_table() == []


@pytest.mark.skipif(sys.platform == "win32", reason="aero needs WSL 2 there")
def test_mounts_without_mountinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    class Part:
        mountpoint, fstype = "/Volumes/share", "smbfs"

    monkeypatch.setattr(psutil, "disk_partitions", lambda *, all: [Part])  # noqa: A006
    monkeypatch.setattr(sys, "platform", "darwin")
    assert mount_table() == [("/Volumes/share", "smbfs")]
    with pytest.raises(ConfigError, match="smbfs"):
        refuse_network_filesystem(Path("/Volumes/share/aero"))


# Nothing happens at import


def test_import_is_light() -> None:
    script = (
        "import sys, aero.config\n"
        "heavy = {'psutil', 'sqlalchemy', 'globus_sdk', 'aero.db', 'platformdirs'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_masking_leaves_ordinary_text() -> None:
    assert settings_module.masked("https://h:1/a") == "https://h:1/a"


def test_the_secret_of_webhooks_never_prints(environ: dict[str, str]) -> None:
    secret = "a-secret-of-this-test"
    conf = load_conf(environ=environ | {"AERO_WEBHOOK_SECRET": secret})
    assert conf.webhook_secret == secret
    assert "webhook_secret='***'" in repr(conf)
    assert secret not in repr(conf)
    for wrong in ("too-short", "of many letters, with spaces"):
        with pytest.raises(ConfigError, match="of the wrong kind") as caught:
            load_conf(environ=environ | {"AERO_WEBHOOK_SECRET": wrong})
        assert wrong not in str(caught.value)


def test_the_mail_server_never_prints(environ: dict[str, str]) -> None:
    url = "smtps://ada:s3cr3t@mail.example.org:465?from=aero@example.org"
    conf = load_conf(environ=environ | {"AERO_SMTP_URL": url})
    assert conf.smtp_url == url
    assert "s3cr3t" not in repr(conf)
    assert conf.shown()["smtp_url"] == "***"
    for wrong in ("mail.example.org", "https://h", "smtp://", "smtp://h:s3cr3t/"):
        with pytest.raises(ConfigError, match="of the wrong kind") as caught:
            load_conf(environ=environ | {"AERO_SMTP_URL": wrong})
        assert "s3cr3t" not in str(caught.value)
