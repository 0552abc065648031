"""Commands that keep things going: work, demo."""

from datetime import datetime
from typing import TYPE_CHECKING

import click

from aero.cli import given
from aero.cli.failing import FAILED, say
from aero.cli.output import coloured
from aero.cli.progress import downloads_shown
from aero.cli.workspace import embedded
from aero.error import ClientError
from aero.stopping import StopRequest
from aero.types import Json, RunStatus

if TYPE_CHECKING:
    from aero.app import Aero

_LOOK_EVERY = 1.0
_SIGNALLED = 128


class Reporter:
    """Prints a line for every run that starts and ends here."""

    def __init__(self) -> None:
        self.failed = 0
        self.app: Aero | None = None
        self._names: dict[str, str] = {}

    def heard(self, event: str, facts: Json) -> None:
        """Take note of what the dispatcher says."""
        if event == "started":
            self._line("started", facts, "")
            return
        status = facts["status"]
        self.failed += status == RunStatus.FAILED
        self._line(status, facts, self._outcome(facts))

    def _outcome(self, facts: Json) -> str:
        made = [
            f"{self._data(data_id)}@{number}"
            for data_id, number in facts.get("new_versions", [])
        ]
        if made:
            return f"made {', '.join(made)}"
        error = " ".join(str(facts.get("error") or "").split())
        if error and facts["status"] == RunStatus.PENDING:
            return f"{error} (it is tried again)"
        return error

    def _line(self, what: str, facts: Json, outcome: str) -> None:
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        padding = " " * (10 - len(what))
        run, flow = facts["run_id"][:8], self._flow(facts["flow_id"])
        line = f"{now}  {coloured(what)}{padding}  {run}  {flow}  {outcome}"
        click.echo(line.rstrip())

    def _flow(self, flow_id: str) -> str:
        if flow_id not in self._names:
            self._names[flow_id] = self._flow_name(flow_id)
        return self._names[flow_id]

    def _flow_name(self, flow_id: str) -> str:
        if self.app is None:
            return flow_id[:8]
        try:
            flow = self.app.get_flow(flow_id, inputs_only=False)
        except ClientError:
            return flow_id[:8]
        made = ", ".join(data["name"] for data in flow["contributed_to"])
        return f"{flow['function_name'] or 'download'} -> {made or 'nothing'}"

    def _data(self, data_id: str) -> str:
        if data_id not in self._names and self.app is not None:
            self._names[data_id] = self.app.get_data(data_id)["name"]
        return self._names.get(data_id, data_id[:8])


@click.command("work")
@click.option("--once", is_flag=True, help="Stop when nothing is due or pending.")
@given.grace_option
def work_(once: bool, grace: float) -> None:
    """Run what is due and pending, until stopped by Ctrl-C or SIGTERM.

    Prints a line for every run. Stopped, it starts nothing more and lets what runs end,
    but no longer than --grace; what it has not ended then, and at a second Ctrl-C or
    SIGTERM at once, it hands back: another process, or the next one, runs it.

    Exit codes: 0 stopped as told, or with --once done; with --once also 1 if a run
    failed, and 128 + the signal's number if it was stopped before it was done.
    """
    reporter = Reporter()
    with StopRequest() as stop, embedded(listener=reporter.heard) as app:
        reporter.app = app
        app.start()
        if not once:
            say("Working; Ctrl-C stops.")
        with downloads_shown(app):
            done = _wait(app, stop, once=once)
            if not done and grace and app.engine.busy:
                say(f"Stopping: what runs has {grace:g} s to end; again stops at once.")
            app.stop(grace, hurry=lambda: stop.hurried)
    if once and not done:
        raise click.exceptions.Exit(_SIGNALLED + (stop.number or 0))
    if once and reporter.failed:
        raise click.exceptions.Exit(FAILED)


def _wait(app: "Aero", stop: StopRequest, *, once: bool) -> bool:
    """Return True once nothing is left to do, False when asked to stop."""
    while not stop.wait(0 if once else _LOOK_EVERY):
        if once and _idle(app):
            return True
    return False


def _idle(app: "Aero") -> bool:
    try:
        app.run_until_idle(_LOOK_EVERY)
    except TimeoutError:
        return False
    return True


@click.command("demo")
@click.option("--serve", is_flag=True, help="Bring the source back, until stopped.")
def demo_(serve: bool) -> None:
    """Show aero at work on real data, offline, in under a minute.

    It leaves a workspace to go on with: AERO_HOME if set, else ./aero-demo.
    """
    from aero import demo

    code = demo.main(serve=serve)
    if code:
        raise click.exceptions.Exit(code)
