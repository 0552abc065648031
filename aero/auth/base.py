"""The auth port: from the token of a request to who asks, and what they may do."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from aero.error import InvalidValueError, UnauthorizedError


class Scope(StrEnum):
    """What a token is good for; none but ADMIN includes another."""

    READ = "read"
    RUN = "run"
    WRITE = "write"
    ADMIN = "admin"


EVERYTHING = frozenset(Scope)


class Role(StrEnum):
    """What a member of a group may do to what it has; each includes those before.

    A viewer sees it, an editor changes and runs it, an admin deletes and shares it.
    """

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether who has this role may do what `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


def greatest(given: Iterable[tuple[str, Role]]) -> dict[str, Role]:
    """Return the greatest role in each group of those that somebody was given."""
    found: dict[str, Role] = {}
    for group, role in given:
        if group not in found or role.includes(found[group]):
            found[group] = role
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who asks.

    Attributes:
        id: Owns what this identity creates; never another's.
        name: What people know it by.
        scopes: What it may do.
        groups: Its role in each group that it belongs to, by the group's id.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    groups: Mapping[str, Role] = field(default_factory=dict, hash=False)

    def may(self, scope: Scope) -> bool:
        """Whether it has that scope; ADMIN has all."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class Authenticator(Protocol):
    """Says who asks. Thread-safe; nothing it raises or logs quotes a token.

    Attributes:
        loopback_only: Whether it lets everybody in, so that it may only guard an
            address that nobody but this machine's users reaches.
    """

    loopback_only: bool

    @property
    def scheme(self) -> Mapping[str, Any] | None:
        """How OpenAPI describes the token that is asked for; None if none is."""
        ...

    def identify(self, token: str | None) -> Identity:
        """Return who sent a bearer token, or None in place of one.

        What has expired is refused from that moment on, and what was revoked within a
        minute.

        Raises:
            UnauthorizedError: The token is missing, unknown, expired or revoked; it
                does not say which.
            AuthUnavailableError: Who could tell does not answer.
        """
        ...


def scopes_of(names: Collection[str]) -> frozenset[Scope]:
    """Return the scopes of these names.

    Raises:
        InvalidValueError: There is none of that name, or no name is given.
    """
    known = [scope.value for scope in Scope]
    for name in names:
        if name not in known:
            raise InvalidValueError(
                f"There is no scope {name!r}: write {', '.join(known)}."
            )
    if isinstance(names, str) or not names:
        raise InvalidValueError(f"Give a list of scopes: {', '.join(known)}.")
    return frozenset(Scope(name) for name in names)


def refused() -> UnauthorizedError:
    """Return the one answer to every token that is not good."""
    return UnauthorizedError()
