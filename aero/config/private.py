"""Files that only their owner may read, and the token or secret that is in one."""

import os
import re
from pathlib import Path

from aero.error import ConfigError

_OTHERS = 0o077
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")


def require_private(path: Path, what: str) -> None:
    """Refuse a file with secrets that others can read.

    Args:
        path: The file, which must be there.
        what: What it is called in messages.

    Raises:
        ConfigError: It is open to others, or cannot be found.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(
            f"The {what} {path} cannot be read ({error.strerror}): create it or "
            "remove the setting that names it.",
            path=str(path),
        ) from error
    if mode & _OTHERS:
        raise ConfigError(
            f"The {what} {path} can be read by others: run 'chmod 600 {path}'.",
            path=str(path),
        )


def token_text(value: object) -> str:
    """Return a token that can be sent in a header.

    Raises:
        ValueError: It cannot be; the message does not quote it.
        TypeError: It is no text.
    """
    if not isinstance(value, str):
        raise TypeError("A token is text.")
    if not _TOKEN.fullmatch(value):
        raise ValueError("A token is printable ASCII without spaces.")
    return value


def token_in(path: Path, what: str = "token") -> str | None:
    """Return the token that a file of mode 0600 holds, or None without the file.

    Args:
        path: The file.
        what: What it holds, as messages call it.

    Raises:
        ConfigError: The file is open to others or holds no token; the message does not
            quote it.
    """
    if not path.exists():
        return None
    require_private(path, f"{what} file")
    try:
        return token_text(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        raise ConfigError(
            f"The {what} file {path} cannot be used: write the {what} into it and "
            "nothing else.",
            path=str(path),
        ) from None


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, in one step, for good.

    Raises:
        OSError: It cannot be written; what was there is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        temporary.touch(mode=0o600, exist_ok=False)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
