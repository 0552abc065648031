"""What crosses of a function: its plain source, a text that is complete on its own."""

from aero.function_source.given import given_source
from aero.function_source.plain import PlainSource, plain_source

__all__ = ["PlainSource", "given_source", "plain_source"]
