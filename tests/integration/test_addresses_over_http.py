"""No user of a server makes it reach what only the server reaches, however it is named.

Every route that takes a URL is given addresses of a server on loopback, which must not
hear of any; names are resolved by the tests. Where an address must play a public one,
that is 127.0.0.1, while 127.0.0.2 stays what it is.
"""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from aero.app import Aero
from aero.auth.tokens import StaticTokens
from aero.error import SourceUnavailableError
from aero.hooks import SIGNATURE, TIMESTAMP, sign
from aero.server.serving import serving
from aero.sources import FetchPolicy, addresses, fetch
from aero.testing import make_app
from aero.tokens import Tokens
from tests.loopback import Answer, Loopback, loopback

SECRET = "a secret of webhooks"
NAMES = {
    "inner.test": ["127.0.0.1"],
    "inner.test.": ["127.0.0.1"],
    "six.test": ["::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "lan.test": ["192.168.1.1"],
    "metadata.test": ["169.254.169.254"],
    "mixed.test": ["93.184.216.34", "127.0.0.1"],
    "public.test": ["127.0.0.3"],
}
HOSTS = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0x7f000001",
    "0x7f.1",
    "0",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "0xa9fea9fe",
    "224.0.0.1",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "localhost",
    "LOCALHOST",
    "\uff11\uff12\uff17.0.0.1",
    "\u2460\u2461\u2466.0.0.1",
    *NAMES,
]
TRICKS = [
    "http://public.test@127.0.0.1:{port}/",
    "http://public.test:80@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@public.test/",
    "http://public.test\\@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@public.test/",
    "http://public.test#@127.0.0.1:{port}/",
    "http:/127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "HTTP://127.0.0.1:{port}/",
    "http://127.0.0.1\t:{port}/",
    "http://[::1\n]:{port}/",
    " http://127.0.0.1:{port}/",
]

# What is no name of a host is not resolved, which may pass: so it is asked for again.
UNRESOLVED = ["http://127.0.0.1.:{port}/", "http://public.test%40127.0.0.1:{port}/"]
WHY = "those are refused", "is not a URL", "cannot be downloaded", "carries a login"


@pytest.fixture
def inner() -> Iterator[Loopback]:
    """What must not be reached."""
    with loopback() as server:
        server.script(Answer(200, b"what only this machine may read"))
        yield server


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What names resolve to; the system is left to read numbers, and asks nobody."""
    known: dict[str, list[Any]] = {**NAMES, "localhost": ["127.0.0.1", "::1"]}
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        found = known.get(host, [host])
        found = found.pop(0) if isinstance(found[0], list) else found
        more["flags"] = socket.AI_NUMERICHOST
        return [each for text in found for each in real(text, port, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


class Server:
    """A server with its address rules on, and a user who may do everything."""

    def __init__(self, app: Aero, url: str) -> None:
        self.app = app
        self._url = url
        self._token = app.create_token("t", scopes=["admin"])["token"]

    def post(self, path: str, body: Any, **headers: str) -> Any:
        return urllib3.request(
            "POST",
            self._url + path,
            json=body,
            headers={"Authorization": f"Bearer {self._token}", **headers},
            retries=False,
            timeout=30,
        )

    def signed(self, body: Any) -> Any:
        data, now = json.dumps(body).encode(), str(int(time.time()))
        mark = {TIMESTAMP: now, SIGNATURE: sign(SECRET, now, data)}
        return urllib3.request(
            "POST", f"{self._url}/hooks/generic", body=data, headers=mark, retries=False
        )

    def errors(self) -> dict[str, tuple[str, str | None]]:
        """Run what is due; return how each flow's newest run ended, and with what."""
        self.app.run_until_idle(60)
        runs = [self.app.get_run(run["id"]) for run in self.app.list_runs()]
        return {
            run["flow_id"]: (run["status"], run["error_message"]) for run in runs[::-1]
        }


