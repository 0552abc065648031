"""What a command is given: flags over a YAML file, `KEY=VALUE`s, functions in files."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from aero.stopping import GRACE
from aero.types import PolicyEnum

POLL_HELP = "Seconds between polls that make a lost notification good; 0: never."

file_option = click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(path_type=Path),
    help="A YAML file of these flags, by their long names; flags win over it.",
)
kwargs_option = click.option(
    "-k",
    "--kwargs",
    "kwargs",
    metavar="KEY=VALUE",
    multiple=True,
    help="An argument of the function; the value is JSON, else text. Repeatable.",
)
grace_option = click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=GRACE,
    show_default=True,
    metavar="SECONDS",
    help="How long what runs has to end once it is told to stop.",
)
notify_option = click.option(
    "--notify",
    "notify",
    metavar="URL",
    multiple=True,
    help="A webhook, or another target, to tell that. Repeatable.",
)


def email_option(*short: str) -> Callable[[Any], Any]:
    """Return the option of whom to mail, with these short names."""
    return click.option(
        *short,
        "--email",
        "email",
        metavar="ADDRESS",
        multiple=True,
        help="Whom to mail when it fails and when it works again. Repeatable.",
    )


pairs_argument = click.argument("pairs", metavar="", nargs=-1)


def merged(
    file: Path | None, flags: Mapping[str, Any], more: Iterable[str] = ()
) -> dict[str, Any]:
    """Return what is given: the file's values, and over them the flags'.

    Args:
        file: A YAML file whose keys are flags' names, with `-` or `_`.
        flags: What each flag gave, or None, False or () where it was left out.
        more: Keys that only the file has.

    Raises:
        click.UsageError: The file cannot be used.
    """
    given = {} if file is None else _read(file, {*flags, *more})
    given.update({key: value for key, value in flags.items() if _is_given(value)})
    return given


def _is_given(value: Any) -> bool:
    # 0 is a value, and equals False.
    return value is not None and value is not False and value != ()


def _read(file: Path, known: set[str]) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise click.UsageError(f"{file} is not YAML: {reason}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise click.UsageError(f"{file} does not hold 'key: value' lines")
    values = {}
    for name, value in found.items():
        key = str(name).replace("-", "_")
        if key not in known:
            near = get_close_matches(key, sorted(known), n=1, cutoff=0.0)[0]
            raise click.UsageError(
                f"{file} has the unknown key {str(name)!r}: did you mean {near!r}?"
            )
        values[key] = value
    return values


def beside(file: Path | None, path: str) -> str:
    """Return a path that a YAML file names, which is relative to that file."""
    return str(file.parent / path) if file is not None else path


def pairs_of(texts: Iterable[str], what: str) -> dict[str, Any]:
    """Return `KEY=VALUE` texts as a dict; values are JSON where they can be.

    Raises:
        click.UsageError: There is no `=`.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{what} {text!r} is not KEY=VALUE")
        found[key] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def kwargs_of(in_file: Any, flags: Iterable[str]) -> dict[str, Any]:
    """Return the file's kwargs, and over them those of the flags.

    Raises:
        click.UsageError: They are not `KEY=VALUE`s, or in the file no mapping.
    """
    if in_file is not None and not isinstance(in_file, Mapping):
        raise click.UsageError("kwargs in the file is not a mapping of names to values")
    return {**(in_file or {}), **pairs_of(flags, "--kwargs")}


def policy_of(value: Any, default: PolicyEnum) -> PolicyEnum:
    """Return the policy of that name or number.

    Raises:
        click.UsageError: There is none.
    """
    from aero.flow_request import parse_policy

    try:
        return default if value is None else parse_policy(value)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def load_function(where: str) -> Callable[..., Any]:
    """Return the function that `FILE.py:NAME` names.

    The file is imported under a private name; what it prints goes to stderr.

    Raises:
        click.UsageError: `where` is not of that form.
        click.ClickException: The file cannot be imported, or has no such function.
    """
    import importlib.util
    import sys

    path, colon, name = where.rpartition(":")
    if not colon or not name.isidentifier() or not path.endswith(".py"):
        raise click.UsageError(f"--function {where!r} is not FILE.py:NAME")
    file = Path(path).absolute()
    private = f"_aero_file_{file.stem}"
    spec = importlib.util.spec_from_file_location(private, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise click.UsageError(f"There is no file {path!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[private] = module
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except Exception as error:
        raise click.ClickException(
            f"{path} cannot be imported: {_brief(error)}"
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        raise click.ClickException(
            f"{path} defines no function {name!r}: check the name."
        )
    function: Callable[..., Any] = found
    return function


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
