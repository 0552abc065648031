"""Keeps research analyses up to date and knows where every result came from.

Importing this loads neither SQLAlchemy nor Globus; `Aero` does so when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aero.error import AeroError, ClientError
from aero.formatting import aero_format
from aero.types import AeroOutput, PolicyEnum

if TYPE_CHECKING:
    from aero.app import Aero

__all__ = [
    "Aero",
    "AeroError",
    "AeroOutput",
    "ClientError",
    "PolicyEnum",
    "__version__",
    "aero_format",
]


def __getattr__(name: str) -> Any:
    if name == "Aero":
        return import_module("aero.app").Aero
    if name == "__version__":
        return import_module("importlib.metadata").version("aero-orchestrator")
    raise AttributeError(f"module 'aero' has no attribute {name!r}")
