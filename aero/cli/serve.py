"""The command that serves a workspace over HTTP."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from aero.cli import given
from aero.cli.failing import log_as
from aero.cli.workspace import embedded
from aero.stopping import StopRequest

if TYPE_CHECKING:
    from aero.app import Aero
    from aero.auth.base import Authenticator

log = logging.getLogger(__name__)

PORT = 7878
_PLAIN = "%(asctime)s %(levelname)s %(message)s"


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address.")
@click.option("--port", type=int, default=PORT, show_default=True, help="The port.")
@click.option(
    "--auth",
    type=click.Choice(["none", "tokens", "globus"]),
    default="none",
    show_default=True,
    help="Who is let in: everybody, on loopback only, or who has an aero token, or who "
    "is logged in at Globus.",
)
@click.option("--api-only", is_flag=True, help="Leave runs to other processes.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The file of a TLS certificate and its chain.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The file of the certificate's key.",
)
@given.grace_option
def serve_(
    *,
    host: str,
    port: int,
    auth: str,
    api_only: bool,
    certificate: Path | None,
    key: Path | None,
    grace: float,
) -> None:
    """Serve the workspace over HTTP and run what is due, until stopped.

    Logs what happens, also requests and runs, as lines of JSON; on a terminal as plain
    ones. Stopped by Ctrl-C or SIGTERM, it takes no more requests, starts nothing more
    and lets what runs end, but no longer than --grace; what it has not ended then, and
    at a second signal at once, it hands back.
    """
    from aero.config import load_conf
    from aero.config.settings import is_loopback
    from aero.server.serving import serving

    with (
        StopRequest() as stop,
        _logging(),
        embedded(exposed=not is_loopback(host)) as app,
        serving(
            app,
            host,
            port,
            authenticator=_authenticator(auth, app),
            api_only=api_only,
            certificate=certificate,
            key=key,
            grace=grace,
            hurry=lambda: stop.hurried,
        ) as url,
    ):
        if certificate is None and not is_loopback(host):
            log.warning("Without --certificate, whoever is in between can read tokens.")
        if api_only and app.settings != load_conf():
            log.warning(
                "What runs the flows must be told that others name their URLs: set "
                "allow_private_addresses = false and file_roots = [] for 'aero work'."
            )
        log.info("Serving at %s; Ctrl-C stops.", url)
        while not stop.wait(60):
            pass
        log.info("Stopping: what runs has %g s to end; again stops at once.", grace)


def _authenticator(auth: str, app: "Aero") -> "Authenticator | None":
    if auth == "tokens":
        from aero.auth.tokens import StaticTokens
        from aero.tokens import Tokens

        return StaticTokens(Tokens(app.db))
    if auth == "globus":
        from aero.auth.globus import globus_auth

        return globus_auth(app.settings)
    return None


@contextmanager
def _logging() -> Iterator[None]:
    """Log as a server does, from INFO unless the level was said."""
    from aero.server.logs import JsonLines

    log_as(logging.Formatter(_PLAIN) if sys.stderr.isatty() else JsonLines())
    ours = logging.getLogger("aero")
    before = ours.level
    group = click.get_current_context().find_root()
    if group.get_parameter_source("level") is ParameterSource.DEFAULT:
        ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.setLevel(before)
