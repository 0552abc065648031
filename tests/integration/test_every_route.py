"""Every route for every role: what may not be seen is 404, what not changed is 403."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import urllib3

from aero.app import Aero
from aero.server.api import make_api
from tests.conftest import Publisher
from tests.guests import GROUP, Things, copied, guarded, join, own, token

USERS = ["nobody", "stranger", "viewer", "editor", "leader", "owner", "server admin"]
SHARED: dict[str, dict[str, Any]] = {
    "private": {},
    "group": {"group": GROUP},
    "public": {"public": True},
}

# What each may do to what the owner has: see it, edit and run it, own (delete, share).
RIGHTS = """
                private        group          public
stranger        -              -              see
viewer          -              see            see
editor          -              see+edit       see
leader          -              see+edit+own   see
owner           see+edit+own   see+edit+own   see+edit+own
server admin    see+edit+own   see+edit+own   see+edit+own
"""

# What each route needs, and what it answers to who has that.
#   open: nothing   any: a token   admin: administration   secret: one of its own
#   see, edit, own: of the thing that it names
ROUTES = """
GET    /health/live                         open   200
GET    /health/ready                        open   200
GET    /data                                any    200
GET    /data/search                         any    200
GET    /data/types                          any    200
GET    /data/types/{name}                   see    200
GET    /data/{ref}                          see    200
GET    /data/{ref}/versions                 see    200
GET    /data/{ref}/latest                   see    200
GET    /data/{ref}/versions/{number}        see    200
GET    /data/{ref}/versions/{number}/file   see    200
HEAD   /data/{ref}/versions/{number}/file   see    200
GET    /data/{ref}/lineage                  see    200
GET    /data/{ref}/flows                    see    200
GET    /flow                                any    200
GET    /flow/{ref}                          see    200
GET    /flow/{ref}/explain                  see    200
GET    /function/{ref}                      see    200
GET    /run                                 any    200
GET    /run/downloads                       any    200
GET    /run/{ref}                           see    200
GET    /run/{ref}/log                       see    200
GET    /prov                                any    200
GET    /prov/{ref}                          see    200
POST   /prov/inputs                         edit   200
POST   /prov/new                            edit   409
GET    /status                              any    200
GET    /queue                               any    200
GET    /limit                               any    200
GET    /metrics                             any    200
GET    /audit                               admin  200
POST   /hooks/s3                            secret 403
POST   /hooks/generic                       secret 403
POST   /data/notify                         edit   200
POST   /data/{ref}/notify                   edit   200
POST   /data/source                         any    200
POST   /data/types/{name}/urls              edit   200
POST   /data/{ref}/share                    own    200
POST   /function                            any    200
POST   /function/{ref}/share                own    200
POST   /flow/register                       see    200
POST   /flow/register  (its function)       see    200
POST   /flow/register  (its output)         edit   409
POST   /flow/{ref}/pause                    edit   200
POST   /flow/{ref}/resume                   edit   200
POST   /flow/{ref}/set                      edit   200
POST   /flow/{ref}/run                      edit   200
POST   /flow/{ref}/share                    own    200
POST   /run/{ref}/cancel                    edit   200
POST   /run/{ref}/retry                     edit   409
DELETE /flow/{ref}                          own    200
DELETE /data/{ref}/flows                    own    200
POST   /limit/{endpoint}                    admin  200
POST   /gc                                  admin  200
"""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    route: str
    about: str
    need: str
    status: int


def rows() -> list[Row]:
    found = []
    for line in ROUTES.strip().splitlines():
        start, need, status = line.rsplit(maxsplit=2)
        route, _, about = start.partition("  (")
        method, path = route.split()
        found.append(Row(f"{method} {path}", about.strip(" )"), need, int(status)))
    return found


def rights() -> dict[tuple[str, str], set[str]]:
    heading, *lines = RIGHTS.strip("\n").splitlines()
    found = {}
    for line in lines:
        user, *each = line.rsplit(maxsplit=3)
        for shared, words in zip(heading.split(), each, strict=True):
            found[user.strip(), shared] = set(words.split("+"))
    return found


def wanted(row: Row, user: str, may: set[str]) -> int:
    """Return the status that the two tables ask for."""
    if row.need in {"open", "secret"}:
        return row.status
    if user == "nobody":
        return 401
    if row.need == "admin":
        return row.status if user == "server admin" else 403
    if row.need == "any" or row.need in may:
        return row.status
    return 403 if "see" in may else 404


BODIES: dict[str, Callable[[Things, str], Any]] = {
    "POST /data/notify": lambda its, _: {"url": its.url, "dedup": False},
    "POST /data/{ref}/notify": lambda *_: {"dedup": False},
    "POST /data/source": lambda _, user: {"name": user, "url": f"http://h/{user}"},
    "POST /data/types/{name}/urls": lambda its, _: {"url": its.url},
    "POST /function": lambda *_: {
        "name": "f",
        "source": "def f():\n    return None\n",
        "python_version": "3.11",
    },
    "POST /limit/{endpoint}": lambda *_: {"max_running": 9},
    "POST /flow/{ref}/set": lambda *_: {"priority": 1},
    "POST /prov/inputs": lambda its, _: {"schema": 1, "run_id": its.run, "attempt": 1},
    "POST /prov/new": lambda its, _: {"schema": 1, "run_id": its.run, "attempt": 99},
    "POST /gc": lambda *_: {"dry_run": True},
}


def register(row: Row, its: Things, user: str, function: str) -> Any:
    """Return a flow of the user's own that uses one of the things."""
    body: dict[str, Any] = {
        "function_uuid": function,
        "input_data": {},
        "output_data": {"copy": {}},
        "flow_kwargs": {"user": user, "about": row.about + its.name},
    }
    if row.about == "its function":
        body["function_uuid"] = its.function
    elif row.about == "its output":
        body["output_data"] = {"copy": {"id": its.data}}
    else:
        body["input_data"] = {"cases": {"id": its.data}}
    return body


