from pathlib import Path

import pytest

from aero import shipped as module
from aero.shipped import shipped


@pytest.mark.parametrize("name", ["migrations", "functions"])
def test_a_checkout_has_them_beside_the_package(name):
    found = shipped(name)
    assert found.is_dir()
    assert found == Path(module.__file__).parent.parent / name


def test_an_installation_has_them_in_the_package(tmp_path, monkeypatch):
    package = tmp_path / "aero"
    (package / "_shipped" / "migrations").mkdir(parents=True)
    monkeypatch.setattr(module, "_PACKAGE", package)
    assert shipped("migrations") == package / "_shipped" / "migrations"
    assert shipped("functions") == tmp_path / "functions"
