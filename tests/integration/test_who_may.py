"""Who may do what over HTTP: every route, every scope; two users; no token printed."""

import hmac
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from click.testing import CliRunner
from sqlalchemy import select

from aero import AeroOutput, api
from aero.app import Aero
from aero.auth.base import Scope
from aero.auth.none import NoAuthentication
from aero.auth.tokens import StaticTokens
from aero.cli.root import aero
from aero.client import AeroClient
from aero.config import load_conf
from aero.db.models import Data, Flow, Function
from aero.error import (
    ConfigError,
    DuplicateError,
    ForbiddenError,
    InvalidValueError,
    NotFoundError,
    UnauthorizedError,
)
from aero.provenance.tree import tree_lines
from aero.server.access import NEEDS, OPEN, SIGNED
from aero.server.api import make_api
from aero.server.serving import serving
from aero.testing import FrozenClock, make_app
from aero.tokens import Tokens
from tests.conftest import Publisher

# What the table in aero.server.access says, said a second time and in other words.
RUNS = {
    "POST /data/notify",
    "POST /data/{ref}/notify",
    "POST /flow/{ref}/run",
    "POST /run/{ref}/cancel",
    "POST /run/{ref}/retry",
}
ADMINS = {"POST /gc", "POST /limit/{endpoint}", "GET /audit"}


def needed(action: str) -> str | None:
    if "/health/" in action:
        return None
    if "/hooks/" in action:
        return SIGNED
    if action in RUNS | ADMINS:
        return "run" if action in RUNS else "admin"
    if action.startswith(("GET ", "HEAD ")):
        return "read"
    return "write"


@contextmanager
def guarded(app: Aero, *, api_only: bool = True) -> Iterator[str]:
    guard = StaticTokens(Tokens(app.db))
    with serving(app, authenticator=guard, api_only=api_only) as url:
        yield url


@pytest.fixture
def url(sqlite_app: Aero) -> Iterator[str]:
    with guarded(sqlite_app) as found:
        yield found


def ask(url: str, action: str, token: str | None, **options: Any) -> Any:
    method, path = action.split(" ")
    where = path.replace("{number}", "1").replace("{ref}", "nothing-of-it")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    where = where.replace("{name}", "nothing").replace("{endpoint}", "local")
    headers |= options.pop("headers", {})
    return urllib3.request(
        method, url + where, headers=headers, retries=False, timeout=20, **options
    )


def actions(app: Aero) -> list[str]:
    paths = make_api(app, StaticTokens(Tokens(app.db))).openapi()["paths"]
    return [f"{method.upper()} {path}" for path in paths for method in paths[path]]


# -- every route, every scope ---------------------------------------------------------


def test_every_route_is_declared_and_none_that_is_not_there(sqlite_app: Aero) -> None:
    undocumented = {"GET /openapi.json", "GET /docs", "GET /docs/oauth2-redirect"}
    declared = {action.replace("HEAD ", "GET ") for action in actions(sqlite_app)}
    assert declared == NEEDS.keys() - undocumented
    assert {name for name in undocumented if NEEDS[name] is not OPEN} == set()


def test_every_route_for_every_scope(sqlite_app: Aero, url: str) -> None:
    tokens = {
        scope.value: sqlite_app.create_token("a", scopes=[scope.value])["token"]
        for scope in Scope
    }
    found, wanted = {}, {}
    for action in actions(sqlite_app):
        need = needed(action)
        for who, token in {**tokens, "nobody": None, "bad": "aero_bad"}.items():
            status = ask(url, action, token).status
            found[action, who] = status if status in {401, 403} else 0
            # A webhook shows a secret of its own, which this server has none of.
            allowed = need != SIGNED and (need is None or who in {need, "admin"})
            unknown = need != SIGNED and who in {"nobody", "bad"}
            refused = 401 if unknown else 403
            wanted[action, who] = 0 if allowed else refused
    print(f"{len(found)} requests, each route with each scope, none and a bad token")
    assert found == wanted
    assert len(found) > 200


def test_a_route_that_is_not_declared_is_closed_to_all(sqlite_app: Aero) -> None:
    admin = sqlite_app.create_token("a", scopes=["admin"])["token"]
    for guard in (
        StaticTokens(Tokens(sqlite_app.db)),
        NoAuthentication(sqlite_app.owner),
    ):
        made = make_api(sqlite_app, guard)
        made.add_api_route("/forgotten", lambda: "secret", methods=["GET"])
        answer = in_process(made, "/forgotten", admin)
        assert answer[0] == 403
        assert b"no scope is declared" in answer[1]


