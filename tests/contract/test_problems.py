"""What the server says of requests that are wrong: a problem, and never a 5xx."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from aero.app import Aero
from aero.client import AeroClient
from aero.error import InvalidValueError, NotFoundError
from aero.server.body_limit import LIMIT
from tests.plain_http import PlainHttp, Reply, plainly_served

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def server(app: Aero) -> Iterator[PlainHttp]:
    with plainly_served(app) as http:
        yield http


def is_problem(reply: Reply, status: int) -> bool:
    """Whether a reply is a problem that a person can read."""
    found = reply.json
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert found.keys() >= {"type", "title", "status", "detail"}
    assert found["status"] == status
    return bool(found["detail"]) and "Traceback" not in found["detail"]


def test_unknown_paths_and_methods(server: PlainHttp) -> None:
    for path in ("/nowhere", "/", "/data/x/nothing", "/flow/a/b/c", "/%2F"):
        assert is_problem(server.get(path), 404)
    for method, path, allowed in (
        ("PUT", "/data", "GET"),
        ("POST", "/data", "GET"),
        ("GET", "/data/notify", "POST"),
        ("DELETE", "/data/source/", "POST"),
        ("GET", "/flow/register", "POST"),
        ("PATCH", "/flow/x", "DELETE, GET"),
        ("DELETE", "/data/x/versions/1/file", "GET, HEAD"),
        ("TRACE", "/run/x/cancel", "POST"),
        ("OPTIONS", "/health/live", "GET"),
    ):
        reply = server.send(method, path)
        assert is_problem(reply, 405)
        assert reply.headers["Allow"] == allowed


DEEP = '{"a":' * 3000 + "1" + "}" * 3000


@pytest.mark.parametrize(
    "kwargs",
    [
        '{"a": "\\u0000"}',
        '{"a\\u0000": 1}',
        '{"a": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"a": NaN}',
        '{"a": [1, -Infinity]}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a":' * 101 + "1" + "}" * 101,
        DEEP,
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"class": 1}',
        "[1]",
        "7",
    ],
    ids=lambda text: text[:12],
)
def test_what_cannot_be_kept_is_refused(server: PlainHttp, kwargs: str) -> None:
    source = '{"name": "n", "url": "http://h/n", "function_uuid": "f", "kwargs": %s}'
    flow = '{"output_data": {"n": {"url": "http://h/n"}}, "flow_kwargs": %s}'
    for path, body in (("/data/source", source), ("/flow/register", flow)):
        assert is_problem(
            server.send("POST", path, (body % kwargs).encode(), JSON), 422
        )
    assert server.get("/flow").json == []


def test_what_can_be_kept_comes_back(server: PlainHttp) -> None:
    kwargs: Any = {"huge": 10**300, "emoji": "\U0001f600", "a": {}, "half": 0.5}
    inner = kwargs["a"]
    for _ in range(90):
        inner["a"] = {}
        inner = inner["a"]
    body = {"output_data": {"n": {"url": "http://h/n"}}, "flow_kwargs": kwargs}
    flow = server.post("/flow/register", body)
    assert flow.status == 200, flow.body
    found = server.get(f"/flow/{flow.json['id']}").json["function_args"]["kwargs"]
    assert {name: found[name] for name in kwargs} == kwargs


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", JSON),
        (b"", JSON),
        (b"null", JSON),
        (b"[]", JSON),
        (b'"text"', JSON),
        (b'{"name": "\xff"}', JSON),
        (b"\xff\xfe", JSON),
        (b'{"name": "n", "url": "http://h/n"}', {"Content-Type": "text/plain"}),
        (
            b"name=n&url=http://h/n",
            {"Content-Type": "application/x-www-form-urlencoded"},
        ),
        (b'{"name": "n", "url": "http://h/n"}', {}),
        (b'{"name": 7, "url": "http://h/n"}', JSON),
        (b'{"name": "n", "url": "http://h/n", "retries": "2"}', JSON),
        (b'{"name": "n", "url": "http://h/n", "retries": 1e400}', JSON),
        (b'{"name": "n", "url": "http://h/n", "priority": %d}' % 10**40, JSON),
        (b'{"name": "n", "url": "http://h/n", "no_copy": "yes"}', JSON),
        (b'{"name": "n", "url": "not a url"}', JSON),
        (b'{"name": "n", "url": "http://[h/n"}', JSON),
        (b'{"name": " ", "url": "http://h/n"}', JSON),
    ],
)
def test_malformed_bodies(
    server: PlainHttp, body: bytes, headers: dict[str, str]
) -> None:
    assert is_problem(server.send("POST", "/data/source", body, headers), 422)


def test_sizes_have_bounds(server: PlainHttp, app: Aero) -> None:
    app.create_source("n", "http://h/n", no_copy=True)
    body = {"file_id": "n", "etag": "e"}
    assert is_problem(server.post("/data/notify", {**body, "size": 2**63}), 422)
    assert is_problem(server.post("/data/notify", {**body, "size": -1}), 422)
    assert server.post("/data/notify", {**body, "size": 2**63 - 1}).status == 200


def test_long_bodies_are_refused_by_length_and_by_what_comes(
    server: PlainHttp,
) -> None:
    body = b'{"name": "' + b"x" * LIMIT + b'"}'
    assert is_problem(server.send("POST", "/data/source", body, JSON), 413)

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(body), 1 << 20):
            yield body[at : at + (1 << 20)]

    assert is_problem(server.send("POST", "/data/source", chunks(), JSON), 413)
    assert server.get("/data").json == []


def test_long_values_are_not_told_back(server: PlainHttp) -> None:
    reply = server.post("/flow/register", {"gc_endpoint": "x", "rule": "y" * 100_000})
    assert is_problem(reply, 422)
    assert len(reply.json["detail"]) < 3000


def test_names_may_hold_anything(server: PlainHttp, app: Aero) -> None:
    for name in ("a/b", "50%", "%2F", "Zählung 中文", "a?b#c", "..", "x@y;z=1", "ß\n"):
        made = app.create_source(name, f"http://h/{app.idle()}", exist_ok=True)
        with AeroClient(server.url) as client:
            assert client.get_data(name)["id"] == made["id"], name
            assert client.get_data_flows(name)[0]["flow_id"] == made["flow_id"]
        app.delete_data_flows(made["id"])


def test_names_that_name_nothing(app: Aero, server: PlainHttp) -> None:
    with AeroClient(server.url) as client:
        for name in ("", None):
            for workspace in (app, client):
                with pytest.raises(InvalidValueError, match="names"):
                    workspace.get_data(name)
        with pytest.raises(NotFoundError):
            client.get_data(".")
    assert is_problem(server.get("/data/a%00b"), 422)
    assert is_problem(server.get("/data/search?query=%00"), 422)
    assert is_problem(server.get("/data/%FF%FE"), 404)
    assert server.get("/data/search?query=%FF").json == []


def cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "page=x",
        "page=99999999999999999999",
        "limit=0",
        "limit=1001",
        "offset=-1",
        "offset=1e9",
        "after=x",
        "after=%C3%A9",
        "after=" + "A" * 201,
        f"after={cursor(True)}",
        f"after={cursor(-1)}",
        f"after={cursor(10**30)}",
        f"after={cursor(None)}",
        f"after={cursor(['2026-01-01', 'x'])}",
        f"after={cursor(['0001-01-01T00:00:00+23:00', '0' * 32])}",
        f"after={cursor([1, 2])}",
        f"after={cursor({'a': 1})}",
    ],
)
def test_bounds_of_queries(server: PlainHttp, app: Aero, query: str) -> None:
    app.create_source("n", "http://h/n")
    for path in ("/data", "/data/n/versions", "/run", "/prov"):
        assert is_problem(server.get(f"{path}?{query}"), 422)


def test_positions_of_one_list_are_none_in_another(
    server: PlainHttp, app: Aero
) -> None:
    app.create_source("n", "http://h/n")
    moment = cursor(["2026-01-01T00:00:00+00:00", "0" * 32])
    assert is_problem(server.get(f"/data?after={cursor(3)}"), 422)
    assert is_problem(server.get(f"/data/n/versions?after={moment}"), 422)
    assert server.get(f"/data?after={moment}").json == []


def test_links_lead_on_from_any_name(server: PlainHttp, app: Aero) -> None:
    app.create_source("中/文", "http://h/n", no_copy=True)
    for number in range(3):
        app.notify(file_id="中/文", etag=str(number))
    with AeroClient(server.url) as client:
        assert len(list(client.list_versions("中/文"))) == 3
    page = server.get("/data/%E4%B8%AD%2F%E6%96%87/versions?limit=2&colour=red")
    following = page.headers["Link"].split(">")[0].strip("<")
    assert following.startswith(server.url)
    rest = server.get(following.removeprefix(server.url))
    assert [v["version"] for v in page.json + rest.json] == [3, 2, 1]
    assert "Link" not in rest.headers


def test_what_went_wrong_inside_stays_inside(
    server: PlainHttp, app: Aero, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret internals")

    monkeypatch.setattr(app, "get_data", fail)
    reply = server.get("/data/x")
    assert is_problem(reply, 500)
    assert b"secret" not in reply.body
