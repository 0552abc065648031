"""What one demo leaves for the next: port, week, and which flows are its own."""

import json
import os
import random
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path

from aero.demo.publisher import HOST
from aero.error import ConfigError, ConflictError

FIRST_WEEK = 26
_FILE = "demo.json"
# Below what Linux and macOS give to outgoing connections, so that it stays free.
_PORTS = range(20_000, 30_000)


@dataclass(kw_only=True)
class State:
    """What the demo remembers in its workspace.

    Attributes:
        port: Where the source is served; the flows' URLs name it.
        week: The week that is out.
        flows: The demo's flows, their ids by the name of the Data they write.
        data: The ids of these Data by name.
    """

    port: int
    week: int = FIRST_WEEK
    flows: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)

    def save(self, home: Path) -> None:
        """Write it, in one step."""
        home.mkdir(parents=True, exist_ok=True)
        temporary = home / f".{_FILE}.{os.urandom(8).hex()}"
        try:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
            temporary.replace(home / _FILE)
        finally:
            temporary.unlink(missing_ok=True)


def load_state(home: Path) -> State:
    """Return what the last demo left in `home`, or the state of a first one.

    Raises:
        ConfigError: It cannot be read.
        ConflictError: There is no free port for a first one.
    """
    file = home / _FILE
    try:
        return State(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return State(port=_free_port())
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{file} cannot be read ({error}): remove {home}, or set AERO_HOME to "
            "another folder, and the demo starts anew.",
            path=file,
        ) from error


def _free_port() -> int:
    for port in random.sample(_PORTS, 100):
        with socket.socket() as candidate:
            try:
                candidate.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ConflictError(f"No port of {HOST} is free: end some servers and try again.")
