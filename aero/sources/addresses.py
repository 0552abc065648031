"""Which addresses may be connected to when private ones are not allowed.

The rule is about addresses, not names: a name is resolved once, everything it
resolves to is judged, and the caller connects to what was judged. So a name that
resolves differently a moment later gains nothing.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from aero.error import SourceError
from aero.sources.retry import TryAgainError

_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


def why_refused(address: Address) -> str | None:
    """Return what kind of address that must not be reached this is, None if fine.

    An IPv4 address inside an IPv6 one (mapped, 6to4, NAT64) is judged as itself.
    """
    if isinstance(address, IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return why_refused(inner)
    kinds = {
        "unspecified": address.is_unspecified,
        "loopback": address.is_loopback,
        "link-local": address.is_link_local,
        "multicast": address.is_multicast,
        "private": address.is_private or getattr(address, "is_site_local", False),
        "reserved": address.is_reserved or not address.is_global,
    }
    return next((kind for kind, applies in kinds.items() if applies), None)


def public_addresses(host: str, port: int, *, url: str) -> list[str]:
    """Return the addresses of `host`, all of them fit to connect to.

    Args:
        host: A name or an address in any form the system's resolver takes.
        port: The TCP port.
        url: Fact of the error.

    Raises:
        SourceError: One of them is not public, or `host` cannot be a name.
        TryAgainError: The name could not be resolved.
    """
    found = _resolved(host, port, url=url)
    for text in found:
        reason = why_refused(ip_address(text))
        if reason is not None:
            raise SourceError(
                f"{host} is at {text}, a {reason} address, and those are refused: set "
                "allow_private_addresses to true if this source is to be trusted.",
                url=url,
                host=host,
                address=text,
            )
    return found


def _resolved(host: str, port: int, *, url: str) -> list[str]:
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise TryAgainError(f"{host} could not be resolved ({error.strerror})") from (
            error
        )
    except UnicodeError as error:
        raise SourceError(
            f"{host[:80]} cannot be the name of a host: correct the URL.", url=url
        ) from error
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
