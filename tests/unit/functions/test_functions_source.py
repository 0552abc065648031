"""A function's plain source is all that crosses to a worker."""

import ast
import inspect

import pytest

from aero.shipped import shipped
from aero.types import AeroOutput
from functions.clean_surveillance import clean_surveillance
from functions.pooled_figure import pooled_figure
from functions.reproduction_number import reproduction_number
from functions.summarise_csv import summarise_csv

ALL = [clean_surveillance, reproduction_number, pooled_figure, summarise_csv]


def transported(function):
    scope = {"AeroOutput": AeroOutput}
    exec(compile(inspect.getsource(function), "<source>", "exec"), scope)
    return scope[function.__name__]


def test_alone_the_sources_do_the_whole_job_with_the_same_bytes():
    data = shipped("functions") / "data" / "cholera_deaths_1849.csv"

    def job(clean, estimate, draw, summarise):
        tables = {}
        for cause in ("cholera", "diarrhoea"):
            table = estimate(clean(str(data), cause=cause).path)
            tables[cause] = table.path.rename(f"{cause}.csv")
        outputs = [draw(**tables), summarise(tables["cholera"])]
        return [(output.name, output.path.read_bytes()) for output in outputs]

    assert job(*map(transported, ALL)) == job(*ALL)


@pytest.mark.parametrize("function", ALL, ids=lambda function: function.__name__)
def test_modules_are_light_and_hold_one_documented_function(function):
    tree = ast.parse(inspect.getsource(inspect.getmodule(function)))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]

    assert [node.names[0].name for node in imports] == ["AeroOutput"]
    assert not [node for node in tree.body if isinstance(node, ast.Import)]
    assert len([node for node in tree.body if isinstance(node, ast.FunctionDef)]) == 1
    assert {"Args:", "Returns:", "Raises:"} <= set(inspect.getdoc(function).split())
