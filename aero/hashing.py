"""Pure hashes, SHA-256 throughout."""

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

CHUNK = 1 << 20
KEY_LIMIT = 200


def sha256_text(text: str) -> str:
    """Return the hexadecimal SHA-256 of `text` in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes, in constant memory."""
    with path.open("rb") as file:
        return sha256_stream(file)


def sha256_stream(stream: BinaryIO) -> str:
    """Return the hexadecimal SHA-256 of what a stream still holds, likewise."""
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def canonical(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: `value` holds a NaN or an infinity.
        TypeError: `value` holds something JSON has no word for.
    """
    return json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )


def fingerprint(**parts: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `parts`."""
    return sha256_text(canonical(parts))


def bounded_key(key: str) -> str:
    """Return `key`, or if it is over 200 bytes its beginning and its SHA-256."""
    raw = key.encode()
    if len(raw) <= KEY_LIMIT:
        return key
    head = raw[: KEY_LIMIT - 65].decode(errors="ignore")
    return f"{head}:{sha256_text(key)}"
