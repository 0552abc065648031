"""The command line: `aero`. It parses and prints; the work is done elsewhere."""

import sys


def main() -> None:
    """Run `aero` with this process's arguments, and exit."""
    if sys.platform == "win32":
        sys.stderr.write("Error: aero does not run on Windows itself: use WSL 2.\n")
        raise SystemExit(1)
    from aero.cli.root import aero

    aero(prog_name="aero")
