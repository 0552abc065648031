"""The command group. A command's module is imported when the command is used."""

import gc
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple

import click

from aero.cli.failing import LEVELS, log_from, reporting


class Entry(NamedTuple):
    """Where a command is defined, and its line in the help."""

    module: str
    help: str


COMMANDS = {
    "demo": Entry("work", "Show aero at work on real data, offline."),
    "create": Entry("sources", "Create a source: data that is downloaded."),
    "register": Entry("flows", "Register a flow that runs a function."),
    "work": Entry("work", "Run what is due and pending, until stopped."),
    "serve": Entry("serve", "Serve the workspace over HTTP, and run what is due."),
    "run": Entry("flows", "Run a flow now."),
    "list": Entry("data", "List data, flows or provenance records."),
    "search": Entry("data", "Find data by words."),
    "get": Entry("data", "Get the bytes of a version."),
    "lineage": Entry("lineage", "Show where a version came from."),
    "provenance": Entry("lineage", "Show the record of a committed run."),
    "explain": Entry("flows", "Say why a flow did or did not run."),
    "runs": Entry("runs", "List runs."),
    "logs": Entry("runs", "Show what a run printed, and why it failed."),
    "retry": Entry("runs", "Run a failed run again, with the newest inputs."),
    "cancel": Entry("runs", "End a run; nothing of it is kept."),
    "pause": Entry("flows", "Stop starting runs of a flow."),
    "resume": Entry("flows", "Let a paused flow go on."),
    "set": Entry("limits", "Change a flow's priority or limit."),
    "limit": Entry("limits", "Limit how many runs of an endpoint run at once."),
    "delete-flows": Entry("flows", "Delete every flow that uses or makes a data."),
    "types": Entry("sources", "List source types."),
    "token": Entry("tokens", "Make, list and revoke tokens for a server's users."),
    "group": Entry("groups", "Say who is in which group of a server's users."),
    "share": Entry("groups", "Say who sees a data, a flow or a function."),
    "audit": Entry("groups", "List who changed what, and when."),
    "status": Entry("admin", "Show where things are and how they stand."),
    "doctor": Entry("doctor", "Examine the workspace, and say what is wrong."),
    "gc": Entry("admin", "Free the space of what nothing refers to."),
    "db": Entry("admin", "Look after the database."),
    "configure": Entry("admin", "Install settings from a file."),
    "logout": Entry("admin", "Forget the Globus tokens."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the group; every way it can fail is told in one sentence."""
        # What is imported and parsed here lives to the end: to look for garbage in it
        # takes a tenth of the start.
        gc.disable()
        with reporting():
            code = super().main(*args, **{**extra, "standalone_mode": False})
            raise click.exceptions.Exit(code or 0)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        """Import and return a command, or None if there is none of that name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = import_module(f"aero.cli.{entry.module}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_") + "_")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is asked for, or fail with the nearest name."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f": did you mean {near[0]!r}?" if near else "."
            ctx.fail(f"There is no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the list of commands."""
        rows: Sequence[tuple[str, str]] = [(n, e.help) for n, e in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.command(
    "aero",
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-l",
    "--log",
    "level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="WARNING",
    show_default=True,
    help="What to log on stderr; DEBUG also shows the traceback of an error.",
)
@click.option("--version", is_flag=True, help="Show the version.")
@click.pass_context
def aero(ctx: click.Context, level: str, version: bool) -> None:
    """Keep research analyses up to date and know where every result came from.

    Wherever a DATA or FLOW is asked for, its id, the first 8 or more characters of the
    id, or its name will do. Exit codes: 0 done, 1 a run failed or an error, 2 usage.
    """
    log_from(level)
    if version:
        from aero import __version__

        click.echo(__version__)
        ctx.exit()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
