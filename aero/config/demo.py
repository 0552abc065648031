"""Where the demo's workspace is, and what a shell must set to work in it."""

import os
from collections.abc import Mapping
from pathlib import Path

from aero.config.files import load_conf
from aero.config.keys import KEYS
from aero.config.settings import ClientConf
from aero.error import ConfigError

FOLDER = "aero-demo"
_NOT_A_KEY = ("AERO_PROFILE",)


def demo_conf(environ: Mapping[str, str] = os.environ) -> ClientConf:
    """Return the demo's configuration: embedded, whatever files and profiles say.

    Args:
        environ: The environment variables; only AERO_HOME counts. Without it the
            workspace is `aero-demo` in the working directory.
    """
    home = Path(environ.get("AERO_HOME") or FOLDER).expanduser()
    return ClientConf(home=home.absolute())


def shell_settings(
    conf: ClientConf, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the variables under which `aero` works in the workspace of `conf`.

    That is AERO_HOME, and where this user's files, profile or other variables would
    lead elsewhere, what puts them out of force.
    """
    home = {"AERO_HOME": str(conf.home)}
    try:
        found = load_conf(environ={**environ, **home})
    except ConfigError:
        found = None
    if found is not None and _place(found) == _place(conf):
        return home
    others = [*(f"AERO_{key.upper()}" for key in KEYS), *_NOT_A_KEY]
    silenced = {name: "" for name in others if environ.get(name)}
    return {**silenced, "AERO_CONFIG_FILE": os.devnull, **home}


def _place(conf: ClientConf) -> tuple[str, Path, bool]:
    return conf.database_url, conf.store, conf.embedded
