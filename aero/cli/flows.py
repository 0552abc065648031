"""Commands about flows: register, run, explain, pause, resume, delete-flows."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aero.cli import given
from aero.cli.failing import FAILED, say
from aero.cli.output import (
    coloured,
    json_option,
    print_array,
    print_fields,
    print_object,
    print_records,
    short,
    when,
)
from aero.cli.progress import downloads_shown
from aero.cli.workspace import say_what_waits, workspace
from aero.types import LOCAL, Json, PolicyEnum, RunStatus

if TYPE_CHECKING:
    from aero.api import Workspace

_DONE = {RunStatus.SUCCEEDED, RunStatus.UNCHANGED}
_IN_FILE_ONLY = ("input_data", "output_data")


@click.command("register")
@given.file_option
@click.option(
    "-e", "--endpoint-uuid", help=f"Where it runs; default: {LOCAL}, this machine."
)
@click.option("-u", "--function-uuid", help="The id of a registered function.")
@click.option("--function", help="Register this function: FILE.py:NAME.")
@click.option("-p", "--policy", help="When it runs, by name or number; default: ANY.")
@given.kwargs_option
@click.option("-d", "--description", help="What it is for.")
@click.option(
    "-i",
    "--input",
    "inputs",
    metavar="NAME=DATA[@VERSION]",
    multiple=True,
    help="An input, by the name of the function's parameter. Repeatable.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    metavar="NAME[=URL]",
    multiple=True,
    help="An output, by the name of its AeroOutput, or a download. Repeatable.",
)
@click.option("--config", help="A JSON list of kwargs: one run for each.")
@click.option("-t", "--timer", type=float, help="Seconds between two runs.")
@click.option("--cron", help="A cron line, such as '0 6 * * 1-5'.")
@click.option("--poll-delay", type=float, help=given.POLL_HELP)
@click.option("--timezone", help="The time zone of --cron; default: UTC.")
@click.option("--retries", type=int, help="How often a failed function is tried again.")
@click.option("--timeout", type=float, help="Seconds a run may take.")
@click.option("--priority", type=int, help="Of what waits, higher runs first.")
@click.option("--max-running", type=int, help="How many of its runs may run at once.")
@click.option("--tag", "tags", multiple=True, help="To find outputs by. Repeatable.")
@click.option("--storage", help="Where the outputs' bytes live.")
@click.option("--public", is_flag=True, help="Everybody sees it.")
@click.option("--group", help="The members of this group see it.")
@given.email_option()
@given.notify_option
@click.option("--exist-ok", is_flag=True, help="An equal flow that exists will do.")
@json_option
@given.pairs_argument
def register_(  # noqa: PLR0917 -- click gives them by name
    file: Path | None,
    kwargs: tuple[str, ...],
    pairs: tuple[str, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """Register a flow: a standing rule that runs a function.

    The YAML file's keys are the long names of these flags, and input_data and
    output_data as in Python.
    """
    found = given.merged(file, flags, [*_IN_FILE_ONLY, "kwargs"])
    found["kwargs"] = given.kwargs_of(found.get("kwargs"), (*kwargs, *pairs))
    found["policy"] = given.policy_of(found.get("policy"), PolicyEnum.ANY)
    found["input_data"] = {**_mapping(found, "input_data"), **_inputs(inputs)}
    found["output_data"] = {**_mapping(found, "output_data"), **_outputs(outputs)}
    _resolve_paths(found, None if flags["function"] else file, "function")
    _resolve_paths(found, None if flags["config"] else file, "config")
    with workspace() as app:
        record = _register(app, found)
        if as_json:
            print_object(record)
        else:
            _print_registered(record)
        say_what_waits(app)


def _register(app: "Workspace", found: dict[str, Any]) -> Json:
    endpoint = found.pop("endpoint_uuid", LOCAL)
    function = found.pop("function_uuid", None)
    in_file = found.pop("function", None)
    if in_file is not None:
        if function is not None:
            raise click.UsageError("Give either --function or --function-uuid")
        shared = {key: found[key] for key in ("public", "group") if key in found}
        function = app.register_function(given.load_function(in_file), **shared)
    found["timer_delay"] = found.pop("timer", None)
    return app.register_flow(endpoint, function, **found)


def _mapping(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key) or {}
    if not isinstance(value, Mapping):
        raise click.UsageError(f"{key} in the file is not a mapping of names to values")
    return {name: {} if entry is None else entry for name, entry in value.items()}


def _inputs(texts: tuple[str, ...]) -> dict[str, Json]:
    found = {}
    for text in texts:
        name, equals, ref = text.partition("=")
        data, at, version = ref.rpartition("@")
        if not equals or not ref or (at and not version.isdigit()):
            raise click.UsageError(f"--input {text!r} is not NAME=DATA or NAME=DATA@3")
        found[name] = {"id": data, "version": int(version)} if at else {"id": ref}
    return found


def _outputs(texts: tuple[str, ...]) -> dict[str, Json]:
    pairs = (text.partition("=") for text in texts)
    return {name: {"url": url} if url else {} for name, _, url in pairs}


def _resolve_paths(found: dict[str, Any], file: Path | None, key: str) -> None:
    if found.get(key) is not None:
        found[key] = given.beside(file, str(found[key]))


def _print_registered(record: Json) -> None:
    click.echo(f"Flow {record['id']} is registered ({record['policy_name']}).")
    for made in record["contributed_to"]:
        click.echo(f"It makes {made['name']}: data id {made['id']}")


@click.command("run")
@click.argument("flow")
@click.option("--no-wait", is_flag=True, help="Leave the run to 'aero work'.")
@json_option
def run_(flow: str, no_wait: bool, as_json: bool) -> None:
    """Run FLOW now; exits with 1 unless it succeeds."""
    with workspace(listener=_say_tried_again) as app:
        with downloads_shown(app):
            record = app.run_flow(flow, wait=not no_wait)
        if as_json:
            print_object(record)
        else:
            for run in record["runs"]:
                _print_run(run)
        say_what_waits(app)
    if not no_wait and any(run["status"] not in _DONE for run in record["runs"]):
        raise click.exceptions.Exit(FAILED)


def _say_tried_again(event: str, facts: Json) -> None:
    if event == "ended" and facts["status"] == RunStatus.PENDING:
        say(f"{facts['error']} (it is tried again)")


def _print_run(run: Json) -> None:
    task = f", task {run['task']}" if run["task"] else ""
    click.echo(f"{coloured(run['status'])}  run {run['id']}{task}")
    if run["error_message"]:
        say(f"{run['error_type']}: {run['error_message']}")
    if run["status"] == RunStatus.FAILED:
        say(f"'aero logs {run['id'][:8]}' shows what it printed.")


@click.command("explain")
@click.argument("flow")
@json_option
def explain_(flow: str, as_json: bool) -> None:
    """Say why FLOW did or did not run, and what it waits for."""
    with workspace() as app:
        record = app.explain(flow)
        if as_json:
            print_object(record)
        else:
            _print_explained(record)
        say_what_waits(app)


def _print_explained(record: Json) -> None:
    click.echo(record["reason"])
    last, error = record["last_run"], record["last_error"]
    print_fields(
        {
            "flow": record["flow_id"],
            "description": record["description"] or None,
            "policy": record["policy"],
            "next due": when(record["next_due"]) or None,
            "last executed": when(record["last_executed"]) or None,
            "last run": last and f"{last['id']} {last['status']}",
            "last error": error and f"{error['type']}: {error['message']}",
            "failing since": when(record["failing_since"]) or None,
        }
    )
    for notice in record["undelivered"]:
        say(_undelivered(notice))
    if record["inputs"]:
        print_records(
            record["inputs"],
            {
                "input": lambda r: r["name"],
                "data": lambda r: r["data_name"] or "(hidden)",
                "pinned": lambda r: r["pinned"],
                "newest": lambda r: r["latest"],
                "used": lambda r: r["consumed"],
                "newer": lambda r: "yes" if r["newer"] else "no",
            },
            as_json=False,
            none="",
            limit=0,
        )


def _undelivered(notice: Json) -> str:
    again = when(notice["next_attempt"])
    then = f"next attempt {again}" if again else "given up"
    return (
        f"{notice['target']} was not told that run {short(notice['run_id'])} "
        f"{notice['kind']} ({notice['attempts']} attempts, {then}): {notice['error']}"
    )


@click.command("pause")
@click.argument("flow")
@click.option("--reason", help="Why; 'aero explain' repeats it.")
@json_option
def pause_(flow: str, reason: str | None, as_json: bool) -> None:
    """Stop starting runs of FLOW; what runs goes on."""
    with workspace() as app:
        _print_changed(app.pause_flow(flow, reason), "is paused", as_json=as_json)


@click.command("resume")
@click.argument("flow")
@json_option
def resume_(flow: str, as_json: bool) -> None:
    """Let the paused FLOW go on."""
    with workspace() as app:
        _print_changed(app.resume_flow(flow), "goes on", as_json=as_json)
        say_what_waits(app)


def _print_changed(record: Json, what: str, *, as_json: bool) -> None:
    if as_json:
        print_object(record)
    else:
        click.echo(f"Flow {record['id']} {what}.")


@click.command("delete-flows")
@click.argument("data_id")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def delete_flows_(data_id: str, yes: bool, as_json: bool) -> None:
    """Delete every flow that uses or makes the data DATA_ID.

    The data, its versions and their provenance stay.
    """
    with workspace() as app:
        if not yes:
            _confirm(app.get_data_flows(data_id))
        deleted = app.delete_data_flows(data_id)
    if as_json:
        print_array(deleted)
        return
    for entry in deleted:
        click.echo(f"Deleted the {entry['role']} flow {entry['flow_id']}.")
    if not deleted:
        say(f"No flow uses or makes {data_id}.")


def _confirm(entries: list[Json]) -> None:
    for entry in entries:
        say(
            f"{entry['role']:<10} {short(entry['flow_id'])} {entry['policy_name']} "
            f"{entry['description']}".rstrip()
        )
    try:
        agreed = not entries or click.confirm("Delete these flows?", err=True)
    except click.Abort:
        agreed = False
    if not agreed:
        say("Nothing was deleted; --yes deletes without asking.")
        raise click.exceptions.Exit(FAILED)
