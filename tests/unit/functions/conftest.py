import csv
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def work_folder(tmp_path, monkeypatch):
    """Functions write into the working directory, as a worker gives them one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write():
    def write_text(text: str, name: str = "input.csv") -> str:
        Path(name).write_text(text, encoding="utf-8")
        return name

    return write_text


@pytest.fixture
def rows_of():
    def rows(output) -> list[dict[str, str]]:
        with output.path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return rows
