"""Every error aero raises. One root; the class carries its facts as attributes.

AeroError
├── ClientError                 what a caller of the API asked for cannot be done
│   ├── InvalidValueError         422, a ValueError: write something else instead
│   ├── InvalidTypeError          422, a TypeError
│   ├── NotFoundError             404
│   ├── AmbiguousError            409, lists the candidates
│   ├── DuplicateError            409, carries the existing `flow_id`
│   ├── ConflictError             409, the state of things does not allow it
│   ├── UnauthorizedError         401, who asks is not known
│   ├── ForbiddenError            403, who asks may not do that
│   ├── TooManyRequestsError      429, who asks is to wait `retry_after` seconds
│   ├── ConfigError               500, the configuration says something impossible
│   ├── SchemaError               500, the database is of another aero version
│   ├── ServerError               503, the server does not answer as it should
│   ├── AuthUnavailableError      503, who could tell who asks does not answer
│   └── DatabaseUnavailableError  503, the database does not answer: try again later
├── NoticeError                 a notice did not reach its receiver: tried for a day
└── RunError                    why an attempt of a run failed
    ├── FunctionError             the user's function is at fault: `retries` applies
    │   ├── FunctionTimeoutError
    │   ├── FunctionDiedError
    │   └── OutOfMemoryError
    ├── SourceError               the source's answer is final (404, too large, ...)
    ├── SourceUnavailableError    not the function's fault: tried again for an hour
    ├── StorageError              likewise
    │   ├── CorruptObjectError
    │   └── MissingObjectError
    ├── WorkerLostError           likewise: a lease ran out
    └── FencedError               another process took the run: commit nothing
"""

import re
from typing import Any


class AeroError(Exception):
    """Something in aero went wrong."""

    def __init__(self, message: str | None = None, **facts: Any) -> None:
        self.message = message or (type(self).__doc__ or "").strip().split("\n")[0]
        self.facts = facts
        super().__init__(self.message)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __str__(self) -> str:
        return str(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.__dict__), self.args)


def _rebuild(
    cls: type[AeroError], state: dict[str, Any], args: tuple[Any, ...]
) -> AeroError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ClientError(AeroError):
    """The request cannot be fulfilled."""

    code = 500

    def __init__(
        self,
        *args: Any,
        code: int | None = None,
        message: str | None = None,
        **facts: Any,
    ) -> None:
        positional = list(args)
        if positional and isinstance(positional[0], int):
            code = positional.pop(0) if code is None else code
        if positional and message is None:
            message = str(positional.pop(0))
        super().__init__(message, **facts)
        self.code = type(self).code if code is None else code


class InvalidValueError(ClientError, ValueError):
    """A value cannot be used."""

    code = 422


class InvalidTypeError(ClientError, TypeError):
    """A value has the wrong type."""

    code = 422


class NotFoundError(ClientError):
    """There is no such thing."""

    code = 404


class AmbiguousError(ClientError):
    """More than one thing has that name."""

    code = 409


class DuplicateError(ClientError):
    """An equal flow is registered already."""

    code = 409


class ConflictError(ClientError):
    """That is not possible in the present state."""

    code = 409


class UnauthorizedError(ClientError):
    """A valid token is needed: ask for one, and set AERO_TOKEN to it."""

    code = 401


class ForbiddenError(ClientError):
    """That is not yours to do."""

    code = 403


class TooManyRequestsError(ClientError):
    """That was too often: wait a moment."""

    code = 429


class ConfigError(ClientError):
    """The configuration cannot be used."""


class SchemaError(ClientError):
    """The database belongs to another version of aero."""


class ServerError(ClientError):
    """The server does not answer as it should."""

    code = 503


class AuthUnavailableError(ClientError):
    """Who asks cannot be found out now."""

    code = 503


class DatabaseUnavailableError(ClientError):
    """The database does not answer."""

    code = 503


class NoticeError(AeroError):
    """The receiver did not take the notice."""


class RunError(AeroError):
    """An attempt of a run failed."""


class FunctionError(RunError):
    """The function raised an exception."""


class FunctionTimeoutError(FunctionError):
    """The function ran longer than its timeout."""


class FunctionDiedError(FunctionError):
    """The function ended its process."""


class OutOfMemoryError(FunctionError):
    """The function used more memory than it may."""


class SourceError(RunError):
    """The source answered, and its answer is not the data."""


class SourceUnavailableError(RunError):
    """The source could not be reached or did not answer as it promised."""


class StorageError(RunError):
    """The storage could not do what was asked."""


class CorruptObjectError(StorageError):
    """Stored bytes do not match their SHA-256."""


class MissingObjectError(StorageError):
    """Stored bytes are not where they were put."""


class WorkerLostError(RunError):
    """The process that worked on the run is gone."""


class FencedError(RunError):
    """The run belongs to another claim now."""


def urn(kind: type[BaseException]) -> str:
    """Return the name by which HTTP knows an error: `urn:aero:not-found`."""
    words = re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__.removesuffix("Error"))
    return f"urn:aero:{words.lower()}"
