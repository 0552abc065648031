"""`ClientConf`: the typed result of reading the configuration."""

import os
import re
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_address
from pathlib import Path

from aero.error import ConfigError

MAX_WORKERS = 8
_DERIVED = Path()
_USER_INFO = re.compile(r"(://[^:/?#@]*:).*@")
_PASSWORD = re.compile(r"((?:password|passwd)=)[^&\s]*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, repr=False)
class ClientConf:
    """What this installation is configured to do; `repr` shows no secret.

    Only `home` must be given; what is not given follows from it.

    Attributes:
        profile: The table of the configuration file that was read.
        home: The data directory.
        config_file: The file that was read, if any.
        database_url: An SQLAlchemy URL, of SQLite or of PostgreSQL; default
            `sqlite:///<home>/aero.db`.
        store: The local store's folder; default `<home>/store`.
        workers: Worker processes; default the cores this process may use, up to 8.
        memory_limit: Bytes one worker may use; None: see `memory_per_worker`.
        timeout: Seconds a function may take unless its flow says otherwise.
        allow_private_addresses: Whether a source may lie in a private network; None:
            unless others than this machine's users are served, see `exposed`.
        file_roots: The folders below which `file:` sources may lie; None: anywhere,
            and nowhere if others are served.
        max_download: Bytes a download may have; None: any number.
        http_timeout: Seconds to wait for a server that says nothing.
        credentials: The file of per-host credentials.
        lease: Seconds after which a silent worker counts as lost.
        heartbeat: Seconds between a worker's signs of life.
        poll_delay: Seconds between two polls of a source that waits for notifications,
            unless it says otherwise; None: it is not polled.
        retention_days: Days an ended run is kept.
        client_uuid: The client that logs in at Globus.
        portal_client_id: The server's client at Globus.
        portal_client_secret: Of that client; only the server has it.
        admins: Who administers a server that asks Globus: ids of identities and
            groups, and usernames.
        globus_groups: Whether such a server asks for the groups of its users.
        globus_member_role: What members may do to what their group has: `viewer`,
            `editor` or `admin`.
        rate_limit: Requests a second that a server answers each of its users, 0: any
            number; None: 100 if others than this machine's users are served.
        aero_dir: Where tokens are kept; default `home`.
        token_file: The name of the token file in it.
        server_address: The server's host and port; None: embedded.
        server_url: The server's URL; None: embedded.
        token: Sent to that server with every request.
        webhook_secret: What those who send webhooks to this server share with it.
        smtp_url: The mail server that failure notices are sent by.
    """

    profile: str = "default"
    home: Path
    config_file: Path | None = None
    database_url: str = ""
    store: Path = _DERIVED
    workers: int = 0
    memory_limit: int | None = None
    timeout: float = 86400.0
    allow_private_addresses: bool | None = None
    file_roots: tuple[Path, ...] | None = None
    max_download: int | None = None
    http_timeout: float = 30.0
    credentials: Path = _DERIVED
    lease: float = 60.0
    heartbeat: float = 15.0
    poll_delay: float | None = None
    retention_days: int = 30
    client_uuid: str = "c78511ef-8cf7-4802-a7e1-7d56e27b1bf8"
    portal_client_id: str | None = None
    portal_client_secret: str | None = field(default=None, repr=False)
    admins: tuple[str, ...] = ()
    globus_groups: bool = False
    globus_member_role: str = "editor"
    rate_limit: float | None = None
    aero_dir: Path = _DERIVED
    token_file: str = "client_tokens.json"  # noqa: S105 - a file's name
    server_address: str | None = None
    server_url: str | None = None
    token: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    smtp_url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        home = self.home.absolute()
        beside = self.config_file.parent if self.config_file else home
        self._set(
            home=home,
            database_url=self.database_url or f"sqlite:///{home / 'aero.db'}",
            store=_or(self.store, home / "store"),
            workers=self.workers or usable_cores(),
            credentials=_or(self.credentials, beside / "credentials"),
            aero_dir=_or(self.aero_dir, home),
        )
        server = self.server_url or self.server_address
        if server:
            address, _ = server_parts(self.server_address or server)
            _, url = server_parts(server)
            self._set(server_address=address, server_url=url)
        if self.heartbeat >= self.lease:
            raise ConfigError(
                f"heartbeat ({self.heartbeat} s) is not shorter than lease "
                f"({self.lease} s): make it a quarter of the lease."
            )

    def __repr__(self) -> str:
        values = self._printable().items()
        shown = ", ".join(f"{name}={masked(repr(value))}" for name, value in values)
        return f"ClientConf({shown})"

    def shown(self) -> dict[str, object]:
        """Return what may be printed: no secrets, and passwords in URLs masked."""
        return {
            name: masked(str(value)) if isinstance(value, str | Path) else value
            for name, value in self._printable().items()
        }

    def _printable(self) -> dict[str, object]:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        hidden = [each.name for each in fields(self) if not each.repr]
        return values | {name: "***" for name in hidden if values[name] is not None}

    @property
    def embedded(self) -> bool:
        """Whether everything runs on this machine, without a server."""
        return self.server_url is None

    def exposed(self) -> "ClientConf":
        """Return these settings for where others name URLs than this machine's users.

        What was not said is refused then: addresses that only this machine or its
        network reaches, and this machine's files.
        """
        return replace(
            self,
            allow_private_addresses=self.allow_private_addresses or False,
            file_roots=self.file_roots or (),
        )

    @property
    def private_allowed(self) -> bool:
        """Whether a source may lie in a private network."""
        return self.allow_private_addresses is not False

    @property
    def readable_roots(self) -> tuple[Path, ...]:
        """The folders below which `file:` sources may lie."""
        return (Path("/"),) if self.file_roots is None else self.file_roots

    @property
    def scratch(self) -> Path:
        """The folder below which workers have their private directories."""
        return self.home / "scratch"

    @property
    def memory_per_worker(self) -> int:
        """`memory_limit`, else 90 % of this machine's memory shared by the workers."""
        return self.memory_limit or physical_memory() * 9 // 10 // self.workers

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def usable_cores() -> int:
    """Return how many cores this process may use, from 1 to 8."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, MAX_WORKERS))


def physical_memory() -> int:
    """Return the bytes of memory this machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        import psutil

        return int(psutil.virtual_memory().total)


def server_parts(server: str) -> tuple[str, str]:
    """Return (host and port, URL without trailing slash) of a server.

    A server written without a scheme is https, or http on this machine's loopback.
    """
    authority = (server.partition("://")[2] or server).partition("/")[0]
    address = authority.rpartition("@")[2]
    if "://" in server:
        return address, server.rstrip("/")
    host = address.rpartition(":")[0] or address
    scheme = "http" if is_loopback(host.strip("[]")) else "https"
    return address, f"{scheme}://{server.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def masked(text: str) -> str:
    """Return `text` with the passwords in its URLs replaced by `***`."""
    return _PASSWORD.sub(r"\1***", _USER_INFO.sub(r"\1***@", text))


def _or(path: Path, default: Path) -> Path:
    return default if path == _DERIVED else path.absolute()
