"""Commands about sources: create, types."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aero.cli import given
from aero.cli.failing import say
from aero.cli.output import json_option, on_terminal, print_array, print_object
from aero.cli.workspace import say_what_waits, workspace
from aero.error import NotFoundError
from aero.types import Json, PolicyEnum

if TYPE_CHECKING:
    from aero.api import Workspace

_PATTERN = set("*?[")


@click.command("create")
@given.file_option
@click.option("-n", "--name", help="Its name.")
@click.option("-u", "--url", help="Where it is published.")
@click.option("-c", "--collection-url", help="HTTPS address of a Globus collection.")
@click.option("-C", "--collection-uuid", help="The collection to store it in.")
@click.option("-g", "--endpoint-uuid", help="Where it is downloaded; default: local.")
@click.option("-t", "--timer", type=float, help="Seconds between two downloads.")
@click.option("-p", "--policy", help="INGESTION_EVENT (default) or INGESTION.")
@given.kwargs_option
@click.option("-d", "--description", help="What it is.")
@click.option("-v", "--verifier", help="The id of a function that cleans downloads.")
@click.option("--function", help="Register this function for that: FILE.py:NAME.")
@click.option("--type", "type", help="The type to group it under.")
@click.option("--no-copy", is_flag=True, help="Record versions, store no bytes.")
@click.option("--output", help="What the function calls it; default: the name.")
@click.option("--cron", help="When to download, such as '0 6 * * 1-5'.")
@click.option("--poll-delay", type=float, help=given.POLL_HELP)
@click.option("--timezone", help="The time zone of --cron; default: UTC.")
@click.option("--retries", type=int, help="How often a failed function is tried again.")
@click.option("--timeout", type=float, help="Seconds a run may take.")
@click.option("--priority", type=int, help="Of what waits, higher runs first.")
@click.option("--max-running", type=int, help="How many of its runs may run at once.")
@click.option("--tag", "tags", multiple=True, help="To find it by. Repeatable.")
@click.option("--public", is_flag=True, help="Everybody sees it.")
@click.option("--group", help="The members of this group see it.")
@click.option("--exist-ok", is_flag=True, help="An equal source that exists will do.")
@given.email_option("-e")
@given.notify_option
@click.option("-m", "--modifier", help="Ignored; taken for older scripts.")
@json_option
@given.pairs_argument
def create_(
    file: Path | None,
    kwargs: tuple[str, ...],
    pairs: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """Create a source: data that is downloaded from a URL.

    A URL for a --type that exists is added to it, and needs nothing else.

    The YAML file's keys are the long names of these flags.
    """
    found = given.merged(file, flags, ["kwargs", "function_uuid"])
    if found.get("function") and not flags["function"]:
        found["function"] = given.beside(file, str(found["function"]))
    found["kwargs"] = given.kwargs_of(found.get("kwargs"), (*kwargs, *pairs))
    found["policy"] = given.policy_of(found.get("policy"), PolicyEnum.INGESTION_EVENT)
    _say_what_is_ignored(found)
    with workspace() as app:
        record = _added_to_type(app, found) or _create(app, found)
        if as_json:
            print_object(record)
        else:
            _print_created(record)
        say_what_waits(app)


def _say_what_is_ignored(found: dict[str, Any]) -> None:
    if found.pop("modifier", None) is not None:
        say("Warning: --modifier was ignored: clean the data with --verifier instead.")


def _added_to_type(app: "Workspace", found: dict[str, Any]) -> Json | None:
    """Add the URL to its type and return the type, if there is such a type."""
    if not (found.get("type") and found.get("url")):
        return None
    try:
        app.get_source_type(found["type"])
    except NotFoundError:
        return None
    return app.add_type_url(found["type"], found["url"])


def _create(app: "Workspace", found: dict[str, Any]) -> Json:
    missing = [f"--{key}" for key in ("name", "url") if not found.get(key)]
    if missing:
        raise click.UsageError(f"Give {' and '.join(missing)}, as flags or in --file")
    function = found.pop("function_uuid", None)
    function = found.pop("verifier", function)
    in_file = found.pop("function", None)
    if in_file is not None:
        if function is not None:
            raise click.UsageError("Give either --function or --verifier")
        shared = {key: found[key] for key in ("public", "group") if key in found}
        function = app.register_function(given.load_function(in_file), **shared)
    return app.create_source(
        found.pop("name"),
        found.pop("url"),
        function_uuid=function,
        type_name=found.pop("type", None),
        timer_delay=found.pop("timer", None),
        **found,
    )


def _print_created(record: Json) -> None:
    from aero.api import source_id

    data_id = source_id(record)
    pasted = record.get("input_data") or {"name": {"id": data_id, "version": None}}
    click.echo(f"Source {data_id}")
    if on_terminal():
        click.echo("Its entry in a flow's input_data:")
    click.echo(json.dumps(pasted))


@click.command("types")
@json_option
def types_(as_json: bool) -> None:
    """List source types, their data and their URLs."""
    with workspace() as app:
        found = list(app.list_source_types())
    if as_json:
        print_array(found)
        return
    if not found:
        say("There are no source types: 'aero create --type NAME' makes one.")
    for record in found:
        click.echo(f"{record['name']}  data id {record['data_id']}")
        for each in record["urls"]:
            kind = "pattern" if _PATTERN & set(each["object_key"]) else "object"
            click.echo(f"  {kind}  {each['url']}")
