"""Functions that fail in every way: only their own run does, and it says why."""

from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from aero.app import Aero
from aero.error import InvalidValueError
from aero.testing import make_app
from tests.faults import faulty_functions as faulty
from tests.faults.ordeal import is_one_sentence, recover, suffer
from tests.scenarios import counts

MIB = 1 << 20


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aero]:
    """A workspace with one worker process, through which everything goes."""
    home = tmp_path_factory.mktemp("functions") / "home"
    conf: dict[str, Any] = {"workers": 1, "memory_limit": 512 * MIB}
    with make_app(home, executor=None, **conf) as made:
        recover(made, flow_of(made, faulty.good))
        yield made


def flow_of(app: Aero, function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Register a flow of a function that is due when told to."""
    function_id = app.register_function(function)
    return app.register_flow(
        "local", function_id, {}, {"out": {}}, exist_ok=True, **options
    )


def grown(since: int) -> float:
    """Return by how many MiB this process has grown."""
    return max(0, psutil.Process().memory_info().rss - since) / MIB


FAULTS: dict[Callable[..., Any], tuple[str, str]] = {
    faulty.recurses: ("RecursionError", "maximum recursion depth exceeded"),
    faulty.recurses_deep: ("RecursionError", "maximum recursion depth exceeded"),
    faulty.recurses_in_c: ("FunctionDiedError", "SIGSEGV: see what it printed"),
    faulty.raises_a_chain: ("ValueError", "99999"),
    faulty.returns_a_nest: ("InvalidTypeError", "returned a list: return AeroOutput"),
    faulty.returns_100_mb: ("InvalidTypeError", "returned a dict: return AeroOutput"),
    faulty.returns_a_name_of_100_mb: ("InvalidValueError", "declared but not"),
    faulty.returns_a_path_of_100_mb: ("InvalidValueError", "no readable file"),
    faulty.raises_100_mb: ("ValueError", "xxx"),
    faulty.eats_memory: ("OutOfMemoryError", "raise the memory limit"),
    faulty.leaves: ("FunctionError", r"called sys.exit\(3\): let it return"),
    faulty.leaves_at_once: ("FunctionDiedError", "exit code 3: let it return"),
    faulty.kills_itself: ("FunctionDiedError", "SIGKILL: if memory ran out"),
    faulty.hangs: ("FunctionTimeoutError", "timeout of 0.5 s: give it more time"),
    faulty.loses_its_output: ("InvalidValueError", "'out'.* no readable file"),
    faulty.returns_a_folder: ("InvalidValueError", "'out'.* a directory"),
}


@pytest.mark.parametrize("function", FAULTS, ids=lambda each: each.__name__)
def test_only_its_own_run_fails(app: Aero, function: Callable[..., Any]) -> None:
    kind, says = FAULTS[function]
    limit = 0.5 if function is faulty.hangs else 60
    before = psutil.Process().memory_info().rss
    flow = flow_of(app, function, timeout=limit)
    run = suffer(app, flow, kind=kind, says=says, status="FAILED")
    print(f"{grown(before):.1f} MiB more, {run['error_message'][:80]}")
    assert grown(before) < 64
    assert len(run["error_message"]) + len(run["traceback"] or "") < 200_000
    assert recover(app, flow_of(app, faulty.good))["id"] != run["id"]


def test_kwargs_of_100_mb_are_refused_at_registration(app: Aero) -> None:
    before = counts(app)
    with pytest.raises(InvalidValueError, match="have 100000013 bytes") as raised:
        flow_of(app, faulty.good, kwargs={"series": "x" * 100_000_000})
    assert is_one_sentence(str(raised.value))
    assert counts(app) == before


def test_a_log_of_a_million_lines_keeps_its_end(app: Aero) -> None:
    before = psutil.Process().memory_info().rss
    run = recover(app, flow_of(app, faulty.talks))
    kept = run["log_tail"].encode()
    lines = run["log_tail"].splitlines()
    print(
        f"1,000,000 lines: {len(kept)} bytes kept in {len(lines)} lines, "
        f"{grown(before):.1f} MiB more in this process"
    )
    assert 64 * 1024 - 20 < len(kept) <= 64 * 1024
    assert lines[-2:] == ["out 499999", "err 499999"]
    assert grown(before) < 64