def in_process(app: Any, path: str, token: str) -> tuple[int, bytes]:
    """Ask an ASGI application without a server."""
    import asyncio

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "headers": [
            (b"host", b"127.0.0.1"),
            (b"authorization", f"Bearer {token}".encode()),
        ],
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])


def test_the_document_says_what_the_gate_asks(sqlite_app: Aero) -> None:
    document = make_api(sqlite_app, StaticTokens(Tokens(sqlite_app.db))).openapi()
    [(scheme, kind)] = document["components"]["securitySchemes"].items()
    assert (kind["type"], kind["scheme"]) == ("http", "bearer")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            need = needed(f"{method.upper()} {path}")
            if need == SIGNED:
                assert "security" not in operation
                continue
            said = [{scheme: [need]}] if need else None
            assert operation.get("security") == said, path
            answers = {"401", "403"} & operation["responses"].keys()
            assert answers == ({"401", "403"} if need else set())


def test_without_authentication_the_document_asks_for_none(sqlite_app: Aero) -> None:
    document = make_api(sqlite_app).openapi()
    assert "securitySchemes" not in document["components"]
    for path, operations in document["paths"].items():
        if "/hooks/" not in path:
            assert all("401" not in each["responses"] for each in operations.values())


# -- what is answered -----------------------------------------------------------------


def test_refusals_are_problems_that_do_not_say_which(
    app: Aero, clock: FrozenClock
) -> None:
    expired = app.create_token("a", expires_days=1)["token"]
    revoked = app.create_token("b")
    app.revoke_token(revoked["id"])
    good = app.create_token("c", scopes=["read"])["token"]
    clock.advance(timedelta(days=1))
    with guarded(app) as url:
        answers = [
            ask(url, "GET /data", token)
            for token in (None, "aero_x", "x", expired, revoked["token"])
        ]
        answers += [
            ask(url, "GET /data", None, headers={"Authorization": value})
            for value in (f"Basic {good}", "Bearer", "Bearer ", good, "é")
        ]
        answers.append(ask(url, "GET /nowhere", None))
        assert ask(url, "GET /data", good).status == 200
        assert ask(url, "GET /nowhere", good).status == 404
        lacking = ask(url, "POST /gc", good, json={})
    assert {answer.status for answer in answers} == {401}
    assert len({answer.data for answer in answers}) == 1
    assert json.loads(answers[0].data)["type"] == "urn:aero:unauthorized"
    for answer in answers:
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="aero"'
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert lacking.status == 403
    assert json.loads(lacking.data)["facts"] == {"scope": "admin"}
    assert 'scope="admin"' in lacking.headers["WWW-Authenticate"]


def test_a_refused_body_is_not_even_read(url: str) -> None:
    broken = b"{" * 2_000_000
    for action in ("POST /flow/register", "POST /data/source"):
        answer = ask(url, action, None, body=broken)
        assert answer.status == 401


def test_slashes_and_case_do_not_get_around_the_gate(url: str) -> None:
    for path in ("/data/", "/data//", "//data", "/DATA", "/%64ata", "/data/./x"):
        assert ask(url, f"GET {path}", None).status == 401, path
    assert ask(url, "HEAD /data", None).status == 405
    assert ask(url, "HEAD /data/x/versions/1/file", None).status == 401
    assert ask(url, "GET /health/../data", None).status in {401, 404}


def test_a_token_counts_until_it_is_revoked_or_over(
    app: Aero, clock: FrozenClock
) -> None:
    made = app.create_token("a", expires_days=1)
    other = app.create_token("b")
    with (
        guarded(app) as url,
        AeroClient(url, token=made["token"]) as client,
        AeroClient(url, token=other["token"]) as another,
    ):
        assert client.limits() == another.limits() == []
        clock.advance(timedelta(days=1))
        with pytest.raises(UnauthorizedError):
            client.limits()
        assert another.limits() == []
        app.revoke_token(other["id"])
        with pytest.raises(UnauthorizedError) as caught:
            another.limits()
    assert caught.value.code == 401


