"""How often somebody may ask: a bucket of requests each, which fills as time goes by.

Each identity has one, and each address of those whom nobody asks who they are. Another
one of each address, a smaller, is for tokens that are not known to be good: once it is
empty no more of them are looked at, so that guessing costs neither the database nor
Globus anything. Each process counts for itself.
"""

import hashlib
import math
import time
from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, ip_address

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aero.auth.base import Identity
from aero.auth.recent import Recent, Seconds
from aero.error import TooManyRequestsError
from aero.server import problems

BURST = 5.0
"""Seconds of requests that may come at once."""
UNKNOWN_SHARE = 0.02
"""How many of the requests may carry a token that is not known to be good."""
UNKNOWN_BURST = 100.0
"""Seconds of those that may come at once."""

HEALTH = frozenset({"/health/live", "/health/ready"})
FREE = HEALTH | {"/metrics"}
"""What is asked as often as a monitor likes; who asks for metrics is known by then."""

_SECONDS = {"schema": {"type": "integer"}, "description": "Seconds to wait"}
TOO_MANY = {**problems.documented(429)[429], "headers": {"Retry-After": _SECONDS}}
"""What OpenAPI is told of who asks too often."""

_MOST = 10_000
_KNOWN = 600.0
_NETWORK = 64


class Buckets:
    """A bucket of requests for each key; the ones used last are kept.

    Not thread-safe: it is the event loop's.

    Args:
        rate: Requests that each gets in a second.
        burst: Requests that a bucket holds.
        most: How many buckets are kept; one that is not is full again.
        seconds: A monotonic clock.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        *,
        most: int = _MOST,
        seconds: Seconds = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = max(1.0, burst)
        self._most = most
        self._seconds = seconds
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Take a request; return 0, or the seconds until there is one to take."""
        left, now = self._level(key)
        taken = left >= 1.0
        self._put(key, left - taken, now)
        return 0.0 if taken else (1.0 - left) / self._rate

    def give_back(self, key: str) -> None:
        """Put back a request that was taken."""
        left, now = self._level(key)
        self._put(key, min(self._burst, left + 1.0), now)

    def _level(self, key: str) -> tuple[float, float]:
        now = self._seconds()
        left, since = self._left.get(key, (self._burst, now))
        return min(self._burst, left + (now - since) * self._rate), now

    def _put(self, key: str, left: float, now: float) -> None:
        self._left[key] = left, now
        self._left.move_to_end(key)
        if len(self._left) > self._most:
            self._left.popitem(last=False)


class Unknown:
    """Stops addresses that send too many tokens that are not good.

    It lies before the gate. A token that was good a while ago is let through, however
    many bad ones came from the same address, which may be a whole institute's.
    """

    def __init__(self, app: ASGIApp, *, rate: float) -> None:
        self._app = app
        rate *= UNKNOWN_SHARE
        self._buckets = Buckets(rate, rate * UNKNOWN_BURST)
        self._good: Recent[bool] = Recent(_MOST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http" or scope["path"] in HEALTH:
            await self._app(scope, receive, send)
            return
        mark, place = _mark(scope), _place(scope)
        known = mark is not None and self._good.get(mark) is not None
        wait = 0.0 if known else self._buckets.take(place)
        if wait:
            await _refusal(wait, "tokens that are not valid")(scope, receive, send)
            return

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note(scope, message["status"], mark, place, known=known)
            await send(message)

        await self._app(scope, receive, noting)

    def _note(
        self, scope: Scope, status: int, mark: str | None, place: str, *, known: bool
    ) -> None:
        if status != 401 and not known:
            self._buckets.give_back(place)
        if mark is None:
            return
        if status == 401:
            self._good.drop(mark)
        elif _identity(scope) is not None:
            self._good.keep(mark, True, until=time.monotonic() + _KNOWN)


class Pace:
    """Lets nobody ask oftener than so many times a second; behind the gate."""

    def __init__(self, app: ASGIApp, *, rate: float) -> None:
        self._app = app
        self._buckets = Buckets(rate, rate * BURST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http" or scope["path"] in FREE:
            await self._app(scope, receive, send)
            return
        identity = _identity(scope)
        who = _place(scope) if identity is None else f"identity {identity.id}"
        wait = self._buckets.take(who)
        await (_refusal(wait, "requests") if wait else self._app)(scope, receive, send)


def install_pace(api: FastAPI, rate: float) -> None:
    """Limit how often each may ask; to be called before the gate is installed."""
    if rate:
        api.add_middleware(Pace, rate=rate)


def install_unknown(api: FastAPI, rate: float) -> None:
    """Limit how many bad tokens come from an address; after the gate is installed."""
    if rate:
        api.add_middleware(Unknown, rate=rate)


def _refusal(wait: float, what: str) -> ASGIApp:
    seconds = math.ceil(wait)
    return problems.answer(
        TooManyRequestsError(
            f"Too many {what} came from you: wait {seconds} s, and send fewer.",
            retry_after=seconds,
        )
    )


def _identity(scope: Scope) -> Identity | None:
    found: Identity | None = scope.get("state", {}).get("identity")
    return found


def _mark(scope: Scope) -> str | None:
    """Return what a request's token is known by, without keeping the token."""
    given = dict(scope["headers"]).get(b"authorization")
    return None if given is None else hashlib.sha256(given).hexdigest()


def _place(scope: Scope) -> str:
    """Return the address that a request came from; of IPv6 the network is one."""
    client = scope.get("client")
    try:
        address = ip_address(client[0] if client else "")
    except ValueError:
        return "address unknown"
    if isinstance(address, IPv6Address):
        inner: IPv4Address | None = address.ipv4_mapped
        if inner is None:
            return f"network {int(address) >> (128 - _NETWORK):x}"
        return f"address {inner}"
    return f"address {address}"
