"""Users of a server, each with a role in one group, and what one of them owns there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aero import AeroOutput
from aero.app import Aero
from aero.auth.base import Identity, Scope
from aero.auth.tokens import StaticTokens
from aero.client import AeroClient
from aero.server.serving import serving
from aero.tokens import Tokens
from tests.conftest import Publisher

GROUP = "lab"
USED = ["read", "run", "write"]
SCOPES = frozenset(Scope(name) for name in USED)


@contextmanager
def guarded(app: Aero, *, api_only: bool = True) -> Iterator[str]:
    """Serve a workspace to who has a token."""
    guard = StaticTokens(Tokens(app.db))
    with serving(app, authenticator=guard, api_only=api_only) as url:
        yield url


def token(app: Aero, owner: str, *scopes: str) -> str:
    return str(app.create_token("t", owner=owner, scopes=scopes or USED)["token"])


@contextmanager
def client(url: str, app: Aero, owner: str, *scopes: str) -> Iterator[AeroClient]:
    """Give a client of one user."""
    with AeroClient(url, token=token(app, owner, *scopes)) as made:
        yield made


def acting(app: Aero, owner: str) -> Aero:
    """Return the workspace as a user without administration sees it."""
    return app.acting_as(Identity(id=owner, name=owner, scopes=SCOPES))


def join(app: Aero, **roles: str) -> None:
    """Give users their roles in the group."""
    for member, role in roles.items():
        app.add_member(GROUP, member, role)


def copied(cases):
    from pathlib import Path

    Path("copy.txt").write_text(Path(cases).read_text())
    return AeroOutput("copy", "copy.txt")


@dataclass(frozen=True)
class Things:
    """What somebody owns: a typed source that was ingested, and a function."""

    data: str
    flow: str
    function: str
    run: str
    prov: str
    name: str
    url: str


def own(
    app: Aero,
    publisher: Publisher,
    owner: str,
    name: str,
    function: Any = copied,
    **shared: Any,
) -> Things:
    """Let a user make these things, shared as asked, and ingest them."""
    mine = acting(app, owner)
    url = publisher.publish(f"at-{name}.csv", f"content {name[::-1]}")
    made = mine.create_source(
        name, url, type_name=f"type-{name}", description=f"about {name}", **shared
    )
    run = mine.notify(file_id=made["id"])["id"]
    code = mine.register_function(function, description=f"does {name}", **shared)
    app.run_until_idle()
    return Things(
        data=made["id"],
        flow=made["flow_id"],
        function=code,
        run=run,
        prov=mine.get_provenance(run)["id"],
        name=name,
        url=url,
    )
