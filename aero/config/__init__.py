"""The only reader of environment variables and configuration files."""

from aero.config.files import active_file, configure, load_conf
from aero.config.mounts import refuse_network_filesystem
from aero.config.settings import ClientConf

__all__ = [
    "ClientConf",
    "active_file",
    "configure",
    "load_conf",
    "refuse_network_filesystem",
]
