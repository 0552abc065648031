"""What the benchmarks share: their engines, and the table of their figures."""

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One thing that was measured; `budget` is the most, or least, it may be."""

    what: str
    engine: str
    value: float
    unit: str
    budget: str = ""


class Figures:
    """Collects what was measured; at the end of the session it is shown and written."""

    def __init__(self) -> None:
        self.all: list[Figure] = []

    def add(
        self, what: str, value: float, unit: str, *, engine: str = "", budget: str = ""
    ) -> None:
        self.all.append(Figure(what, engine, round(value, 4), unit, budget))

    def show(self, console: Console) -> None:
        table = Table("what", "engine", "measured", "budget")
        for figure in self.all:
            measured = f"{figure.value:,.4g} {figure.unit}"
            table.add_row(figure.what, figure.engine, measured, figure.budget)
        console.print(table)

    def write(self, path: Path) -> None:
        record = {
            "at": datetime.now(UTC).isoformat(),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "cores": len(os.sched_getaffinity(0)),
            "figures": [asdict(figure) for figure in self.all],
        }
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        temporary.replace(path)


_FIGURES = pytest.StashKey[Figures]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--figures",
        default="benchmarks.json",
        type=Path,
        help="Where the benchmarks write what they measured, as JSON.",
    )


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    return pytestconfig.stash.setdefault(_FIGURES, Figures())


def pytest_terminal_summary(config: pytest.Config) -> None:
    figures = config.stash.get(_FIGURES, Figures())
    if figures.all:
        path = config.getoption("--figures")
        figures.show(Console())
        figures.write(path)
        print(f"written to {path}")


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def database_url(
    engine: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The URL of a database that does not exist yet, or is empty."""
    if engine == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('database') / 'aero.db'}"
        return
    with request.getfixturevalue("postgres").another(migrated=False) as url:
        yield url
