import __future__

import ast
import contextlib
import functools
import hashlib
import inspect
import linecache
import math
import subprocess
import sys
import textwrap
import types
from itertools import count

import pytest

import aero.formatting as formatting_module
from aero import formatting
from aero.error import InvalidTypeError, InvalidValueError
from aero.formatting import aero_format
from aero.formatting import aero_format as af
from aero.function_source import plain_source
from aero.types import AeroOutput
from aero.types import AeroOutput as Output

HEADER = (
    "from __future__ import annotations\n\nfrom aero import AeroOutput, aero_format\n"
)
WINDOW = 7
NESTED = {"b": (1,), "a": [None, True, {2.5, -1}, b"x"], (): frozenset(), 3: set()}
FLOATS = [math.inf, -math.inf, math.nan, -0.0, complex(1, -0.0), ...]
CACHE: dict[str, int] = {}
LOOP: list[object] = []
LOOP.append(LOOP)
HUGE = 1 << 40_000
shortest = min
THING = object()
SHEBANG = "é\ud800"
_numbers = count()


def define(source, name="f", **names):
    """Run `source` the way a notebook runs a cell, and return one of its names."""
    source = textwrap.dedent(source).lstrip("\n")
    file_name = f"<cell {next(_numbers)}>"
    lines = source.splitlines(keepends=True)
    linecache.cache[file_name] = (len(source), None, lines, file_name)
    names.setdefault("__name__", "__main__")
    code = compile(source, file_name, "exec", dont_inherit=True)
    exec(code, names)
    return names[name]


def revived(func):
    """Run the plain source in a namespace of its own and return what it defines."""
    plain = plain_source(func)
    names = {"__name__": "elsewhere"}
    exec(compile(plain.source, "<worker>", "exec", dont_inherit=True), names)
    return names[plain.name]


def refusal(func, **facts):
    with pytest.raises(InvalidValueError) as caught:
        plain_source(func)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    for key, value in facts.items():
        assert getattr(caught.value, key) == value
        assert str(value) in message
    return message


# --- the text -------------------------------------------------------------------------


def mean(values, digits=2):
    """Average.

    Of `values`.
    """
    # comments and layout stay
    total = sum( values )  # fmt: skip

    return round(total / len(values), digits)
    # what comes after the last statement does not


def test_the_text_is_complete_and_described():
    plain = plain_source(mean)
    assert plain.name == "mean"
    assert plain.description == "Average.\n\nOf `values`."
    assert plain.python_version == f"3.{sys.version_info.minor}"
    assert plain.sha256 == hashlib.sha256(plain.source.encode()).hexdigest()
    assert plain.source == HEADER + (
        "\n\n"
        "def mean(values, digits=2):\n"
        '    """Average.\n'
        "\n"
        "    Of `values`.\n"
        '    """\n'
        "    # comments and layout stay\n"
        "    total = sum( values )  # fmt: skip\n"
        "\n"
        "    return round(total / len(values), digits)\n"
        "\n\n"
        "mean = aero_format(mean)\n"
    )
    assert revived(mean)([1, 2, 2]) == 1.67


def test_every_form_of_a_function_is_the_same_function():
    body = 'def f(x):\n    """One.\n\n    Two.\n    """\n    return x + 1\n'
    nested = "def outer():\n" + textwrap.indent("@aero_format\n" + body, "    ")
    tabs = "if True:\n" + textwrap.indent(body, "\t")
    given = {"aero_format": aero_format, "utils": formatting, "af": af}
    forms = [
        define(body),
        define("\n\n" + body.replace("return x + 1", "return x + 1   \n\n")),
        define("@aero_format\n" + body, **given),
        define("@(\n    aero_format\n)\n" + body, **given),
        define("@utils.aero_format\n" + body, **given),
        define("@af\n" + body, **given),
        define("@aero_format\n@af\n" + body, **given),
        define("from aero.formatting import aero_format as ours\n@ours\n" + body),
        aero_format(define(body)),
        define(nested + "    return f\n", "outer", **given)(),
        define(tabs),
        define(body.replace("\n", "\r\n")),
    ]
    assert len({plain_source(form).sha256 for form in forms}) == 1
    assert plain_source(forms[0]).description == "One.\n\nTwo."


def test_an_alias_of_an_enclosing_function_is_known():
    outer = define(
        """
        def outer():
            from aero.formatting import aero_format as ours

            @ours
            def f(x):
                return x

            return f
        """,
        "outer",
    )
    assert plain_source(outer()).source.count("ours") == 0


