"""Commands about runs: runs, logs, cancel, retry."""

import click

from aero.cli.failing import say
from aero.cli.output import (
    coloured,
    json_option,
    print_object,
    print_records,
    short,
    when,
)
from aero.cli.workspace import say_what_waits, workspace
from aero.types import Json, RunStatus

limit_option = click.option(
    "--limit",
    type=click.IntRange(min=0),
    help="How many at most; 0: all. Default: all, on a terminal 50.",
)


@click.command("runs")
@click.argument("flow", required=False)
@click.option(
    "--status",
    type=click.Choice(list(RunStatus), case_sensitive=False),
    help="Only runs of that status.",
)
@limit_option
@json_option
def runs_(
    flow: str | None, status: str | None, limit: int | None, as_json: bool
) -> None:
    """List runs, of FLOW if given, newest first."""
    with workspace() as app:
        print_records(
            app.list_runs(flow, None if status is None else str(status)),
            {
                "run": lambda r: short(r["id"]),
                "flow": lambda r: short(r["flow_id"]),
                "status": lambda r: r["status"],
                "trigger": lambda r: r["trigger_kind"],
                "try": lambda r: r["attempt"],
                "created": lambda r: when(r["created_at"]),
                "finished": lambda r: when(r["finished_at"]),
                "error": lambda r: r["error_type"],
            },
            as_json=as_json,
            none="There are no such runs.",
            limit=limit,
        )


@click.command("logs")
@click.argument("run")
@json_option
def logs_(run: str, as_json: bool) -> None:
    """Show what the function of RUN printed, and its traceback if it failed."""
    with workspace() as app:
        record = app.get_run(run)
    if as_json:
        print_object(record)
        return
    if record["log_tail"]:
        click.echo(record["log_tail"].rstrip("\n"))
    if record["traceback"]:
        click.echo(record["traceback"].rstrip("\n"))
    elif record["error_message"]:
        click.echo(f"{record['error_type']}: {record['error_message']}")
    if not (record["log_tail"] or record["error_message"]):
        say(f"Run {record['id']} is {record['status']} and printed nothing.")


@click.command("cancel")
@click.argument("run")
@json_option
def cancel_(run: str, as_json: bool) -> None:
    """End RUN as CANCELLED; what it does is stopped, and nothing of it is kept."""
    with workspace() as app:
        _print(app.cancel_run(run), as_json=as_json)


@click.command("retry")
@click.argument("run")
@json_option
def retry_(run: str, as_json: bool) -> None:
    """Let the failed, cancelled or skipped RUN run again, with the newest inputs."""
    with workspace() as app:
        _print(app.retry_run(run), as_json=as_json)
        say_what_waits(app)


def _print(record: Json, *, as_json: bool) -> None:
    if as_json:
        print_object(record)
    else:
        click.echo(f"Run {record['id']} is {coloured(record['status'])}.")
