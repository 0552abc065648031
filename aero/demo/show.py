"""What people see of the demo: a live table or plain lines, and the last words."""

import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aero.config.demo import shell_settings
from aero.demo.board import Board
from aero.demo.publisher import Publisher
from aero.demo.session import Demo
from aero.error import AmbiguousError
from aero.provenance.tree import tree_lines
from aero.types import RunStatus

_COLOURS: dict[str, str] = {
    RunStatus.RUNNING: "yellow",
    RunStatus.SUCCEEDED: "green",
    RunStatus.UNCHANGED: "bright_black",
    RunStatus.PENDING: "yellow",
    RunStatus.FAILED: "bold red",
}


class Screen:
    """Shows a demo while it runs: live on a terminal, line by line elsewhere."""

    def __init__(self, console: Console, board: Board, publisher: Publisher) -> None:
        self._console = console
        self._board = board
        self._publisher = publisher

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep the table current on a terminal until the block ends."""
        if not self._console.is_terminal:
            yield
            return
        with Live(
            console=self._console, get_renderable=self.table, refresh_per_second=8
        ):
            yield

    def say(self, line: str) -> None:
        """Print a line as it is, never wrapped."""
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def begin(self, demo: Demo) -> None:
        """Say what is going to happen, and where."""
        if self._publisher.complete:
            self.say("The year 1849 is over: nothing is left to publish.")
        self.say(
            "Deaths from cholera in England, 1849, published week by week; the "
            f"workspace is {demo.app.settings.home}"
        )

    def serving(self, demo: Demo) -> None:
        """Say that the source is back, and how to end."""
        self.say(
            f"Serving {' and '.join(demo.publisher.urls())} for the workspace "
            f"{demo.app.settings.home} until Ctrl-C."
        )

    def stopped(self) -> None:
        """Say what became of the flows."""
        self.say("The source is gone, the demo's flows are paused.")

    def drawn(self, demo: Demo) -> None:
        """Say that the figure has caught up; a table shows that by itself."""
        if not self._console.is_terminal:
            day, polls = self._publisher.last_day(), self.unchanged()
            self.say(
                f"deaths to {day}: figure@{demo.version}, "
                f"{polls} polls so far transferred nothing"
            )

    def unchanged(self) -> int:
        """Return how many polls were answered with 304."""
        return sum(self._publisher.unchanged.values())

    def table(self) -> Table:
        """Return the flows as they are now."""
        table = Table(
            title=f"Deaths in England to {self._publisher.last_day()}",
            caption=f"{self.unchanged()} polls transferred nothing (304)",
            title_justify="left",
            caption_justify="left",
        )
        for heading in ("Flow that writes", "Policy", "Last run"):
            table.add_column(heading)
        for heading in ("Runs", "Unchanged", "Newest version"):
            table.add_column(heading, justify="right")
        for row in self._board.rows():
            status = Text(row.status, _COLOURS.get(row.status, ""))
            numbers = map(str, (row.runs, row.unchanged, row.version))
            table.add_row(row.name, row.policy, status, *numbers)
        return table

    def summary(self, demo: Demo, seconds: float) -> None:
        """Print the figure's place, its lineage, and what to try next."""
        if not self._console.is_terminal:
            self._console.print(self.table())
        name = handle(demo, "figure")
        runs = sum(row.runs for row in self._board.rows())
        self.say(
            f"\n{runs} runs in {seconds:.0f} s; {self.unchanged()} polls of the source "
            "transferred nothing (304)."
        )
        self.say(f"The figure: {demo.figure_file}")
        self.say("\nWhere it came from:")
        for line in tree_lines(demo.app.lineage(demo.figure)):
            self.say(f"  {line}")
        self.say(
            "\nThe source is gone now, so the five flows are paused; run the "
            "demo again for the next weeks."
        )
        rt = handle(demo, "cholera_rt")
        self.say("Try next:")
        for arguments in (
            f"explain {name}",
            f"get {rt} -o cholera_rt.csv",
            "demo --serve",
        ):
            self.say(f"  {command(demo, arguments)}")


def handle(demo: Demo, name: str) -> str:
    """Return the name of one of the demo's Data, its id where others have that name."""
    try:
        return str(demo.app.get_data(name)["name"])
    except AmbiguousError:
        return demo.data_id(name)


def command(demo: Demo, arguments: str) -> str:
    """Return a line that does `aero <arguments>` here, in any shell of this user."""
    settings = shell_settings(demo.app.settings)
    words = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
    return " ".join([*words, *map(shlex.quote, _program()), arguments])


def _program() -> list[str]:
    script = Path(sysconfig.get_path("scripts")) / "aero"
    if not script.exists():
        return [sys.executable, "-m", "aero"]
    # A virtual environment is active in this shell, not in the next.
    shared = sys.prefix == sys.base_prefix
    known = shutil.which("aero") if shared else None
    return ["aero" if known and Path(known).samefile(script) else str(script)]