def make_nested():
    def f(x: "np.ndarray" = None) -> "pd.DataFrame":  # noqa: F821
        text = """
        kept
          as it is
        """
        both = (
            "joined "
            f"""{x!r}
            {text.strip()}
            """
        )
        # a comment at another margin
        return (
            text,
            both,
            b"""
        bytes""",
            "a\
        b",
        )

    return f


def test_strings_keep_their_indentation():
    nested = make_nested()
    assert revived(nested)(3) == nested(3)


def test_a_docstring_that_cannot_be_moved_stays():
    outer = define(
        '''
        def outer():
            def f():
                """One
          two
                three"""
                return 1

            return f
        ''',
        "outer",
    )
    assert revived(outer()).__doc__ == outer().__doc__


def test_text_beyond_ascii_is_cut_at_its_characters():
    f = define('def f(ä=N, *, ö=("é", N), ü=   N): return ä, ö, ü  # ß', N=3)
    assert "def f(ä=3, *, ö=('\\xe9', 3), ü=   3): return" in plain_source(f).source
    assert revived(f)() == (3, ("é", 3), 3)


# --- literals come along --------------------------------------------------------------


def test_module_level_literals_come_along_sorted():
    def f():
        return [NESTED for _ in range(WINDOW)], HUGE, SHEBANG, shortest(2, 1)

    plain = plain_source(f)
    assert "WINDOW = 7\nshortest = min\n\n\ndef f():" in plain.source
    assert "NESTED = {'b': (1,), 'a': [None, True, {-1, 2.5}, b'x'], ()" in plain.source
    assert revived(f)() == f()


def test_floats_come_along_to_the_bit():
    def f():
        return FLOATS

    assert repr(revived(f)()) == repr(FLOATS)


def test_a_builtin_under_its_own_name_needs_no_assignment():
    f = define("from builtins import open\ndef f():\n    return open\n")
    assert plain_source(f).source.startswith(HEADER + "\n\ndef f():")


def test_the_value_is_part_of_the_identity():
    source = "def f():\n    return N\n"
    one, same, other = (define(source, N=n) for n in (1, 1, 2))
    assert plain_source(one).sha256 == plain_source(same).sha256
    assert plain_source(one).sha256 != plain_source(other).sha256


def test_literals_in_closure_cells_come_along():
    def outer(factor):
        offset = 1

        def f(x):
            def g():
                return factor * x + offset

            return g()

        return f

    assert revived(outer(3))(2) == 7


def test_defaults_are_what_they_were_when_the_function_was_defined():
    functions = define(
        """
        functions = []
        for n in range(3):
            def f(x=(n), /, *_):
                pass
            def f(x, n=n, window=60 * 60, *, last=[n, max], low=float("-inf"), big=len,
                  spread=dict(
                      a=n,
                  )):
                return x, n, window, last, low, big, spread
            functions.append(f)
        n = "something else"
        """,
        "functions",
    )
    for n, f in enumerate(functions):
        source = plain_source(f).source
        assert f"n={n}, window=60 * 60, *, last=[{n}, max], " in source
        assert revived(f)(0) == (0, n, 3600, [n, max], -math.inf, len, {"a": n})


def test_a_body_may_use_what_python_and_aero_provide():
    f = define(
        """
        from aero.types import AeroOutput
        def f(path):
            import math as m
            from os import path as p
            class Local:
                size: "Unknown" = 1
                other: Missing
                double = size * 2
                name = __name__
            def fact(n: Unknown) -> Missing:
                return 1 if n < 2 else n * fact(n - 1)
            value: Missing = [m.floor(i) for i in range(3)]
            assert value, ValueError
            if path is None:
                return f("again")
            return AeroOutput("out", p.join(path, str(fact(3) + Local.double)))
        """
    )
    assert revived(f)(None) == AeroOutput("out", "again/8")


def test_a_class_body_may_take_a_name_and_set_it():
    f = define("def f():\n    class A:\n        N = N + 1\n    return A.N\n", N=1)
    assert revived(f)() == 2


# --- names that a worker would not have -----------------------------------------------


def helper():
    return 1


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        (textwrap, "write `import textwrap as x` inside the body"),
        (ast.parse, "write `from ast import parse as x` inside the body"),
        (types.SimpleNamespace.__init__, "of type wrapper_descriptor"),
        (contextlib.ExitStack.close, "define it inside the body"),
        (helper, f"write `from {__name__} import helper as x` inside the body"),
        (Output, "write AeroOutput, which is always there"),
        (af, "write aero_format, which is always there"),
        (formatting_module, "AeroOutput needs no prefix"),
        (THING, "not a literal but of type object"),
        ([1, THING], "not a literal but of type list"),
        ({1: THING}, "not a literal but of type dict"),
        (LOOP, "not a literal but of type list"),
    ],
)
def test_a_global_that_cannot_come_along_is_named(value, instead):
    f = define("def f():\n    return [lambda: x for _ in range(2)]\n", x=value)
    message = refusal(f, name="x", function="f")
    assert instead in message