def test_reading_writes_nothing(sqlite_app: Aero, url: str) -> None:
    token = sqlite_app.create_token("a")["token"]
    with AeroClient(url, token=token) as client:
        client.limits()
        before = sqlite_app.db.writes
        for _ in range(20):
            client.limits()
            list(client.list_metadata("data"))
        assert sqlite_app.db.writes == before
    assert audit(sqlite_app) == []


def audit(app: Aero) -> list[Any]:
    """Return what was logged of changes over HTTP, newest first."""
    return [SimpleNamespace(**e) for e in app.audit() if "token" not in e["what"]]


# -- two users ------------------------------------------------------------------------


def shout(cases):
    from pathlib import Path

    Path("loud.txt").write_text(Path(cases).read_text().upper())
    return AeroOutput("loud", "loud.txt")


def signed(url: str, secret: str, told: dict[str, str]) -> Any:
    """Send what a program that knows the secret sends."""
    body, now = json.dumps(told).encode(), str(int(time.time()))
    mac = hmac.new(secret.encode(), now.encode() + b"." + body, "sha256").hexdigest()
    marks = {"X-Aero-Timestamp": now, "X-Aero-Signature": f"sha256={mac}"}
    return ask(url, "POST /hooks/generic", None, body=body, headers=marks)


def test_two_users_and_a_webhook(
    tmp_path: Path, database_url: str, publisher: Publisher
) -> None:
    secret = "a secret of sixteen and more"
    home = tmp_path / "home"
    with make_app(home, database_url=database_url, webhook_secret=secret) as app:
        app.add_member("lab", "ada", "editor")
        app.add_member("lab", "bob")
        ada, bob, eve = (token(app, user) for user in ("ada", "bob", "eve"))
        with (
            guarded(app, api_only=False) as url,
            AeroClient(url, token=ada) as hers,
            AeroClient(url, token=bob) as his,
            AeroClient(url, token=eve) as strange,
        ):
            published = publisher.publish("cases.csv", "one")
            cases = hers.create_source("cases", published, group="lab")
            flow = his.register_flow(
                "local",
                his.register_function(shout),
                {"cases": {"id": "cases"}},
                {"loud": {}},
                policy="ANY",
            )
            [heard] = signed(url, secret, {"url": published}).json()["triggered"]
            hers.run_until_idle(60)
            his.run_until_idle(60)
            up, down = his.lineage("loud"), hers.lineage("cases", "down")
            assert [n["name"] for n in up.nodes.values()] == ["loud", "cases"]
            assert up.nodes[up.edges[0][1]]["sources"][0]["url"] == published
            # That something was made of it she sees, and no more.
            assert down.edges == [(up.root, down.root)]
            assert down.nodes[up.root] == {"id": up.root, "hidden": True}
            assert list(tree_lines(down))[1] == f"└── (hidden)  version {up.root[:12]}"
            for unseen in ("loud", flow["id"], "cases"):
                with pytest.raises(NotFoundError):
                    strange.lineage(unseen)
            with pytest.raises(NotFoundError):
                hers.get_flow(flow["id"])
            with pytest.raises(ForbiddenError, match="'lab'") as no:
                his.notify(url=published)
            with pytest.raises(ForbiddenError, match="Other people's flows"):
                hers.delete_data_flows("cases")
            assert len(his.get_data_flows("cases")) == 2
            with pytest.raises(ForbiddenError, match="not an editor"):
                his.share("data", "loud", group="lab")
            his.share("data", "loud", public=True)
            assert hers.lineage("loud").nodes[up.root]["flow_id"] is None
            his.pause_flow(flow["id"][:10])
            hers.delete_flow("cases")
        assert (no.value.code, no.value.role) == (403, "editor")
        assert "hidden" not in app.lineage("cases", "down").nodes[up.root]
        owners = owners_of(app)
        changes = [(e.who, e.what, e.about.get("ids")) for e in audit(app)[::-1]]
    assert heard["flow_id"] == cases["flow_id"]
    assert owners == {
        Data: {"ada", "bob"},
        Flow: {"ada", "bob"},
        Function: {"bob"},
    }
    loud = flow["contributed_to"][0]["id"]
    assert changes[2:] == [
        ("ada", "POST /data/source", [cases["id"]]),
        ("bob", "POST /function", [flow["function_id"]]),
        ("bob", "POST /flow/register", [flow["id"]]),
        ("bob", "POST /data/{ref}/share", [loud]),
        ("bob", "POST /flow/{ref}/pause", [flow["id"]]),
        ("ada", "DELETE /flow/{ref}", [cases["flow_id"]]),
    ]
    assert [what for _, what, _ in changes[:2]] == ["group add", "group add"]


