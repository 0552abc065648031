"""Nobody is asked who they are: for an address that only this machine reaches."""

from aero.auth.base import EVERYTHING, Identity


class NoAuthentication:
    """Takes every request, with whatever token, for the owner's of the workspace.

    Args:
        owner: Of the workspace.
    """

    loopback_only = True
    scheme = None

    def __init__(self, owner: str) -> None:
        self._owner = Identity(id=owner, name=owner, scopes=EVERYTHING)

    def identify(self, token: str | None) -> Identity:  # noqa: ARG002 -- ignored
        """Return the owner."""
        return self._owner
