"""The command that examines the workspace."""

from typing import TYPE_CHECKING

import click

from aero.cli.failing import FAILED, say
from aero.cli.output import json_option, print_array, print_table
from aero.cli.progress import progress_shown
from aero.cli.workspace import embedded

if TYPE_CHECKING:
    from aero.doctor import Diagnosis


@click.command("doctor")
@click.option(
    "--no-hash", is_flag=True, help="Do not read what is stored; see that it is there."
)
@json_option
def doctor_(no_hash: bool, as_json: bool) -> None:
    """Examine the workspace: say what is wrong and what to do, and change nothing.

    The exit code is 0 if nothing is wrong, else 1. It may run beside 'aero work'.
    """
    with embedded() as app:
        with progress_shown() as tell:
            diagnosis = app.doctor(hashing=not no_hash, tell=tell)
            (_print_json if as_json else _print)(diagnosis)
        if not as_json:
            _print_checks(diagnosis)
    if not diagnosis.healthy:
        raise click.exceptions.Exit(FAILED)


def _print_json(diagnosis: "Diagnosis") -> None:
    # What is found is printed as it is found, however much that is.
    click.echo('{"findings":')
    print_array(diagnosis)
    click.echo(',"checks":')
    print_array(diagnosis.checks)
    click.echo("}")


def _print(diagnosis: "Diagnosis") -> None:
    for found in diagnosis:
        click.echo(f"{found['check']}: {found['message']}")


def _print_checks(diagnosis: "Diagnosis") -> None:
    rows = [
        [each["check"], str(each["looked_at"]), str(each["found"]), each["about"]]
        for each in diagnosis.checks
    ]
    print_table(["check", "looked at", "found", "what should be"], rows)
    if diagnosis.healthy:
        say("Nothing is wrong.")
