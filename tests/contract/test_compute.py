"""The compute port's contract, over every adapter."""

from concurrent.futures import Executor
from itertools import count
from pathlib import Path

import pytest

from aero.compute.inline import InlineExecutor
from aero.compute.local import LocalExecutor
from aero.error import (
    FunctionError,
    InvalidTypeError,
    InvalidValueError,
    OutOfMemoryError,
    SourceError,
    StorageError,
)
from tests import compute_functions as functions

MAKERS = {"local": lambda: LocalExecutor(1), "inline": InlineExecutor}
PATIENCE = 30


@pytest.fixture(scope="module", params=sorted(MAKERS))
def executor(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AERO_TEST_SECRET", "hunter2")
        with MAKERS[request.param]() as executor:
            yield executor


@pytest.fixture
def task(tmp_path):
    numbers = count()
    yield lambda **more: {"workdir": str(tmp_path / f"work{next(numbers)}"), **more}
    assert not list(tmp_path.iterdir())


def error_of(future, kind):
    error = future.exception(PATIENCE)
    assert type(error) is kind
    return error


def test_returns_what_the_function_returns_and_its_log(executor, task):
    result = executor.submit(functions.echo, task(value=[1, None, "ä"])).result(
        PATIENCE
    )
    assert result.pop("pid")
    assert result == {"got": [1, None, "ä"], "log_tail": ""}


def test_is_an_executor(executor):
    assert isinstance(executor, Executor)


def test_works_in_a_private_directory_that_goes(executor, task):
    given = task()
    result = executor.submit(functions.where, given).result(PATIENCE)
    assert result["mode"] == 0o700
    assert result["cwd"] == result["tmpdir"] == result["tempfile"] == given["workdir"]


def test_leaves_directory_and_environment_of_the_caller_alone(executor, task):
    before = Path.cwd()
    executor.submit(functions.where, task()).result(PATIENCE)
    assert Path.cwd() == before


def test_keeps_what_was_printed(executor, task):
    result = executor.submit(functions.speak, task()).result(PATIENCE)
    assert result["log_tail"] == "said\ntold\n"


def test_keeps_the_end_of_a_long_log(executor, task):
    result = executor.submit(functions.speak_much, task()).result(PATIENCE)
    assert result["log_tail"].endswith("999998\n999999\n")
    assert len(result["log_tail"]) == 64 * 1024


def test_masks_secrets(executor, task):
    secrets = ["AERO_TEST_SECRET", "AERO_TEST_MISSING"]
    told = executor.submit(functions.tell_secret, task(secrets=secrets))
    assert told.result(PATIENCE)["log_tail"] == "before *** after\n"
    raised = executor.submit(functions.raise_secret, task(secrets=secrets))
    error = error_of(raised, FunctionError)
    assert "***" in str(error)
    assert "hunter2" not in f"{error} {error.facts}"


def test_raises_function_error_for_any_exception(executor, task):
    error = error_of(executor.submit(functions.raise_key, task()), FunctionError)
    assert error.error_type == "KeyError"
    assert error.error_message == "'no such column'"
    assert "in raise_key" in error.traceback
    assert error.log_tail == "was here\n"


def test_raises_errors_of_aero_as_they_are(executor, task):
    error = error_of(executor.submit(functions.raise_aero, task()), SourceError)
    assert str(error) == "The source is gone."
    assert error.status == 410
    assert error.log_tail == ""
    client = executor.submit(functions.raise_client, task())
    assert error_of(client, InvalidValueError).code == 418


@pytest.mark.parametrize("name", ["raise_odd", "raise_stranger", "return_list"])
def test_survives_odd_errors_and_results(executor, task, name):
    error = error_of(executor.submit(getattr(functions, name), task()), FunctionError)
    assert error.error_type in {"OddError", "StrangerError", "TypeError"}


def test_refuses_a_result_that_is_not_json(executor, task):
    future = executor.submit(functions.return_object, task())
    assert error_of(future, FunctionError).error_type == "TypeError"


def test_tells_memory_from_other_errors(executor, task):
    error_of(executor.submit(functions.raise_memory, task()), OutOfMemoryError)


def test_sys_exit_fails_only_its_own_run(executor, task):
    future = executor.submit(functions.leave_by_sys_exit, task())
    assert "sys.exit(3)" in str(error_of(future, FunctionError))
    assert executor.submit(functions.echo, task(value=1)).result(PATIENCE)["got"] == 1


def test_refuses_functions_without_an_importable_name(executor, task):
    with pytest.raises(InvalidTypeError, match="importable"):
        executor.submit(lambda task: task, task())


def test_refuses_tasks_it_cannot_carry(executor, task):
    with pytest.raises(InvalidTypeError, match="not JSON"):
        executor.submit(functions.echo, task(value={1}))
    with pytest.raises(InvalidValueError, match="absolute"):
        executor.submit(functions.echo, {"workdir": "here"})
    with pytest.raises(InvalidValueError, match="seconds"):
        executor.submit(functions.echo, task(timeout=0))


def test_fails_where_the_directory_cannot_be_made(executor, tmp_path):
    (tmp_path / "taken").mkdir()
    for name in ("taken", "missing/deep"):
        future = executor.submit(functions.speak, {"workdir": str(tmp_path / name)})
        error_of(future, StorageError)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_takes_nothing_after_shutdown(name, task):
    executor = MAKERS[name]()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(functions.echo, task(value=1))
