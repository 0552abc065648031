"""What is refused for how it is written, before anything is known of its values."""

import ast
from types import FunctionType

from aero.formatting import aero_format
from aero.function_source.refuse import refuse

_MUTATORS = frozenset(
    {
        *("append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"),
        *("popitem", "setdefault", "update", "add", "discard", "difference_update"),
        *("intersection_update", "symmetric_difference_update"),
    }
)


def decorators(function: FunctionType, tree: ast.Module, node: ast.FunctionDef) -> None:
    """Refuse every decorator but `aero_format`, under whatever name it came."""
    aliases = {
        alias.asname or alias.name
        for statement in ast.walk(tree)
        if isinstance(statement, ast.ImportFrom)
        and (statement.module or "").partition(".")[0] == "aero"
        for alias in statement.names
        if alias.name == "aero_format"
    } | {"aero_format"}
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Attribute) and decorator.attr == "aero_format":
            continue
        if isinstance(decorator, ast.Name) and (
            decorator.id in aliases
            or function.__globals__.get(decorator.id) is aero_format
        ):
            continue
        written = ast.unparse(decorator)
        refuse(
            function,
            f"is decorated with @{written}, which would change what runs without "
            "being recorded: apply it inside the body, or register an undecorated "
            "function.",
            name=written,
        )


def parameters(function: FunctionType, node: ast.FunctionDef) -> None:
    """Refuse the older protocol and parameters that a flow cannot fill."""
    args = node.args
    named = args.posonlyargs + args.args + args.kwonlyargs
    if (args.vararg and args.kwarg and not named) or _reads_file_key(node):
        refuse(
            function,
            "is written for the older (*args, **kwargs) protocol: name each input as a "
            'parameter, def f(name): ... return AeroOutput("name", path).',
        )
    if args.posonlyargs:
        name = args.posonlyargs[0].arg
        refuse(
            function,
            f"has the positional-only parameter {name!r}, but a flow passes by name: "
            "remove the / from its parameters.",
            name=name,
        )
    if any(arg.arg == "aero" for arg in named):
        refuse(
            function,
            "has a parameter 'aero', a name that aero keeps for itself: give it "
            "another name.",
            name="aero",
        )


def _reads_file_key(node: ast.FunctionDef) -> bool:
    keywords = node.args.kwarg
    return keywords is not None and any(
        isinstance(part, ast.Subscript)
        and isinstance(part.value, ast.Name)
        and part.value.id == keywords.arg
        and isinstance(part.slice, ast.Constant)
        and part.slice.value == "file"
        for part in ast.walk(node)
    )


def statements(function: FunctionType, node: ast.FunctionDef) -> None:
    """Refuse relative imports, and names that are set outside of the function."""
    outside = set(function.__code__.co_freevars)
    for part in ast.walk(node):
        if isinstance(part, ast.ImportFrom) and part.level:
            name = "." * part.level + (part.module or "")
            refuse(
                function,
                f"imports from {name!r}, but on a worker it belongs to no package: "
                "write the package's full name.",
                name=name,
            )
        if isinstance(part, ast.Global):
            _refuse_setting(function, part.names)
        elif isinstance(part, ast.Nonlocal):
            _refuse_setting(function, [name for name in part.names if name in outside])


def _refuse_setting(function: FunctionType, names: list[str]) -> None:
    for name in names:
        refuse(
            function,
            f"sets {name!r} outside of itself, which does not outlive a run: return it "
            "in an AeroOutput or keep it in a variable of the function.",
            name=name,
        )


def mutation(function: FunctionType, node: ast.FunctionDef, names: set[str]) -> None:
    """Refuse a function that visibly changes one of `names`, all from outside."""
    for part in ast.walk(node):
        if isinstance(part, ast.Subscript):
            changes = not isinstance(part.ctx, ast.Load)
        elif isinstance(part, ast.Attribute):
            changes = part.attr in _MUTATORS
        else:
            continue
        target = part.value
        while isinstance(target, ast.Subscript):
            target = target.value
        if changes and isinstance(target, ast.Name) and target.id in names:
            refuse(
                function,
                f"changes {target.id!r}, which is defined outside of it and does not "
                "outlive a run: make it inside the body.",
                name=target.id,
            )
