"""Laws of the plain source: indentation changes no value, literals read back equal."""

import linecache
import math
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from aero.function_source import plain_source
from aero.function_source.literal import written

_numbers = count()
TEXTS = st.text(" \n\tax{}#'\"\\é", max_size=30)
PREFIXES = st.sampled_from(["", "f", "b"])


def triple_quoted(prefix, text):
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    if prefix == "f":
        text = text.replace("{", "{{").replace("}", "}}") + "{\nint('1')}"
    if prefix == "b":
        text = text.replace("é", "e")
    return f'{prefix}"""{text}"""'


def revived(lines, indent):
    """Define f under `indent`, and again from its plain source; return both."""
    blocks = [" " * i + "if True:" for i in range(len(indent))]
    source = "\n".join([*blocks, *(indent + line for line in lines), ""])
    file_name = f"<property {next(_numbers)}>"
    linecache.cache[file_name] = (0, None, source.splitlines(keepends=True), file_name)
    names = {"__name__": "__main__"}
    exec(compile(source, file_name, "exec"), names)
    plain = plain_source(names["f"])
    del linecache.cache[file_name]
    elsewhere = {"__name__": "elsewhere"}
    exec(compile(plain.source, "<worker>", "exec"), elsewhere)
    return names["f"], elsewhere["f"], plain


@given(
    values=st.lists(st.tuples(PREFIXES, TEXTS), min_size=1, max_size=4),
    depth=st.integers(0, 4),
)
def test_moving_to_the_margin_changes_no_string(values, depth):
    literals = [triple_quoted(prefix, text) for prefix, text in values]
    lines = ["def f():", "  own = []"]
    for literal in literals:
        lines += ["", f"  own.append({literal}  # why", "  )", f"  {literal}", "   "]
    before, after, plain = revived([*lines, "  return own"], " " * depth)
    assert after() == before()
    assert "\n   \n" not in plain.source.split('"""')[0]


@given(depth=st.integers(0, 4), trailing=st.text(" \t\n", max_size=5))
def test_depth_and_trailing_space_are_not_part_of_the_identity(depth, trailing):
    indent = " " * depth
    lines = ["def f(x,", "      y=2):", f'  """One.\n\n{indent}  Two.\n{indent}  """']
    lines += ["  # why", "  return [x,", "", "    y]" + trailing]
    _, _, nested = revived(lines, indent)
    _, _, margin = revived([line.replace("\n" + indent, "\n") for line in lines], "")
    assert nested == margin


numbers = st.integers() | st.floats(allow_nan=False)
scalars = numbers | st.text() | st.sampled_from([None, True, ..., b"\x00'", len, open])
complexes = st.complex_numbers(allow_nan=False)
keys = scalars | complexes | st.tuples(scalars) | st.frozensets(scalars, max_size=3)
literals = st.recursive(
    keys,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.sets(keys, max_size=3)
        | st.dictionaries(scalars, inner, max_size=3)
    ),
    max_leaves=6,
)


@given(literals)
def test_literals_read_back_equal(value):
    text = written(value)
    again = eval(text)
    assert (type(again), again) == (type(value), value)
    assert written(again) == text
    assert text.isascii()


@given(st.lists(keys, unique=True))
def test_the_order_of_a_set_is_not_written(values):
    backwards = values[::-1]
    assert written(set(values)) == written(set(backwards))


@given(st.integers(0, 50_000))
def test_long_integers_read_back(bits):
    assert eval(written(-(1 << bits))) == -(1 << bits)


def test_no_number_is_written_as_it_is_not():
    assert math.isnan(eval(written(math.nan)))
    assert math.copysign(1, eval(written(-0.0))) == -1
