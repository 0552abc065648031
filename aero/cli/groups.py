"""Commands about who is in which group, and who changed what: group, share, audit."""

from typing import Any

import click

from aero.auth.base import Role
from aero.cli.output import Cell, json_option, print_object, print_records, when
from aero.cli.runs import limit_option
from aero.cli.workspace import embedded, workspace
from aero.types import Json

_KINDS = ("data", "flow", "function")


@click.group("group")
def group_() -> None:
    """Say who belongs to which group of a server's users.

    A 'viewer' sees what is shared with the group, an 'editor' changes and runs it, too,
    and an 'admin' also deletes and shares it.
    """


@group_.command("add")
@click.argument("group")
@click.argument("member")
@click.option(
    "--role", type=click.Choice([*map(str, Role)]), default="viewer", show_default=True
)
@json_option
def add(group: str, member: str, role: str, as_json: bool) -> None:
    """Make MEMBER, the owner of a token, a member of GROUP, or change the role."""
    with embedded() as app:
        _print_member(app.add_member(group, member, role), "is now", as_json=as_json)


@group_.command("remove")
@click.argument("group")
@click.argument("member")
@json_option
def remove(group: str, member: str, as_json: bool) -> None:
    """Take MEMBER out of GROUP, from the next request on."""
    with embedded() as app:
        _print_member(app.remove_member(group, member), "was", as_json=as_json)


def _print_member(record: Json, verb: str, *, as_json: bool) -> None:
    if as_json:
        print_object(record)
    else:
        role, group = record["role"], record["group"]
        click.echo(f"{record['member']} {verb} {role} in {group}.")


@group_.command("list")
@click.argument("group", required=False)
@json_option
def list_(group: str | None, as_json: bool) -> None:
    """List the members of GROUP, or of all groups."""
    with embedded() as app:
        records = app.list_members(group)
    columns: dict[str, Cell] = {
        "group": lambda r: r["group"],
        "member": lambda r: r["member"],
        "role": lambda r: r["role"],
    }
    print_records(
        records, columns, as_json=as_json, none="There are no members.", limit=0
    )


@click.command("share")
@click.argument("ref")
@click.option("--public", is_flag=True, help="Everybody with a token sees it.")
@click.option("--group", metavar="GROUP", help="The members of this group see it.")
@click.option("--private", is_flag=True, help="Nobody but its owner sees it.")
@click.option(
    "-t",
    "--type",
    "kind",
    type=click.Choice(_KINDS),
    default="data",
    show_default=True,
    help="What REF is.",
)
@json_option
def share_(  # noqa: PLR0917 -- click gives them by name
    ref: str,
    public: bool,
    group: str | None,
    private: bool,
    kind: str,
    as_json: bool,
) -> None:
    """Say who sees REF: a data, a flow or a function, with its versions or runs.

    Sharing a flow does not share the data it uses and makes.
    """
    if [public, group is not None, private].count(True) != 1:
        raise click.UsageError("Give one of --public, --group GROUP and --private")
    with workspace() as app:
        record = app.share(kind, ref, public=public, group=group)
    if as_json:
        print_object(record)
        return
    seen = {"public": "everybody", "private": "its owner only"}
    whom = seen.get(record["visibility"], f"the group {record['group']}")
    click.echo(f"The {kind} {record['id']} is seen by {whom}.")


@click.command("audit")
@limit_option
@json_option
def audit_(limit: int | None, as_json: bool) -> None:
    """List who changed what, and when, newest first."""
    columns: dict[str, Cell] = {
        "when": lambda r: when(r["at"]),
        "who": lambda r: r["who"],
        "what": lambda r: r["what"],
        "about": lambda r: _about(r["about"]),
    }
    with workspace() as app:
        print_records(
            app.audit(),
            columns,
            as_json=as_json,
            none="Nothing was changed yet that is logged.",
            limit=limit,
        )


def _about(about: dict[str, Any]) -> str:
    shown = {k: ",".join(v) if isinstance(v, list) else v for k, v in about.items()}
    return " ".join(f"{name}={value}" for name, value in shown.items())
