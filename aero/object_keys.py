"""PURE: the keys of objects, and the globs that say which of them a source has.

An object's key is its URL without scheme, host, port, query and outer slashes,
percent-decoded, so that every way to address an object names it alike. In a registered
URL, `*` stands for characters within a segment, `**` for any across segments (and
`**/`, where a segment begins, for any number of whole ones), `?` for one character and
`[...]` for one of a class, or with `[!...]` or `[^...]` for one outside of it. Nothing
but `**` stands for a slash.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from urllib.parse import quote, unquote

from aero.error import InvalidValueError

_PLACE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?://[^/?#]*)?")
_QUERY = re.compile(r"\?[^/?#]*=")
_PLAIN = "/-._~!$&'()*+,;=:@"
_ENCODED_GLOB = re.compile(r"%(2A|3F|5B)", re.IGNORECASE)


def object_key(url: str) -> str:
    """Return the key of the object at `url`.

    Raises:
        InvalidValueError: The key would hold a NUL character.
    """
    path = re.split(r"[?#]", _path(url), maxsplit=1)[0]
    return normal_key(_decoded(path))


def pattern_key(url: str) -> str:
    """Return the key of a registered URL, in which globs mean what they mean.

    A `?` begins the query where a `=` follows it in its segment, and else stands for
    one character. A percent-encoded `*`, `?` or `[` stands for itself.

    Raises:
        InvalidValueError: The key would hold a NUL character.
    """
    path = _path(url).partition("#")[0]
    query = _QUERY.search(path)
    if query is not None:
        path = path[: query.start()]
    escaped = _ENCODED_GLOB.sub(lambda found: f"[{unquote(found[0])}]", path)
    return normal_key(_decoded(escaped))


def registered_key(url: str, *, typed: bool) -> str:
    """Return the `pattern_key` of a URL that a source of a type, or of none, has.

    Without a type it is fetched as it is, so what follows `?` is a query.

    Raises:
        InvalidValueError: The key would hold a NUL character.
    """
    return pattern_key(url if typed else url.partition("?")[0])


def normal_key(key: str) -> str:
    """Return a key as it is compared: without outer slashes.

    Raises:
        InvalidValueError: It holds a NUL character, which no database keeps.
    """
    if "\0" in key:
        raise InvalidValueError(
            f"The object key {key!r} holds a NUL character: name the object without."
        )
    return key.strip("/")


def object_url(registered: str, key: str) -> str:
    """Return the URL of the object `key` at the scheme and host of a registered URL."""
    return f"{place(registered)}/{quote(key, safe=_PLAIN)}"


def place(url: str) -> str:
    """Return scheme, host and port of a URL, as far as it has them."""
    found = _PLACE.match(url)
    return found[0] if found else ""


def is_of_bucket(url: str, bucket: str) -> bool:
    """Whether all that lies at the URL's host is in that S3 bucket.

    So it is at `s3://BUCKET/KEY` and `https://BUCKET.s3.example.org/KEY`.
    """
    scheme, _, host = place(url).partition("://")
    if scheme.lower() == "s3":
        return host == bucket
    return host.lower().startswith(f"{bucket.lower()}.")


def is_exact(pattern: str) -> bool:
    """Whether a pattern's key stands for one object only."""
    return _glob(pattern).exact


def literal_prefix(pattern: str) -> str:
    """Return what every key begins with that the pattern matches."""
    return _glob(pattern).prefix


def matches(pattern: str, key: str) -> bool:
    """Whether the pattern, a `pattern_key`, stands for the object of this key."""
    glob = _glob(pattern)
    if glob.exact or not key.startswith(glob.prefix):
        return key == glob.prefix
    return glob.regex.match(key) is not None


def best(patterns: Iterable[str], key: str) -> list[str]:
    """Return the patterns that match `key` and that no other one beats.

    A pattern without globs beats one with; among these the longest literal prefix
    wins, then the longest pattern. More than one is a tie, none is no match.
    """
    ranked = [(_rank(p), p) for p in dict.fromkeys(patterns) if matches(p, key)]
    top = max((rank for rank, _ in ranked), default=None)
    return [pattern for rank, pattern in ranked if rank == top]


def _rank(pattern: str) -> tuple[bool, int, int]:
    glob = _glob(pattern)
    if glob.exact:
        return True, 0, 0
    return False, len(glob.prefix), len(pattern)


def _path(url: str) -> str:
    return url[len(place(url)) :]


def _decoded(text: str) -> str:
    # Bytes that are no UTF-8 stay apart: replaced ones would make two objects one.
    return unquote(text, errors="backslashreplace")


