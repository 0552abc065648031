"""The shape of the code: layers, vendors' homes, what importing costs, sizes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import aero

PACKAGE = Path(aero.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if "_shipped" not in path.parts
)
HEAVY = {
    "alembic",
    "apscheduler",
    "globus_compute_sdk",
    "globus_sdk",
    "loky",
    "pebble",
    "rich",
    "sqlalchemy",
    "urllib3",
}


def loaded_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has after `statement`."""
    code = (
        f"import sys\n{statement}\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_layers_and_vendors_hold():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "statement",
    ["import aero", "import aero.api", "import aero.utils", "import aero.cli"],
)
def test_light_modules_load_nothing_heavy(statement):
    assert not loaded_after(statement) & HEAVY


@pytest.mark.parametrize(
    "module", ["jobs", "formatting", "storage", "sources", "compute.worker"]
)
def test_what_a_worker_imports_loads_no_database_and_no_globus(module):
    heavy = {"alembic", "globus_compute_sdk", "globus_sdk", "sqlalchemy"}
    assert not loaded_after(f"import aero.{module}") & heavy


def test_nothing_local_loads_globus():
    assert not loaded_after("import aero.app") & {"globus_sdk", "globus_compute_sdk"}


IMPORT_EACH = """
import importlib, os, sys
# What others wrote is loaded once, and every process begins with it.
import alembic, click, fastapi, filelock, rich, sqlalchemy.orm, urllib3
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        importlib.import_module(name)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"{name} cannot be imported alone")
print("done")
"""


def test_every_module_imports_alone():
    names = [
        name
        for name in MODULES
        # The models know each other: they are one.
        if name != "aero.__main__" and not name.startswith("aero.db.models")
    ]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, *names],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "done", done.stderr


def test_all_is_sorted_and_importable():
    assert aero.__all__ == sorted(aero.__all__)
    assert all(getattr(aero, name) is not None for name in aero.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_modules_and_functions_fit_the_eye(name):
    path = ROOT.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text())
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    assert code_lines(tree) <= 400, f"{name} does more than one thing"
    for function in functions:
        lines = code_lines(function)
        assert lines <= 60, f"{name}.{function.name} has {lines} lines"


def code_lines(tree: ast.AST) -> int:
    """Return how many lines hold code: no docstrings, comments or blank lines."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        docstring = (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        )
        if docstring:
            continue
        if isinstance(node, ast.stmt):
            lines.update((node.lineno, _last_line_of_head(node)))
        elif isinstance(node, ast.expr) and not isinstance(node, ast.Constant):
            lines.update((node.lineno, node.end_lineno))
    return len(lines)


def _last_line_of_head(node: ast.stmt) -> int:
    body = getattr(node, "body", None)
    return node.lineno if isinstance(body, list) else node.end_lineno
