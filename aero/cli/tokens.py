"""The commands about tokens: token create, list, revoke."""

import click

from aero.auth.base import Scope
from aero.cli.failing import say
from aero.cli.output import json_option, print_object, print_records, short, when
from aero.cli.workspace import embedded
from aero.types import Json


@click.group("token")
def token_() -> None:
    """Make, list and revoke tokens for the users of 'aero serve --auth tokens'.

    Scopes: 'read' shows what its owner may see; 'run' runs flows, notifies, cancels and
    retries; 'write' registers, changes, shares and deletes, and so lets functions run
    with the rights of the server; 'admin' is all of these for everybody's things, and
    limits, gc and audit.
    """


@token_.command("create")
@click.argument("name")
@click.option("--owner", metavar="USER", help="Who uses it.  [default: you]")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([*map(str, Scope)]),
    default=["read"],
    show_default=True,
    help="What it is good for; may be given several times.",
)
@click.option(
    "--expires",
    type=float,
    metavar="DAYS",
    help="How long it is good for.  [default: until it is revoked]",
)
@json_option
def create(
    name: str,
    owner: str | None,
    scopes: tuple[str, ...],
    expires: float | None,
    as_json: bool,
) -> None:
    """Make a token called NAME and print it, this once."""
    with embedded() as app:
        made = app.create_token(name, owner=owner, scopes=scopes, expires_days=expires)
    if as_json:
        print_object(made)
        return
    click.echo(made["token"])
    until = when(made["expires_at"]) or "it is revoked"
    say(
        f"It is {made['owner']}'s until {until}, with the scope "
        f"{', '.join(made['scopes'])}, and is not shown again: set AERO_TOKEN to it."
    )


@token_.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the tokens, without their secrets."""
    with embedded() as app:
        records = app.list_tokens()
    print_records(
        records,
        {
            "id": lambda r: short(r["id"]),
            "name": lambda r: r["name"],
            "owner": lambda r: r["owner"],
            "scopes": lambda r: ",".join(r["scopes"]),
            "state": lambda r: r["state"],
            "created": lambda r: when(r["created_at"]),
            "expires": lambda r: when(r["expires_at"]),
            "last used": lambda r: when(r["last_used_at"]),
        },
        as_json=as_json,
        none="There are no tokens.",
        limit=0,
    )


@token_.command("revoke")
@click.argument("token_id", metavar="ID")
@json_option
def revoke(token_id: str, as_json: bool) -> None:
    """Refuse the token with this ID from now on."""
    with embedded() as app:
        record: Json = app.revoke_token(token_id)
    if as_json:
        print_object(record)
    else:
        click.echo(f"{record['name']} of {record['owner']} is good for nothing now.")