def test_names_that_need_no_alias():
    f = define("import json\ndef f():\n    return json.dumps(1)\n")
    assert "write `import json` inside the body" in refusal(f, name="json")
    g = define("from ast import parse\ndef g():\n    return parse('')\n", "g")
    assert "write `from ast import parse` inside" in refusal(g, name="parse")


def test_the_magic_of_a_notebook_is_refused():
    f = define("def f():\n    get_ipython().system('ls')\n", get_ipython=helper)
    assert "plain Python in place of" in refusal(f, name="get_ipython")


def test_a_helper_of_the_same_module_is_named():
    def f():
        return helper()

    assert "define it inside the body" in refusal(f, name="helper")


@pytest.mark.parametrize("name", ["missing", "__file__", "display", "_"])
def test_a_name_that_is_nowhere_is_named(name, monkeypatch):
    monkeypatch.setattr("builtins.display", helper, raising=False)
    monkeypatch.setattr("builtins._", 3, raising=False)
    f = define(f"def f():\n    return {name}\n", __file__="here.py")
    assert "define or import it inside the body" in refusal(f, name=name)


def test_closure_cells_that_cannot_come_along_are_named():
    def outer():
        import json

        def f():
            return json.dumps(later)

        def g():
            return later

        functions = f, g
        if functions:
            return functions
        later = 1

    f, g = outer()
    assert "write `import json`" in refusal(f, name="json")
    assert "define or import it" in refusal(g, name="later")


@pytest.mark.parametrize("default", ["object()", "THING", "lambda: 1", "[THING]"])
def test_a_default_that_is_no_literal_is_named(default):
    f = define(f"def f(x, how={default}):\n    return x\n", THING=THING)
    assert "use None" in refusal(f, name="how")


@pytest.mark.parametrize(
    "change",
    [
        "N['a'] = 1",
        "N['a']['b'] = 1",
        "N['a'] += 1",
        "del N['a']",
        "N.update(a=1)",
        "N['a'].append(1)",
    ],
)
def test_a_function_that_changes_a_global_is_refused(change):
    f = define(f"def f():\n    own = []\n    own.append(1)\n    {change}\n", N=CACHE)
    assert "make it inside the body" in refusal(f, name="N")


def test_setting_names_outside_is_refused():
    f = define("def f():\n    global N\n    N = 1\n")
    assert "sets 'N' outside of itself" in refusal(f, name="N")

    def outer():
        n = 0

        def g():
            nonlocal n
            n += 1

        def h():
            own = 0

            def inner():
                nonlocal own
                own += 1

            inner()
            return own

        return g, h

    g, h = outer()
    assert "sets 'n' outside of itself" in refusal(g, name="n")
    assert revived(h)() == 1


def test_relative_imports_are_refused():
    f = define("def f():\n    from ..tools import x\n    return x\n")
    assert "the package's full name" in refusal(f, name="..tools")


# --- functions that cannot be registered ----------------------------------------------


def test_other_decorators_are_named():
    @functools.lru_cache(maxsize=2)
    def f(x):
        return x

    @aero_format
    @contextlib.contextmanager
    def g():
        return iter(())

    assert "functools.lru_cache(maxsize=2)" in refusal(f)
    assert refusal(g, name="contextlib.contextmanager")


def test_other_wrappers_are_refused():
    @functools.wraps(mean)
    def wrapper(*args):
        return mean(*args)

    assert "wrapped by something other than aero_format" in refusal(wrapper)
    assert "wrapped by" in refusal(aero_format(functools.lru_cache(mean)))
    assert "wrapped by" in refusal(functools.lru_cache(aero_format(mean)))


class Analysis:
    def method(self):
        return 1

    def __call__(self):
        return 1


@pytest.mark.parametrize(
    "thing", [Analysis, Analysis(), Analysis().method, len, functools.partial(mean), 3]
)
def test_what_is_no_function_is_a_type_error(thing):
    with pytest.raises(InvalidTypeError, match="written with def"):
        plain_source(thing)


async def asynchronous():
    return 1


async def asynchronous_generator():
    yield 1


def generator():
    yield 1


