"""Laws of what crosses to a worker: nothing given changes, JSON in is JSON out."""

import copy
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aero.formatting import aero_format
from aero.jobs import run_task
from aero.storage import open_storage
from aero.types import AeroOutput

LOCATION = "memory:property-payload"
SOURCE = """\
def fn(**kwargs):
    import os
    from pathlib import Path
    returned = []
    for name, path in kwargs.items():
        if name.startswith("in_"):
            out = Path("out_" + name.removeprefix("in_") + Path(path).suffix)
            out.write_bytes(Path(path).read_bytes()[::-1])
            returned.append(AeroOutput(out.stem, out))
    return returned
"""

names = st.text("abcdefghij", min_size=1, max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(names, inner, max_size=3)
        | st.just({"$secret": "AERO_TEST_SECRET"})
    ),
    max_leaves=8,
)


@pytest.fixture(autouse=True)
def secret_value(monkeypatch):
    monkeypatch.setenv("AERO_TEST_SECRET", "never-to-be-seen")


def stored(directory: Path, content: bytes) -> dict:
    path = directory / "put"
    path.write_bytes(content)
    found = open_storage(LOCATION).put(path)
    return {"uri": found.uri, "sha256": found.sha256, "size": found.size}


def payload_of(contents: dict[str, bytes], directory: Path) -> dict:
    return {
        "schema": 1,
        "flow_id": "f",
        "run_id": "r",
        "attempt": 1,
        "task": 0,
        "input_data": {
            f"in_{name}": {
                "file_name": f"{name}.csv",
                "storage": LOCATION,
                **stored(directory, content),
            }
            for name, content in contents.items()
        },
        "output_data": {
            f"out_{name}": {"id": name, "storage": LOCATION} for name in contents
        },
    }


def check(given: dict, done: dict, contents: dict[str, bytes], tmp_path: Path) -> None:
    assert json.loads(json.dumps(done)) == done
    for key in given.keys() - {"output_data"}:
        assert done[key] == given[key]
    assert done["output_data"].keys() == given["output_data"].keys()
    for name, content in contents.items():
        entry = done["output_data"][f"out_{name}"]
        open_storage(LOCATION).get(entry["uri"], tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == content[::-1]
        assert entry["size"] == len(content)
        assert entry["id"] == name


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    contents=st.dictionaries(names, st.binary(max_size=64), max_size=3),
    kwargs=st.dictionaries(names.map("k_".__add__), values, max_size=3),
)
def test_a_payload_comes_back_completed_and_nothing_else_changes(
    tmp_path, contents, kwargs
):
    payload = payload_of(contents, tmp_path)
    before = copy.deepcopy((payload, kwargs))
    namespace = {"AeroOutput": AeroOutput}
    exec(SOURCE, namespace)
    here = Path.cwd()
    done = aero_format(namespace["fn"])(**kwargs, aero=payload)
    assert Path.cwd() == here
    assert (payload, kwargs) == before
    assert {key: value for key, value in done.items() if key != "aero"} == kwargs
    check(payload, done["aero"], contents, tmp_path)
    assert "never-to-be-seen" not in json.dumps(done)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    contents=st.dictionaries(names, st.binary(max_size=64), max_size=3),
    kwargs=st.dictionaries(names.map("k_".__add__), values, max_size=3),
)
def test_a_task_gives_what_the_wrapper_gives(tmp_path_factory, contents, kwargs):
    directory = tmp_path_factory.mktemp("task")
    task = {
        "workdir": str(directory),
        "source": SOURCE,
        "name": "fn",
        "kwargs": kwargs,
        "aero": payload_of(contents, directory),
    }
    before = copy.deepcopy(task)
    here = Path.cwd()
    os.chdir(directory)
    try:
        result = run_task(task)
    finally:
        os.chdir(here)
    assert task == before
    assert result["error"] is None
    assert json.loads(json.dumps(result)) == result
    check(task["aero"], result["aero"], contents, directory)
    assert "never-to-be-seen" not in json.dumps(result)
