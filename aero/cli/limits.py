"""Commands about how many runs run at once, and which come first: set, limit."""

from typing import Any

import click

from aero.cli import given
from aero.cli.output import json_option, print_object, print_records
from aero.cli.workspace import workspace
from aero.types import Json


@click.command("set")
@click.argument("flow")
@click.option("--priority", type=int, help="Of what waits, higher runs first.")
@click.option(
    "--max-running", metavar="N|none", help="How many of its runs may run at once."
)
@given.email_option()
@given.notify_option
@json_option
def set_(
    *,
    flow: str,
    priority: int | None,
    max_running: str | None,
    email: tuple[str, ...],
    notify: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change FLOW: its priority, how many of its runs run at once, whom it tells.

    Runs that wait follow; what runs goes on. Whom it tells replaces whom it told;
    'none' is nobody.
    """
    changes: dict[str, Any] = {}
    if priority is not None:
        changes["priority"] = priority
    if max_running is not None:
        changes["max_running"] = _number(max_running)
    for name, told in {"email": email, "notify": notify}.items():
        if told:
            changes[name] = [] if told == ("none",) else list(told)
    if not changes:
        raise click.UsageError("Give --priority, --max-running, --email or --notify")
    with workspace() as app:
        record = app.set_flow(flow, **changes)
    if as_json:
        print_object(record)
        return
    most = record["max_running"] or "any number"
    click.echo(
        f"Flow {record['id']} has priority {record['priority']}, and {most} of its "
        "runs may run at once."
    )
    whom = ", ".join([*record["email"], *record["notify"]])
    if whom:
        click.echo(f"When it fails, {whom} is told.")


@click.command("limit")
@click.argument("endpoint", required=False)
@click.argument("most", metavar="[N|none]", required=False)
@json_option
def limit_(endpoint: str | None, most: str | None, as_json: bool) -> None:
    """Let at most N runs of ENDPOINT run at once; without arguments list the limits.

    The limit holds for all processes that work on the workspace together. What runs
    already goes on.
    """
    if endpoint is not None and most is None:
        raise click.UsageError("Give a number from 1 after the endpoint, or 'none'")
    with workspace() as app:
        if endpoint is None or most is None:
            _print_limits(app.limits(), as_json=as_json)
            return
        record = app.set_limit(endpoint, _number(most))
    if as_json:
        print_object(record)
    elif record["max_running"] is None:
        click.echo(f"Any number of runs of {record['endpoint']} may run at once.")
    else:
        click.echo(
            f"At most {record['max_running']} runs of {record['endpoint']} run at once."
        )


def _number(most: str) -> int | None:
    if most == "none":
        return None
    if not most.isdecimal() or int(most) < 1:
        raise click.UsageError(f"{most!r} is neither a number from 1 nor 'none'")
    return int(most)


def _print_limits(records: list[Json], *, as_json: bool) -> None:
    print_records(
        records,
        {
            "endpoint": lambda r: r["endpoint"],
            "at most": lambda r: r["max_running"],
            "running": lambda r: r["running"],
            "waiting": lambda r: r["waiting"],
        },
        as_json=as_json,
        none="No endpoint has a limit.",
        limit=0,
    )