class _Kind(Enum):
    LITERAL = auto()
    SET = auto()
    STAR = auto()
    DEEP = auto()
    FOLDERS = auto()


@dataclass(frozen=True, slots=True)
class _Token:
    """A part of a glob; `text` is the literal character, or the regex of a set."""

    kind: _Kind
    text: str = ""

    @property
    def regex(self) -> str:
        return re.escape(self.text) if self.kind is _Kind.LITERAL else self.text


@dataclass(frozen=True, slots=True)
class _Glob:
    prefix: str
    exact: bool
    regex: re.Pattern[str]


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> _Glob:
    tokens = _tokens(pattern)
    literals = 0
    while literals < len(tokens) and tokens[literals].kind is _Kind.LITERAL:
        literals += 1
    return _Glob(
        prefix="".join(token.text for token in tokens[:literals]),
        exact=literals == len(tokens),
        regex=re.compile(_regex(tokens), re.DOTALL),
    )


def _tokens(pattern: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(pattern):
        token, length = _token(pattern, at)
        tokens.append(token)
        at += length
    return tokens


def _token(pattern: str, at: int) -> tuple[_Token, int]:
    """Return the token that begins at `at`, and how many characters it takes."""
    character = pattern[at]
    if character == "*":
        return _stars(pattern, at)
    if character == "?":
        return _Token(_Kind.SET, "[^/]"), 1
    if character == "[":
        length = _class_length(pattern, at)
        if length:
            return _class(pattern[at + 1 : at + length - 1]), length
    return _Token(_Kind.LITERAL, character), 1


def _stars(pattern: str, at: int) -> tuple[_Token, int]:
    end = at
    while end < len(pattern) and pattern[end] == "*":
        end += 1
    if end - at == 1:
        return _Token(_Kind.STAR), 1
    begins_segment = at == 0 or pattern[at - 1] == "/"
    if begins_segment and pattern[end : end + 1] == "/":
        return _Token(_Kind.FOLDERS), end - at + 1
    return _Token(_Kind.DEEP), end - at


def _class_length(pattern: str, at: int) -> int:
    """Return how long the class at `at` is, 0 if that bracket stands for itself."""
    first = at + 1
    if pattern[first : first + 1] in {"!", "^"}:
        first += 1
    end = pattern.find("]", first + 1)
    if end < 0 or "/" in pattern[at:end]:
        return 0
    return end + 1 - at


def _class(body: str) -> _Token:
    negated = body[0] in "!^"
    ranges = _ranges(body[1:] if negated else body)
    if not negated and len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return _Token(_Kind.LITERAL, ranges[0][0])
    members = "".join(f"{re.escape(a)}-{re.escape(b)}" for a, b in ranges if a <= b)
    if not members:
        return _Token(_Kind.SET, "[^/]" if negated else "(?!)")
    return _Token(_Kind.SET, f"(?!/)[{'^' if negated else ''}{members}]")


def _ranges(members: str) -> list[tuple[str, str]]:
    found = re.findall(r"(.)-(.)|(.)", members, re.DOTALL)
    return [(one, one) if one else (first, last) for first, last, one in found]


def _regex(tokens: list[_Token]) -> str:
    """Return a regex that takes at most quadratic time in the length of the key.

    Between two `**`, the earliest place where a part fits is as good as any later one,
    because the star before it takes up the difference. So each part is an atomic group
    and is never tried again elsewhere; only what must end with the key is.
    """
    leaps = {_Kind.DEEP, _Kind.FOLDERS}
    groups: list[tuple[_Kind | None, list[_Token]]] = [(None, [])]
    for token in tokens:
        if token.kind in leaps:
            groups.append((token.kind, []))
        else:
            groups[-1][1].append(token)
    parts = [_leap(kind, members, last=False) for kind, members in groups[:-1]]
    return "".join(parts) + _leap(*groups[-1], last=True) + r"\Z"


def _leap(kind: _Kind | None, members: list[_Token], *, last: bool) -> str:
    inner = _within(members, last=last)
    if kind is None:
        return inner
    skipped = ".*?" if kind is _Kind.DEEP else "(?:.*?/)??"
    return skipped + inner if last else f"(?>{skipped}{inner})"


def _within(members: list[_Token], *, last: bool) -> str:
    """Return the regex of what lies between two leaps: parts with stars between."""
    parts = [""]
    for token in members:
        if token.kind is _Kind.STAR:
            parts.append("")
        else:
            parts[-1] += token.regex
    first, *others = parts
    ending = f"[^/]*{others.pop()}" if last and others else ""
    return first + "".join(f"(?>[^/]*?{part})" for part in others) + ending