def token(app: Aero, owner: str) -> str:
    scopes = ["read", "run", "write"]
    return str(app.create_token("t", owner=owner, scopes=scopes)["token"])


def owners_of(app: Aero) -> dict[Any, set[str]]:
    with app.db.read() as tx:
        return {
            model: set(tx.execute(select(model.owner)).scalars())
            for model in (Data, Flow, Function)
        }


def test_scopes_are_the_outer_gate(app: Aero, publisher: Publisher) -> None:
    hook = app.create_token("hook", owner="ada", scopes=["run"])["token"]
    ada = app.create_token("laptop", owner="ada", scopes=["read", "write"])["token"]
    with (
        guarded(app) as url,
        AeroClient(url, token=ada) as hers,
        AeroClient(url, token=hook) as webhook,
    ):
        published = publisher.publish("cases.csv", "one")
        cases = hers.create_source("cases", published)
        told = ask(url, "POST /data/notify", hook, json={"file_id": cases["id"]})
        assert told.json()["flow_id"] == cases["flow_id"]
        with pytest.raises(ForbiddenError, match="lacks the scope 'read'") as no:
            webhook.get_data("cases")
        with pytest.raises(ForbiddenError, match="'run'"):
            hers.run_flow("cases")
        with pytest.raises(ForbiddenError, match="'admin'"):
            hers.gc()
        with pytest.raises(ForbiddenError, match="'admin'"):
            list(hers.audit())
        with pytest.raises(DuplicateError):
            hers.create_source("cases", published, idempotency_key="again")
    assert (no.value.code, no.value.scope) == (403, "read")


def test_one_key_of_two_users_makes_two_sources(
    app: Aero, publisher: Publisher
) -> None:
    tokens = [
        app.create_token("t", owner=owner, scopes=["write"])["token"]
        for owner in ("ada", "bob")
    ]
    with guarded(app) as url:
        made = []
        for token in tokens:
            with AeroClient(url, token=token) as client:
                where = publisher.publish(f"{len(made)}.csv", "x")
                made += [
                    client.create_source("s", where, idempotency_key="k")["id"]
                    for _ in range(2)
                ]
    assert made[0] == made[1] != made[2] == made[3]


def test_a_change_that_failed_is_not_logged(app: Aero) -> None:
    token = app.create_token("t", scopes=["write"])["token"]
    with (
        guarded(app) as url,
        AeroClient(url, token=token) as client,
        pytest.raises(NotFoundError),
    ):
        client.pause_flow("nothing")
    assert audit(app) == []


def test_an_administrators_doings_are_logged(app: Aero) -> None:
    token = app.create_token("t", owner="eve", scopes=["admin"])["token"]
    with guarded(app) as url, AeroClient(url, token=token) as client:
        client.gc(dry_run=True)
        client.set_limit("local", 3)
        client.gc()
    logged = {row.what: (row.who, row.about) for row in audit(app)}
    assert logged == {
        "POST /limit/{endpoint}": ("eve", {"endpoint": "local"}),
        "POST /gc": ("eve", {}),
    }
    assert len(audit(app)) == 2


def test_without_authentication_all_is_the_owners_and_headers_are_ignored(
    sqlite_app: Aero, publisher: Publisher
) -> None:
    with serving(sqlite_app, api_only=True) as url:
        for token in (None, "aero_bad", "é"):
            assert ask(url, "GET /status", token).status == 200
        with AeroClient(url, token="aero_old") as client:
            client.create_source("cases", publisher.publish("a.csv", "x"))
    with sqlite_app.db.read() as tx:
        assert tx.execute(select(Data.owner)).scalars().all() == [sqlite_app.owner]
    assert [row.who for row in audit(sqlite_app)] == [sqlite_app.owner]


def test_without_authentication_web_pages_are_refused(sqlite_app: Aero) -> None:
    foreign = [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Host": "evil.example"},  # whose name was given the address 127.0.0.1
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "[::1"},
        {"Host": ""},
    ]
    with serving(sqlite_app, api_only=True) as url:
        port = url.rpartition(":")[2]
        for headers in foreign:
            answer = ask(url, "POST /gc", None, json={}, headers=headers)
            assert answer.status == 403, headers
            assert answer.headers.get("Access-Control-Allow-Origin") is None
        for headers in (
            {"Origin": url},
            {"Host": f"localhost:{port}"},
            {"Host": f"[::1]:{port}", "Origin": f"http://[::1]:{port}"},
        ):
            answer = ask(url, "POST /gc", None, json={}, headers=headers)
            assert answer.status == 200, headers
    assert len(audit(sqlite_app)) == 3