@pytest.fixture
def server(tmp_path: Path, sqlite_url: str) -> Iterator[Server]:
    with make_app(
        tmp_path / "home",
        database_url=sqlite_url,
        allow_private_addresses=False,
        file_roots=(),
        http_timeout=5.0,
        webhook_secret=SECRET,
    ) as app:
        guard = StaticTokens(Tokens(app.db))
        with serving(app, authenticator=guard, api_only=True) as url:
            yield Server(app, url)


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 127.0.0.1 play a public address."""
    judge = addresses.why_refused
    monkeypatch.setattr(
        addresses,
        "why_refused",
        lambda found: None if str(found) == "127.0.0.1" else judge(found),
    )


def source(name: str, url: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "url": url, "policy": "INGESTION", **more}


@pytest.mark.usefixtures("names")
def test_no_form_of_an_address_is_reached(server: Server, inner: Loopback) -> None:
    forms = [f"http://{host}:{inner.port}/" for host in HOSTS]
    forms += [trick.format(port=inner.port) for trick in TRICKS]
    made, refused = {}, []
    for number, url in enumerate(forms):
        answer = server.post("/data/source", source(f"s{number}", url))
        if answer.status == 422:
            refused.append(url)
        else:
            assert answer.status == 200, (url, answer.data)
            made[answer.json()["flow_id"]] = url
    ended = server.errors()
    wrong = {
        url: ended[flow_id]
        for flow_id, url in made.items()
        if ended[flow_id][0] != "FAILED"
        or not any(why in str(ended[flow_id][1]) for why in WHY)
    }
    assert wrong == {}
    assert len(made) + len(refused) == len(forms)
    assert len(made) >= len(HOSTS)
    assert inner.requests == []


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("form", UNRESOLVED)
def test_what_is_no_name_is_not_reached(
    inner: Loopback, tmp_path: Path, form: str
) -> None:
    policy = FetchPolicy(allow_private_addresses=False, attempts=1)
    with pytest.raises(SourceUnavailableError, match="could not be resolved"):
        fetch(form.format(port=inner.port), tmp_path / "x", policy=policy)
    assert inner.requests == []


@pytest.mark.usefixtures("names")
def test_no_route_that_takes_a_url_leads_inside(
    server: Server, inner: Loopback, tmp_path: Path
) -> None:
    """The URL of a source, of an output, of a type, of an object, and all others."""
    here = f"http://inner.test:{inner.port}"
    also = {"collection_url": here, "collection_uuid": "c"}
    for path, body in (
        ("/data/source", source("polled", f"{here}/polled", **also)),
        (
            "/flow/register",
            {"output_data": {"out": {"url": f"{here}/out", **also}}, "rule": 0},
        ),
        (
            "/flow/register",
            {
                "output_data": {"u": {"url": f"{here}/typed", "type": "other"}},
                "rule": 4,
            },
        ),
        ("/data/source", source("t", f"{here}/t/*", type_name="t", policy=4)),
        ("/data/types/t/urls", {"url": f"{here}/more/*"}),
        ("/data/types/t/urls", {"url": f"http://[::1]:{inner.port}/u"}),
    ):
        answer = server.post(path, body)
        assert answer.status == 200, answer.data
    others = {"trigger_url": f"{here}/trigger", "signed_url": f"{here}/signed"}
    for body in (
        {"url": f"{here}/t/1", "etag": "e"},
        {"url": f"{here}/more/1", **others},
        {"url": f"http://[::1]:{inner.port}/u", **others},
        {"key": "typed", **others},
    ):
        assert server.post("/data/notify", body).status == 200
        heard = server.signed({**body, "delivery_id": "d"})
        assert (heard.status, heard.json()["ignored"]) == (200, [])
    ended = server.errors()
    assert len(ended) == 4
    assert {status for status, _ in ended.values()} == {"FAILED"}
    assert all("those are refused" in str(why) for _, why in ended.values())
    assert inner.requests == []


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "[::1]", "inner.test"])
def test_nothing_inside_is_asked_for_its_etag(
    server: Server, inner: Loopback, host: str
) -> None:
    url = f"http://{host}:{inner.port}/x"
    made = server.post("/data/source", source("s", url, no_copy=True, policy=4))
    assert made.status == 200
    for body in ({"url": url}, {"file_id": "s", "signed_url": url, "trigger_url": url}):
        answer = server.post("/data/notify", body)
        assert answer.status == 400
        assert "those are refused" in answer.json()["detail"]
        [ignored] = server.signed(body).json()["ignored"]
        assert "those are refused" in ignored["note"]
    assert inner.requests == []


@pytest.mark.usefixtures("public")
def test_no_redirect_leads_inside(
    server: Server, inner: Loopback, names: dict[str, list[Any]]
) -> None:
    names["outer.test"] = ["127.0.0.1"]
    names["inner.test"] = ["127.0.0.2"]
    port = inner.port
    for number, place in enumerate(
        [
            f"http://127.0.0.2:{port}/x",
            f"http://2130706434:{port}/x",
            f"//inner.test:{port}/x",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::ffff:127.0.0.2]/",
            "file:///etc/passwd",
        ]
    ):
        inner.at(f"/{number}", Answer(302, headers={"Location": place}))
        inner.at(f"/twice/{number}", Answer(307, headers={"Location": f"/{number}"}))
        for path in (f"{number}", f"twice/{number}"):
            url = f"http://outer.test:{port}/{path}"
            answer = server.post("/data/source", source(f"s/{path}", url))
            assert answer.status == 200
    ended = server.errors()
    assert len(ended) == 12
    assert {status for status, _ in ended.values()} == {"FAILED"}
    why = "those are refused", "redirects to no http"
    assert all(any(w in str(each) for w in why) for _, each in ended.values())
    assert len(inner.requests) == 18
    assert {headers["Host"] for _, headers in inner.requests} == {f"outer.test:{port}"}


@pytest.mark.usefixtures("public")
def test_a_name_that_changes_what_it_resolves_to_is_asked_once(
    server: Server, inner: Loopback, names: dict[str, list[Any]]
) -> None:
    names["rebind.test"] = [["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]]
    url = f"http://rebind.test:{inner.port}/x"
    made = server.post("/data/source", source("s", url)).json()
    assert server.errors()[made["flow_id"]] == ("SUCCEEDED", None)
    assert len(inner.requests) == 1
    assert len(names["rebind.test"]) == 2
    # The next download asks anew, and is refused.
    server.post(f"/flow/{made['flow_id']}/run", None)
    status, why = server.errors()[made["flow_id"]]
    assert status == "FAILED"
    assert "127.0.0.2, a loopback address" in str(why)
    assert len(inner.requests) == 1


def test_no_file_of_the_server_is_read_nor_its_being_there_told(
    server: Server, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("what only the server's user may read")
    secret.with_name("link").symlink_to(secret)
    paths = [
        *(f"{tmp_path}/{name}" for name in ("secret", "link", "missing", "")),
        f"{secret}/below",
        "/etc/passwd",
        "/proc/self/environ",
        "/etc/../etc/passwd",
    ]
    made = {}
    for number, path in enumerate(paths):
        for form in (f"file://{path}", f"file://localhost{path}"):
            name = f"s{number}{'l' * ('localhost' in form)}"
            answer = server.post("/data/source", source(name, form))
            assert answer.status == 200, answer.data
            made[answer.json()["flow_id"]] = path
    ended = server.errors()
    for flow_id, path in made.items():
        status, why = ended[flow_id]
        assert status == "FAILED"
        assert "is not under a folder that file URLs may read" in str(why), path


def test_with_the_rule_off_all_of_that_is_reached(
    tmp_path: Path, sqlite_url: str, inner: Loopback
) -> None:
    """What the tests above show would be seen if it were not so."""
    with make_app(tmp_path / "home", database_url=sqlite_url) as app:
        for host in ("127.0.0.1", "2130706433", "localhost"):
            app.create_source(host, f"http://{host}:{inner.port}/", policy="INGESTION")
        app.run_until_idle(60)
        assert {run["status"] for run in app.list_runs()} == {"SUCCEEDED"}
    assert len(inner.requests) == 3
