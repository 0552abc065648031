"""One demo from bringing source and flows up to pausing them again."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aero.app import Aero
from aero.demo import flows
from aero.demo.board import Board
from aero.demo.publisher import Publisher
from aero.demo.state import State
from aero.error import AeroError, NotFoundError
from aero.stopping import StopRequest

PATIENCE = 120.0
"""Seconds after which something that should have happened will not."""
_LAST_RUNS = 10.0
_LOOK = 0.1


class Demo:
    """The demo's source and flows in a workspace.

    Args:
        app: The workspace.
        publisher: The source.
        state: What is remembered for the next demo.
        board: Hears from `app`.
        stop: Is set when the user wants to end.
    """

    def __init__(
        self,
        app: Aero,
        publisher: Publisher,
        state: State,
        board: Board,
        stop: StopRequest,
    ) -> None:
        self.app = app
        self.publisher = publisher
        self.board = board
        self.stop = stop
        self.version = 0
        self._state = state
        self._home = app.settings.home

    @property
    def figure(self) -> str:
        """The id of the figure's Data."""
        return self.data_id(flows.FIGURE)

    def data_id(self, name: str) -> str:
        """Return the id of one of the demo's Data."""
        return self._state.data[name]

    @property
    def figure_file(self) -> Path:
        """Where a copy of the newest figure lies."""
        return self._home / "figure.png"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let source and flows run until the block ends, however it does."""
        try:
            flows.bring_up(self.app, self._state, self._home)
            self.board.follow(
                [
                    self.app.get_flow(flow, inputs_only=False)
                    for flow in self._state.flows.values()
                ]
            )
            self.app.start()
            yield
        finally:
            self._wind_down()

    def _wind_down(self) -> None:
        """Poll no more, let what was polled be analysed, pause everything."""
        flows.pause(self.app, self._state, sources=True)
        with suppress(TimeoutError):
            self.app.run_until_idle(_LAST_RUNS)
        flows.pause(self.app, self._state, sources=False)
        self.app.stop()

    def catch_up(self) -> None:
        """Wait until the figure shows what is published, then copy it.

        Raises:
            AeroError: A run failed, or that took too long.
        """
        published = self.publisher.sha256s()
        self._await(lambda: self._drawn_from(published), "the figure to be drawn")
        if not self.stop.is_set():
            record = self.app.fetch_version(self.figure, self.figure_file)
            self.version = int(record["version"])

    def await_unchanged(self) -> None:
        """Wait until both sources were polled once more and had nothing new."""
        before = self.publisher.unchanged
        self._await(
            lambda: all(n > before[f] for f, n in self.publisher.unchanged.items()),
            "a poll of the source",
        )

    def advance(self) -> None:
        """Publish one more week and remember it."""
        self._state.week += 1
        self._state.save(self._home)
        self.publisher.advance()

    def _drawn_from(self, published: set[str]) -> bool:
        """Whether the figure shows what is published; draw it if nothing else will.

        A figure that was drawn when one estimate was a week ahead has used that week,
        and by its policy waits for the next of both.
        """
        flow = self._state.flows[flows.FIGURE]
        # In this order: the last estimate is committed together with the figure's run,
        # which waits or runs until the figure is committed.
        estimates = [self._sources(self.data_id(name)) for name in flows.ESTIMATES]
        living = flows.has_living_run(self.app, flow)
        if self._sources(self.figure) == published:
            return True
        if not living and all(estimates) and set().union(*estimates) == published:
            self.app.run_flow(flow, wait=False)
        return False

    def _sources(self, data: str) -> set[str]:
        """Return the SHA-256 of what the newest version was made from, at its roots."""
        try:
            lineage = self.app.lineage(data)
        except NotFoundError:
            return set()
        sources = [node["source"] for node in lineage.nodes.values()]
        return {source["sha256"] for source in sources if source}

    def _await(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.stop.is_set():
            if holds():
                return
            if self.board.failure is not None:
                raise AeroError(
                    f"A run of the demo failed ({self.board.failure}): 'aero runs' and "
                    "'aero logs' say more."
                )
            if time.monotonic() > deadline:
                raise AeroError(
                    f"Waited {PATIENCE:g} s for {what}, in vain: 'aero explain figure' "
                    "may say why; run 'aero demo' again to go on."
                )
            self.stop.wait(_LOOK)