class Asking:
    """Asks a server, as any of the users, about somebody's things."""

    def __init__(self, url: str, tokens: dict[str, str], function: str) -> None:
        self.url = url
        self.tokens = tokens
        self.function = function
        self.pool = urllib3.PoolManager()

    def __call__(self, row: Row, user: str, its: Things, shared: str) -> int:
        method, path = row.route.split()
        kind = path.split("/")[1]
        ref = getattr(its, kind, "")
        for name, value in {
            "ref": ref,
            "number": "1",
            "name": f"type-{its.name}",
            "endpoint": "local",
        }.items():
            path = path.replace(f"{{{name}}}", value)
        headers = {}
        if user in self.tokens:
            headers["Authorization"] = f"Bearer {self.tokens[user]}"
        body = None
        if method == "POST":
            body = BODIES.get(row.route, lambda *_: {})(its, user)
            if path.endswith("/share"):
                body = SHARED[shared]
            if path == "/flow/register":
                body = register(row, its, user, self.function)
        query = "?query=x" if path == "/data/search" else ""
        answer = self.pool.request(
            method, self.url + path + query, json=body, headers=headers, retries=False
        )
        return int(answer.status)


def test_the_table_has_every_route(sqlite_app: Aero) -> None:
    paths = make_api(sqlite_app).openapi()["paths"]
    there = {f"{method.upper()} {path}" for path in paths for method in paths[path]}
    assert {row.route for row in rows()} == there


def test_the_tables_are_read_as_they_are_meant() -> None:
    may = rights()
    assert len(may) == (len(USERS) - 1) * len(SHARED)
    assert may["editor", "group"] == {"see", "edit"}
    assert may["stranger", "private"] == {"-"}
    edit = Row("POST /x", "", "edit", 200)
    assert [wanted(edit, "x", m) for m in ({"-"}, {"see"}, {"see", "edit"})] == [
        404,
        403,
        200,
    ]


@pytest.mark.parametrize("shared", SHARED)
def test_every_route_for_every_role(
    shared: str, sqlite_app: Aero, publisher: Publisher
) -> None:
    app = sqlite_app
    join(app, viewer="viewer", editor="editor", leader="admin", owner="editor")
    tokens = {user: token(app, user) for user in USERS[1:-1]}
    tokens["server admin"] = token(app, "server admin", "admin")
    function = app.register_function(copied, public=True)
    count = iter(range(1000))

    def things() -> Things:
        return own(app, publisher, "owner", f"{shared}{next(count)}", **SHARED[shared])

    its, may = things(), rights()
    found, expected = {}, {}
    # What is not about the things is asked once.
    asked = [r for r in rows() if shared == "group" or r.need in {"see", "edit", "own"}]
    with guarded(app) as url:
        ask = Asking(url, tokens, function)
        for row in asked:
            for user in USERS:
                # What is deleted is gone, and what was added in between is in the way.
                about = things() if row.route.startswith("DELETE") else its
                found[row, user] = ask(row, user, about, shared)
                expected[row, user] = wanted(row, user, may.get((user, shared), set()))
        ask.pool.clear()
    wrong = {
        f"{row.route} {row.about} by {user}": (status, expected[row, user])
        for (row, user), status in found.items()
        if status != expected[row, user]
    }
    print(f"{len(found)} requests about what is {shared}")
    assert wrong == {}
    assert len(found) == len(asked) * len(USERS) > 200


def test_a_role_that_is_taken_away_counts_no_more(
    app: Aero, publisher: Publisher
) -> None:
    join(app, owner="editor", viewer="viewer")
    its = own(app, publisher, "owner", "x", group=GROUP)
    [row] = [row for row in rows() if row.route == "GET /data/{ref}"]
    with guarded(app) as url:
        ask = Asking(url, {"viewer": token(app, "viewer")}, "")
        assert ask(row, "viewer", its, "group") == 200
        app.remove_member(GROUP, "viewer")
        assert ask(row, "viewer", its, "group") == 404
        join(app, viewer="viewer")
        assert ask(row, "viewer", its, "group") == 200
        ask.pool.clear()
