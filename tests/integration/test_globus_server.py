"""A server whose users are logged in at Globus: whose things are, and what is told."""

from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from sqlalchemy import select

from aero.app import Aero
from aero.auth.base import Role
from aero.auth.globus import GlobusAuth
from aero.auth.globus_service import GlobusService
from aero.client import AeroClient
from aero.db.models import Data
from aero.error import ForbiddenError, UnauthorizedError
from aero.server.serving import serving
from aero.testing import FrozenClock
from tests.conftest import Publisher
from tests.globus_cloud import SECRET, GlobusCloud, globus_cloud

ADA, BOB = "ada-s-identity", "bob-s-identity"


@pytest.fixture
def cloud() -> Iterator[GlobusCloud]:
    with globus_cloud() as found:
        yield found


@pytest.fixture
def url(app: Aero, cloud: GlobusCloud, clock: FrozenClock) -> Iterator[str]:
    guard = GlobusAuth(
        GlobusService(cloud.client_id, SECRET),
        client_id=cloud.client_id,
        admins=["root@example.org"],
        member_role=Role.EDITOR,
        clock=clock,
        seconds=lambda: clock().timestamp(),
    )
    with serving(app, authenticator=guard, api_only=True) as found:
        yield found


def ask(url: str, path: str, token: str) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    return urllib3.request("GET", url + path, headers=headers, retries=False)


def test_what_somebody_makes_is_their_identitys(
    app: Aero, cloud: GlobusCloud, url: str, publisher: Publisher
) -> None:
    ada = cloud.issue("ada", sub=ADA, username="ada@example.org")
    bob = cloud.issue("bob-s-refresh-token", sub=BOB, exp=None)
    cloud.renew(bob, "never asked for")
    for token, name in ((ada, "a"), (bob, "b")):
        with AeroClient(url, token=token) as client:
            client.create_source(name, publisher.publish(f"{name}.csv", "x"))
            with pytest.raises(ForbiddenError, match="'admin'"):
                client.gc()
    root = cloud.issue("root", sub="root", username="root@example.org")
    with AeroClient(url, token=root) as client:
        client.gc()
    with app.db.read() as tx:
        rows = tx.execute(select(Data.name, Data.owner))
        found = {row.name: row.owner for row in rows}
    who = {entry["who"] for entry in app.audit()}
    assert found == {"a": ADA, "b": BOB}
    assert who == {ADA, BOB, "root"}


def test_revocation_and_an_outage_as_the_client_sees_them(
    cloud: GlobusCloud, url: str, clock: FrozenClock
) -> None:
    token = cloud.issue("ada", sub=ADA)
    with AeroClient(url, token=token) as client:
        client.limits()
        cloud.fails = 500
        clock.advance(59)
        client.limits()
        answer = ask(url, "/limit", cloud.issue("bob"))
        assert (answer.status, answer.json()["type"]) == (
            503,
            "urn:aero:auth-unavailable",
        )
        assert "Globus" in answer.json()["detail"]
        assert ask(url, "/health/ready", "bob").status == 200
        cloud.fails = None
        cloud.revoke(token)
        clock.advance(6)
        with pytest.raises(UnauthorizedError):
            client.limits()
