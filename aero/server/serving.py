"""Runs the REST server, with scheduler and dispatcher beside it in one process."""

import math
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn

from aero.app import Aero
from aero.auth.base import Authenticator
from aero.auth.none import NoAuthentication
from aero.config.settings import is_loopback
from aero.error import ConfigError
from aero.server.api import make_api

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: who asks from time to time meets no end."""

_SOON = 0.1
RATE_LIMIT = 100.0
"""Requests a second of each who asks, where others than this machine's users do."""


@contextmanager
def serving(
    workspace: Aero,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    authenticator: Authenticator | None = None,
    api_only: bool = False,
    certificate: Path | None = None,
    key: Path | None = None,
    grace: float = 0.0,
    hurry: Callable[[], bool] | None = None,
) -> Iterator[str]:
    """Serve a workspace while it is entered; yield the server's URL.

    Args:
        workspace: What is served.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        authenticator: Says who asks; default: nobody is asked, on loopback.
        api_only: Leave ticks and runs to other processes.
        certificate: The file of the TLS certificate and its chain.
        key: The file of its key.
        grace: The seconds that runs and requests have to end at the end; requests
            have one at least.
        hurry: Asked meanwhile, ten times a second; true ends the grace.

    Raises:
        ConfigError: The address cannot be listened on, or not without authentication.
    """
    authenticator = authenticator or NoAuthentication(workspace.owner)
    _refuse_open(host, authenticator)
    listening = _listen(host, port)
    api = make_api(workspace, authenticator, rate_limit=_rate_limit(workspace, host))
    config = uvicorn.Config(
        api,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, math.ceil(grace)),
        ssl_certfile=certificate,
        ssl_keyfile=key,
        server_header=False,
    )
    server = uvicorn.Server(config)
    thread = Thread(
        target=server.run, kwargs={"sockets": [listening]}, name="aero-server"
    )
    _ = workspace.db
    listeners = workspace.engine.listeners
    listeners.append(api.state.metrics.heard)
    if not api_only:
        workspace.start()
    thread.start()
    try:
        yield _url(listening, host, secure=certificate is not None)
    finally:
        server.should_exit = True
        if not api_only:
            workspace.stop(grace, hurry=hurry)
        while thread.is_alive():
            thread.join(_SOON)
            server.force_exit = hurry is not None and hurry()
        listening.close()
        listeners.remove(api.state.metrics.heard)


def _rate_limit(workspace: Aero, host: str) -> float:
    """Return the requests a second that each may send, 0 for any number."""
    said = workspace.settings.rate_limit
    if said is not None:
        return said
    return 0.0 if is_loopback(host) else RATE_LIMIT


def _refuse_open(host: str, authenticator: Authenticator) -> None:
    if authenticator.loopback_only and not is_loopback(host):
        raise ConfigError(
            f"Without authentication the server would let anybody in at {host}: make "
            "a token with 'aero token create NAME' and add '--auth tokens', or serve "
            "on 127.0.0.1."
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be listened on ({error.strerror}): choose another "
            "port with --port."
        ) from error
    # What accepts inherits it. asyncio would set it only on a socket of its own making.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _url(listening: socket.socket, host: str, *, secure: bool) -> str:
    name: Any = f"[{host}]" if ":" in host else host
    return f"http{'s' * secure}://{name}:{listening.getsockname()[1]}"