# -- serving --------------------------------------------------------------------------


def test_no_other_address_is_served_without_authentication(sqlite_app: Aero) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", "127.0.0.1.example.org"):
        with (
            pytest.raises(ConfigError, match="aero token create") as caught,
            serving(sqlite_app, host),
        ):
            pass
        assert "--auth tokens" in str(caught.value)


def test_any_address_is_served_with_it(sqlite_app: Aero) -> None:
    token = sqlite_app.create_token("a")["token"]
    guard = StaticTokens(Tokens(sqlite_app.db))
    with serving(sqlite_app, "0.0.0.0", authenticator=guard, api_only=True) as url:
        here = url.replace("0.0.0.0", "127.0.0.1")
        assert ask(here, "GET /data", token).status == 200
        assert ask(here, "GET /data", None).status == 401


# -- the command line, and what is never printed --------------------------------------


def invoke(*args: str, code: int = 0) -> Any:
    result = CliRunner().invoke(aero, args, prog_name="aero")
    assert result.exit_code == code, result.output
    return result


def test_the_commands(isolation: Path) -> None:
    made = invoke("token", "create", "laptop", "--owner", "ada", "--scope", "run")
    secret = made.stdout.strip()
    assert secret.startswith("aero_")
    assert "not shown again" in made.stderr
    record = json.loads(
        invoke("token", "create", "x", "--expires", "2", "--json").stdout
    )
    listed = json.loads(invoke("token", "list", "--json").stdout)
    assert [(t["name"], t["scopes"]) for t in listed] == [
        ("x", ["read"]),
        ("laptop", ["run"]),
    ]
    shown = invoke("token", "list").output
    assert "laptop" in shown
    revoked = json.loads(invoke("token", "revoke", record["id"], "--json").stdout)
    assert revoked["state"] == "revoked"
    assert "good for nothing" in invoke("token", "revoke", record["id"][:8]).stdout
    assert secret not in shown + json.dumps(listed) + json.dumps(revoked)
    assert "There is no token" in invoke("token", "revoke", "x" * 8, code=1).stderr
    invoke("token", "create", "x", "--scope", "all", code=2)
    refused = invoke("serve", "--host", "0.0.0.0", "--port", "0", code=1).stderr
    assert "aero token create" in refused


def test_a_token_is_never_printed(
    sqlite_app: Aero,
    url: str,
    isolation: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    token = sqlite_app.create_token("a")["token"]
    monkeypatch.setenv("AERO_SERVER_URL", url)
    monkeypatch.setenv("AERO_TOKEN", token)
    conf = load_conf()
    assert conf.token == token
    said = [repr(conf), str(conf)]
    with AeroClient(url, token=token) as client:
        said += [repr(client), str(client)]
        with pytest.raises(ForbiddenError) as caught:
            client.gc()
        said += [repr(caught.value), repr(caught.value.facts)]
    for level in ("WARNING", "DEBUG"):
        said += [invoke("-l", level, "status").output]
        said += [invoke("-l", level, "gc", code=1).output]
    (isolation.parent / "c.toml").write_text(f'[default]\ntoken = "{token}"\n')
    (isolation.parent / "c.toml").chmod(0o600)
    said += [invoke("configure", "-f", str(isolation.parent / "c.toml")).output]
    sqlite_app.revoke_token(sqlite_app.list_tokens()[0]["id"])
    with pytest.raises(UnauthorizedError, match="AERO_TOKEN") as no:
        api.open_workspace().limits()
    api.reset()
    said += [repr(no.value), caplog.text]
    assert all(said)
    assert [text for text in said if token.removeprefix("aero_") in text] == []


@pytest.mark.parametrize("bad", ["aero_x\n", "aero_x\r\nX: y", "aero x", "", "aeroé"])
def test_a_token_that_cannot_be_sent_is_not_quoted(bad: str) -> None:
    with pytest.raises(InvalidValueError, match="cannot be sent") as caught:
        AeroClient("http://127.0.0.1:1", token=bad)
    assert not bad or bad not in str(caught.value)
