import json
import sys
from importlib import metadata
from types import ModuleType

import pytest

from aero import environment


@pytest.fixture
def loaded(monkeypatch):
    """Return a fresh look at packages, counting how often the table is read."""
    reads = []
    read = metadata.packages_distributions

    def counted():
        reads.append(1)
        return read()

    monkeypatch.setattr(metadata, "packages_distributions", counted)
    packages = environment._Packages()
    return packages.loaded, reads


def test_the_environment_is_json_with_versions():
    found = environment.environment()
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"python", "platform", "host", "aero", "packages"}
    assert found["packages"]["pytest"] == metadata.version("pytest")


def test_nothing_is_looked_up_again_unless_a_top_level_module_is_new(
    loaded, monkeypatch
):
    look, reads = loaded
    first = look()
    assert look() == first
    assert len(reads) == 1
    monkeypatch.setitem(sys.modules, "pytest.of_no_interest", ModuleType("x"))
    monkeypatch.setitem(sys.modules, "graphlib", ModuleType("graphlib"))
    assert look() == first
    assert len(reads) == 1
    monkeypatch.setitem(sys.modules, "installed_since", ModuleType("x"))
    assert look() == first
    assert len(reads) == 2


def test_a_package_in_the_table_is_added_without_reading_it_again(loaded, monkeypatch):
    look, reads = loaded
    for name in [name for name in sys.modules if name.partition(".")[0] == "yaml"]:
        monkeypatch.delitem(sys.modules, name)
    assert "PyYAML" not in look()
    monkeypatch.setitem(sys.modules, "yaml", ModuleType("yaml"))
    assert look()["PyYAML"] == metadata.version("PyYAML")
    assert len(reads) == 1


def test_the_caller_may_change_what_it_got(loaded):
    look, _ = loaded
    look().clear()
    assert look()


def test_damaged_distributions_are_passed_over(loaded, monkeypatch):
    look, _ = loaded
    monkeypatch.setattr(
        metadata,
        "packages_distributions",
        lambda: {"pytest": ["pytest", None, "gone-in-the-meantime"]},
    )
    assert look() == {"pytest": metadata.version("pytest")}
