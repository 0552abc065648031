"""Functions and short cuts for scenarios that go through the public API."""

import textwrap
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from aero import Aero, AeroOutput, scheduling
from aero.db.base import Base
from aero.testing import make_app


class Held(Executor):
    """Never answers."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return Future()


def upper(cases):
    """Write what was given in capitals."""
    from pathlib import Path

    Path("out.txt").write_text(Path(cases).read_text().upper())
    print("capitals written")
    return AeroOutput("cases", "out.txt")


def length(cases, factor=1):
    """Write how many bytes there are, times a factor."""
    from pathlib import Path

    Path("n.txt").write_text(str(len(Path(cases).read_bytes()) * factor))
    return AeroOutput("n", "n.txt")


def constant(cases):
    """Write the same thing whatever comes in."""
    from pathlib import Path

    Path("same.txt").write_text("the same")
    return AeroOutput("n", "same.txt")


def both(a, b):
    """Write two files one after the other."""
    from pathlib import Path

    Path("both.txt").write_text(Path(a).read_text() + Path(b).read_text())
    return AeroOutput("joined", "both.txt")


def failing(cases):
    """Always fail."""
    print("about to fail")
    raise ValueError("no good")


def tick():
    """Write nothing."""
    return None


def written(path: Path, name: str, body: str, parameters: str = "") -> Any:
    """Write a module with one function to disk and return the function.

    For functions that hold a path of this test, since a closure is refused.
    """
    import importlib.util

    source = f"from aero import AeroOutput\n\n\ndef {name}({parameters}):\n"
    file = path / f"module_{name}.py"
    file.write_text(source + textwrap.indent(textwrap.dedent(body), "    "))
    spec = importlib.util.spec_from_file_location(f"module_{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def source(app: Aero, url: str, name: str = "cases", **options: Any) -> dict[str, Any]:
    """Register a flow that stores what it downloads, by hand unless told otherwise."""
    options.setdefault("policy", "NONE")
    return app.register_flow("local", None, {}, {name: {"url": url}}, **options)


def analysis(
    app: Aero,
    function: Any,
    inputs: dict[str, Any],
    outputs: tuple[str, ...] = ("n",),
    **options: Any,
) -> dict[str, Any]:
    """Register a flow of a function, ANY unless told otherwise."""
    options.setdefault("policy", "ANY")
    given = {k: v if isinstance(v, dict) else {"id": v} for k, v in inputs.items()}
    return app.register_flow(
        "local",
        app.register_function(function),
        given,
        {name: {} for name in outputs},
        **options,
    )


def another(app: Aero, **options: Any) -> Aero:
    """Open one more workspace with the home and the database of `app`."""
    settings = app.settings
    options.setdefault("database_url", settings.database_url)
    return make_app(settings.home, **options)


def ticked_at_once(*apps: Aero) -> list[int]:
    """Tick several workspaces in threads that begin together; return what was due."""
    barrier = threading.Barrier(len(apps))

    def go(app: Aero) -> int:
        barrier.wait()
        return scheduling.tick(app.db)

    with ThreadPoolExecutor(len(apps)) as pool:
        return sorted(pool.map(go, apps))


def made(flow: dict[str, Any]) -> str:
    """Return the id of the first Data a flow writes."""
    return str(flow["contributed_to"][0]["id"])


def counts(app: Aero) -> dict[str, int]:
    """Return the number of rows of every table."""
    with app.db.read() as tx:
        return {
            table.name: tx.execute(select(func.count()).select_from(table)).scalar_one()
            for table in Base.metadata.sorted_tables
        }


def rows(app: Aero) -> dict[str, list[Any]]:
    """Return everything that is in the database."""
    with app.db.read() as tx:
        return {
            table.name: list(tx.execute(select(table)).all())
            for table in Base.metadata.sorted_tables
        }


def statuses(app: Aero, flow: dict[str, Any]) -> list[str]:
    """Return the statuses of a flow's runs, oldest first."""
    return [run["status"] for run in app.list_runs(flow["id"])][::-1]


def text(app: Aero, data: str, tmp_path: Path, version: int | None = None) -> str:
    """Return what a version holds."""
    path = tmp_path / "fetched"
    app.fetch_version(data, path, version)
    found = path.read_text()
    path.unlink()
    return found
