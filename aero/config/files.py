"""Finding, reading and installing `config.toml`."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aero.config.keys import Layer, from_environment, modern, typed, without
from aero.config.private import require_private, token_in, write_private
from aero.config.settings import ClientConf
from aero.error import ConfigError

APP = "aero-orchestrator"
DEFAULT = "default"
_OLDER = "aero"
_SECRETS = {"token", "portal_client_secret"}
_BARE = re.compile(r"[A-Za-z0-9_-]+")

Profiles = dict[str, dict[str, Any]]


def load_conf(
    path: str | Path | None = None,
    update: bool = False,
    *,
    profile: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ClientConf:
    """Return the configuration: AERO_* variables over the file over the defaults.

    Args:
        path: The file to read; default: the first there is of AERO_CONFIG_FILE,
            AERO_HOME/config.toml, and config.toml in the platform's configuration
            folder. No file is needed.
        update: Install `path` first, as `configure` does.
        profile: The table to read; default: AERO_PROFILE, else `default`.
        environ: The environment variables.

    Raises:
        ConfigError: A file, profile, key or value cannot be used.
    """
    if update:
        if path is None:
            raise ConfigError("Nothing to install: give load_conf the file's path.")
        configure(Path(path), profile, environ)
        path = None
    file = _find(environ) if path is None else Path(path).expanduser().absolute()
    name = profile or environ.get("AERO_PROFILE") or DEFAULT
    layer = _file_layer(file, name, environ) | modern(from_environment(environ))
    layer.setdefault("home", _data_folder())
    folder = (file or active_file(environ)).parent
    layer.setdefault("credentials", folder / "credentials")
    if "server_url" in layer and "token" not in layer:
        layer["token"] = token_in(folder / f"{name}.token")
    if "portal_client_id" in layer and "portal_client_secret" not in layer:
        secret = token_in(folder / f"{name}.client_secret", "client secret")
        layer["portal_client_secret"] = secret
    return ClientConf(profile=name, config_file=file, **layer)


def configure(
    file: Path, profile: str | None = None, environ: Mapping[str, str] = os.environ
) -> Path:
    """Merge a file's settings into the active configuration file, atomically.

    Args:
        file: What to install; relative paths in it are relative to its folder.
        profile: The table to write its settings to; it is taken from the file's table
            of that name, else from its only one. Default: every table to its own.
        environ: The environment variables, which say where the active file is.

    Returns:
        The active file, which has mode 0600. A table that is written to keeps the
        keys that `file` does not name; the file's comments are lost.

    Raises:
        ConfigError: One of the files is missing or cannot be used; nothing changed.
    """
    file = file.expanduser().absolute()
    target = active_file(environ).resolve()
    profiles = _read(target) if target.is_file() else {}
    for name, table in _chosen(_read(file), profile, file).items():
        settings = typed(table, origin=_origin(file, name), base=file.parent)
        merged = without(profiles.get(name, {}), settings) | {
            key: _plain(table[key], value) for key, value in settings.items()
        }
        checked = typed(merged, origin=_origin(target, name), base=target.parent)
        ClientConf(**{"home": target.parent, **modern(checked)})
        profiles[name] = merged
    _write(target, to_toml(profiles))
    return target


def active_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the file `configure` writes to, whether it is there yet or not."""
    return _candidates(environ)[0]


def to_toml(profiles: Mapping[str, Mapping[str, Any]]) -> str:
    """Return TOML with one table per profile.

    Values are str, int, float, bool and lists of str.
    """
    lines = []
    for name, table in profiles.items():
        lines.append(f"[{_key(name)}]")
        lines.extend(f"{_key(key)} = {_toml(value)}" for key, value in table.items())
        lines.append("")
    return "\n".join(lines)


def _candidates(environ: Mapping[str, str]) -> list[Path]:
    places = []
    if named := environ.get("AERO_CONFIG_FILE"):
        places.append(Path(named).expanduser().absolute())
    if home := environ.get("AERO_HOME"):
        places.append(Path(home).expanduser().absolute() / "config.toml")
    from platformdirs import user_config_path

    places.append(user_config_path(APP, appauthor=False) / "config.toml")
    return places


def _find(environ: Mapping[str, str]) -> Path | None:
    if environ.get("AERO_CONFIG_FILE"):
        return _candidates(environ)[0]
    return next((place for place in _candidates(environ) if place.is_file()), None)


def _data_folder() -> Path:
    from platformdirs import user_data_path

    return user_data_path(APP, appauthor=False)


def _file_layer(file: Path | None, name: str, environ: Mapping[str, str]) -> Layer:
    profiles = {} if file is None else _read(file)
    if file is not None and name in profiles:
        origin = _origin(file, name)
        if not _SECRETS.isdisjoint(profiles[name]):
            require_private(file, "configuration file with a token or a secret")
        return modern(typed(profiles[name], origin=origin, base=file.parent))
    if name == DEFAULT:
        return {}
    raise _no_profile(name, profiles, file or active_file(environ))


def _read(file: Path) -> Profiles:
    """Return a file's profiles; the older, flat form is the profile `default`."""
    import tomllib

    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read ({error.strerror}): check the path, or run "
            "'aero configure -f FILE'.",
            path=file,
        ) from error
    except ValueError as error:
        raise ConfigError(f"{file} is not TOML: {error}.", path=file) from error
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    flat = {key: value for key, value in document.items() if key not in tables}
    if flat or set(tables) == {_OLDER}:
        flat |= tables.pop(_OLDER, {})
        if DEFAULT in tables:
            raise ConfigError(
                f"{file} has keys above its tables and a table [{DEFAULT}]: move those "
                "keys into the table.",
                path=file,
            )
        tables = {DEFAULT: flat, **tables}
    return tables


def _chosen(profiles: Profiles, profile: str | None, file: Path) -> Profiles:
    if profile is None:
        return profiles
    if profile in profiles:
        return {profile: profiles[profile]}
    if len(profiles) == 1:
        return {profile: next(iter(profiles.values()))}
    raise _no_profile(profile, profiles, file)


def _no_profile(name: str, profiles: Profiles, file: Path) -> ConfigError:
    known = ", ".join(sorted(profiles)) or "none"
    return ConfigError(
        f"There is no profile {name!r} in {file} (there is: {known}): add a table "
        f"[{_key(name)}] with 'aero configure -f FILE -p {name}'.",
        profile=name,
        profiles=sorted(profiles),
    )


def _origin(file: Path, profile: str) -> str:
    return f"[{profile}] of {file}"


def _write(target: Path, text: str) -> None:
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(target, text)
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be written ({error.strerror}): set AERO_CONFIG_FILE to "
            "a file that can.",
            path=target,
        ) from error


def _plain(raw: Any, value: Any) -> Any:
    """Return what to write: the file's own value, but paths absolute."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [str(path) for path in value]
    return raw


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_string, value))}]"
    return _string(value)


def _string(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped as well.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
