import io
import shutil
import socket
import sys
import sysconfig

import pytest
from rich.console import Console

from aero.demo import show, state
from aero.demo.board import Board
from aero.demo.publisher import Publisher
from aero.demo.state import load_state
from aero.error import ConflictError

FLOW = {
    "id": "f",
    "policy_name": "ANY",
    "contributed_to": [{"name": "rates", "available_versions": 2}],
}


@pytest.fixture
def board():
    made = Board()
    made.follow([FLOW])
    return made


def event(status, **facts):
    return {"flow_id": "f", "status": status, **facts}


def test_the_board_counts_what_ended_and_shows_what_is_new(board):
    board.heard("started", {"flow_id": "f"})
    assert board.rows()[0].status == "RUNNING"
    board.heard("ended", event("SUCCEEDED", new_versions=[["d", 3]]))
    board.heard("ended", event("UNCHANGED"))
    (row,) = board.rows()
    assert (row.status, row.runs, row.unchanged, row.version) == ("UNCHANGED", 2, 1, 3)
    assert board.failure is None


def test_other_flows_are_not_shown(board):
    board.heard("started", {"flow_id": "of somebody else"})
    assert [row.status for row in board.rows()] == [""]


def test_a_failure_is_told_but_not_what_a_newer_run_does(board):
    board.heard("ended", event("FAILED", error="superseded by a newer run: x"))
    assert board.failure is None
    board.heard("ended", event("FAILED", error="no ink"))
    board.heard("ended", event("SUCCEEDED"))
    assert board.failure == "rates: no ink"


def test_a_terminal_sees_a_table_that_lives_and_no_lines(tmp_path, board):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100)
    rows = {"a.csv": [f"1849-01-{day:02},1\n" for day in range(1, 9)]}
    with Publisher(rows, week=1, port=load_state(tmp_path).port) as publisher:
        screen = show.Screen(console, board, publisher)
        with screen.live():
            board.heard("ended", event("SUCCEEDED", new_versions=[["d", 71]]))
            screen.drawn(None)
    assert "deaths to" not in shown.getvalue()
    for text in ("rates", "ANY", "SUCCEEDED", "71", "1849-01-08"):
        assert text in shown.getvalue()


def test_outside_of_a_virtual_environment_the_name_will_do(tmp_path, monkeypatch):
    script = tmp_path / "aero"
    script.touch(mode=0o755)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(shutil, "which", lambda name: str(script))
    assert show._program() == ["aero"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert show._program() == [str(script)]


def test_without_a_script_the_package_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert show._program() == [sys.executable, "-m", "aero"]


def test_a_first_demo_takes_a_free_port(tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(state, "_PORTS", range(port, port + 1))
        monkeypatch.setattr(state.random, "sample", lambda ports, count: [*ports])
        with pytest.raises(ConflictError, match="is free: end some servers"):
            load_state(tmp_path)