@pytest.mark.parametrize(
    ("func", "instead"),
    [
        (lambda x: x, "write it with def"),
        (asynchronous, "plain def"),
        (asynchronous_generator, "plain def"),
        (generator, "do not yield"),
        (Analysis.method, "outside of the class"),
        (define("def AeroOutput():\n    pass\n", "AeroOutput"), "another name"),
        (define("def f(*args, **kwargs):\n    pass\n"), "def f(name): ..."),
        (define("def f(x, **kw):\n    return kw['file']\n"), "def f(name): ..."),
        (define("def f(x, /, y):\n    pass\n"), "positional-only parameter 'x'"),
        (define("def f(x, *, aero):\n    pass\n"), "parameter 'aero'"),
    ],
)
def test_kinds_that_are_refused(func, instead):
    assert instead in refusal(func)


def test_any_other_signature_is_accepted():
    f = define("def f(x, *rest, y=1, **kw):\n    return x, rest, y, kw['other']\n")
    assert revived(f)(1, 2, y=3, other=4) == (1, (2,), 3, 4)


def test_a_function_without_source_is_refused():
    names = {}
    exec(compile("def f():\n    return 1\n", "<nowhere>", "exec"), names)
    assert "put it into a file" in refusal(names["f"])


def test_a_function_whose_file_changed_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "changing.py"
    path.write_text("def f():\n    return 1\n\ndef g():\n    return 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    import changing

    path.write_text("\n\ndef f():\n    return 11\n\ndef g():\n    return 2\n")
    assert "may have changed" in refusal(changing.f)
    path.write_text("def f(:\n")
    assert "no source" in refusal(changing.f)
    del sys.modules["changing"]


def test_steps_are_imported_not_copied(monkeypatch):
    steps = types.ModuleType("aero.jobs")
    source = "def download(*args, **kwargs):\n    '''Fetch.'''\n"
    steps.download = define(source, "download", __name__="aero.jobs")
    steps.stage = aero_format(define("def stage():\n    pass\n", "stage"))
    steps.stage.__wrapped__.__module__ = "aero.jobs"
    monkeypatch.setitem(sys.modules, "aero.jobs", steps)
    plain = plain_source(steps.download)
    assert plain.source == "from aero.jobs import download\n"
    assert (plain.name, plain.description) == ("download", "Fetch.")
    assert plain_source(steps.stage).source == "from aero.jobs import stage\n"
    impostor = define("def download():\n    pass\n", "download", __name__="aero.jobs")
    assert "def download()" in plain_source(impostor).source


# --- elsewhere ------------------------------------------------------------------------


def in_another_python(script, *, path, **kwargs):
    return subprocess.run(
        [sys.executable, *script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=path,
        **kwargs,
    )


def test_the_text_runs_in_a_process_of_its_own(tmp_path):
    def f(n, window: "np.ndarray" = WINDOW):  # noqa: F821
        import json
        from pathlib import Path

        Path("out.json").write_text(json.dumps([n, window, WINDOW]))
        return AeroOutput("out", "out.json")

    (tmp_path / "worker.py").write_text(
        plain_source(f).source + "\nprint(f(3), f.__name__)\n"
    )
    done = in_another_python(["worker.py"], path=tmp_path)
    assert done.stdout == "AeroOutput(name='out', path='out.json') f\n", done.stderr
    assert (tmp_path / "out.json").read_text() == "[3, 7, 7]"


SCRIPT = """
from aero.formatting import aero_format
from aero.function_source import plain_source

@aero_format
def f(x):
    return x

print(plain_source(f).sha256)
"""


def test_a_script_registers_its_own_functions(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = in_another_python(["script.py"], path=tmp_path)
    plain = plain_source(define("def f(x):\n    return x\n"))
    assert done.stdout.strip() == plain.sha256, done.stderr


def test_a_command_registers_or_is_told_to_use_a_file(tmp_path):
    done = in_another_python(["-c", SCRIPT], path=tmp_path)
    if sys.version_info >= (3, 13):
        plain = plain_source(define("def f(x):\n    return x\n"))
        assert done.stdout.strip() == plain.sha256, done.stderr
    else:
        assert "InvalidValueError: Function 'f' has no source" in done.stderr
        assert "put it into a file" in done.stderr


def test_the_source_is_what_globus_takes():
    plain = plain_source(mean)
    tree = ast.parse(plain.source)
    defined = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    assert defined == [plain.name]
    future = __future__.annotations.compiler_flag
    assert compile(tree, "<text>", "exec").co_flags & future
    assert inspect.isfunction(revived(mean))
