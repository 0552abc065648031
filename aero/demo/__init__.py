"""`aero demo`: the real product on real data, offline, in under a minute."""

import importlib.util
import time
from typing import TYPE_CHECKING

from aero.error import ConfigError

if TYPE_CHECKING:
    from aero.demo.session import Demo
    from aero.demo.show import Screen

QUARTER = 13
"""Weeks that one demo publishes; the first one's are July to September 1849."""
BUDGET = 40.0
"""Seconds after which a demo publishes no further week."""
SERVE_EVERY = 5.0
"""Seconds between two weeks of `aero demo --serve`."""
_NEEDED = ("matplotlib", "numpy", "scipy")


def main(serve: bool = False, *, weeks: int = QUARTER) -> int:
    """Run the demo in the workspace AERO_HOME, or `./aero-demo`.

    It goes on where the last one ended; at its end its flows are paused.

    Args:
        serve: Bring source and flows back, and keep them until Ctrl-C or SIGTERM.
        weeks: How many weeks to publish at most, unless `serve`.

    Returns:
        The exit code: 0, or 130 where it was interrupted.

    Raises:
        ConfigError: What the demo's functions need is not installed.
        ConflictError: The source's port is taken.
        AeroError: A run failed.
    """
    _require_extra()
    from rich.console import Console

    from aero.app import Aero
    from aero.config.demo import demo_conf
    from aero.demo.board import Board
    from aero.demo.publisher import Publisher
    from aero.demo.series import published_rows
    from aero.demo.session import Demo
    from aero.demo.show import Screen
    from aero.demo.state import load_state
    from aero.stopping import StopRequest

    conf = demo_conf()
    state = load_state(conf.home)
    board = Board()
    with (
        StopRequest() as stop,
        Publisher(published_rows(), week=state.week, port=state.port) as publisher,
        Aero(conf, listener=board.heard) as app,
    ):
        demo = Demo(app, publisher, state, board, stop)
        screen = Screen(Console(), board, publisher)
        if serve:
            _serve(demo, screen)
            return 0
        return _publish(demo, screen, weeks)


def _require_extra() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"The demo's functions need {', '.join(missing)}: "
            "pip install 'aero-orchestrator[demo]'.",
            missing=missing,
        )


def _publish(demo: "Demo", screen: "Screen", weeks: int) -> int:
    began = time.monotonic()
    screen.begin(demo)
    with demo.running(), screen.live():
        _caught_up(demo, screen)
        for _ in range(weeks):
            late = time.monotonic() - began > BUDGET
            if late or demo.publisher.complete or demo.stop.is_set():
                break
            demo.await_unchanged()
            demo.advance()
            _caught_up(demo, screen)
    if demo.stop.is_set():
        screen.stopped()
        return 130
    screen.summary(demo, time.monotonic() - began)
    return 0


def _serve(demo: "Demo", screen: "Screen") -> None:
    screen.serving(demo)
    with demo.running(), screen.live():
        _caught_up(demo, screen)
        while not demo.stop.wait(SERVE_EVERY):
            if not demo.publisher.complete:
                demo.advance()
                _caught_up(demo, screen)
    screen.stopped()


def _caught_up(demo: "Demo", screen: "Screen") -> None:
    demo.catch_up()
    if not demo.stop.is_set():
        screen.drawn(demo)
