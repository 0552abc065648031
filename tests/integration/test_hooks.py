"""Webhooks: what object stores send as it is, and signed ones of other programs."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from aero import hooks
from aero.app import Aero
from aero.error import DatabaseUnavailableError
from aero.server.serving import serving
from aero.testing import make_app
from tests.conftest import Publisher

RECORDED = Path(__file__).parents[1] / "recorded"
SECRET = "a-secret-of-this-test"


class Sender:
    """Sends webhooks to a server."""

    def __init__(self, url: str, pool: urllib3.PoolManager) -> None:
        self._url = url
        self._pool = pool

    def send(self, way: str, body: bytes, **headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self._pool.request(
            "POST",
            f"{self._url}/hooks/{way}",
            body=body,
            headers={"Content-Type": "application/json", **named},
            retries=False,
        )
        return answer.status, answer.json()

    def signed(
        self, what: Any, *, at: float | None = None, secret: str = SECRET
    ) -> Any:
        body, moment = json.dumps(what).encode(), str(int(at or time.time()))
        return self.send(
            "generic",
            body,
            X_Aero_Timestamp=moment,
            X_Aero_Signature=hooks.sign(secret, moment, body),
        )


@pytest.fixture
def app(tmp_path: Path, database_url: str) -> Iterator[Aero]:
    with make_app(tmp_path / "home", database_url=database_url) as found:
        yield found


@pytest.fixture
def sender(app: Aero) -> Iterator[Sender]:
    with urllib3.PoolManager() as pool, serving(app, api_only=True) as url:
        yield Sender(url, pool)


@pytest.fixture
def guarded(tmp_path: Path, sqlite_url: str) -> Iterator[tuple[Aero, Sender]]:
    conf = {"database_url": sqlite_url, "webhook_secret": SECRET}
    with (
        make_app(tmp_path / "home", **conf) as app,
        urllib3.PoolManager() as pool,
        serving(app, api_only=True) as url,
    ):
        yield app, Sender(url, pool)


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


def test_minio_says_that_an_object_changed(
    app: Aero, sender: Sender, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish("counts/week%201/cases+%C3%A9.csv", "day,cases\n1,4\n")
    app.create_source("cases", publisher.url("counts/**"), type_name="counts")
    status, heard = sender.send("s3", recorded("minio_put.json"))
    assert (status, heard["ignored"]) == (200, [])
    [told] = heard["triggered"]
    assert told["event"] == "s3:ObjectCreated:Put"
    assert told["about"] == "counts/week 1/cases+é.csv"
    assert told["status"] == "PENDING"
    app.run_until_idle(20)
    version = app.get_version("cases")
    assert version["source_key"] == "counts/week 1/cases+é.csv"
    assert app.get_run(told["run_id"])["status"] == "SUCCEEDED"

    # MinIO sends again what it had no answer to.
    _, again = sender.send("s3", recorded("minio_put.json"))
    [told_again] = again["triggered"]
    assert told_again == {**told, "status": "SUCCEEDED"}
    assert len(list(app.list_runs())) == 1
    # Without its sequencer the event would have counted again.
    monkeypatch.setattr(hooks, "_delivery", lambda *_: None)
    sender.send("s3", recorded("minio_put.json"))
    assert len(list(app.list_runs())) == 2


def test_aws_sends_several_records_of_which_some_matter(
    app: Aero, sender: Sender
) -> None:
    """Each is told apart: known, unknown, removed, tagged, of another bucket."""
    host = "https://registry.s3.us-west-2.amazonaws.com"
    app.create_source("flowers", f"{host}/2026/red*.csv", no_copy=True)
    status, heard = sender.send("s3", recorded("aws_several.json"))
    assert status == 200
    [told] = heard["triggered"]
    assert (told["about"], told["status"]) == (
        "registry/2026/red flower.csv",
        "SUCCEEDED",
    )
    version = app.get_version("flowers")
    assert version["checksum"] == "d41d8cd98f00b204e9800998ecf8427e"
    assert version["data_file"]["file_size"] == 1024
    notes = [(each["event"], each["note"]) for each in heard["ignored"]]
    unknown = "No source has the object 'registry/2026/large.csv'"
    other = "No source has the object 'elsewhere/2026/red flower.csv'"
    assert notes[0][0] == "ObjectCreated:CompleteMultipartUpload"
    assert notes[0][1].startswith(unknown)
    assert notes[1] == (
        "ObjectRemoved:Delete",
        "The object was removed; the versions made of it stay.",
    )
    assert notes[2] == (
        "ObjectTagging:Put",
        "Such an event does not change what an object holds.",
    )
    assert notes[3][1].startswith(other)

    sender.send("s3", recorded("aws_several.json"))
    assert app.get_data("flowers")["available_versions"] == 1
    assert len(list(app.list_runs())) == 1


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://registry/2026/red*.csv", True),
        ("https://s3.us-west-2.amazonaws.com/registry/2026/red*.csv", True),
        ("http://minio:9000/registry/**", True),
        ("https://registry.s3.amazonaws.com/2026/red%20flower.csv", True),
        ("s3://elsewhere-2/2026/red*.csv", False),
        ("https://example.org/2026/red*.csv", False),
        ("https://registry.s3.amazonaws.com/registry/2026/red*.csv", False),
    ],
)
def test_a_bucket_is_known_by_its_host_or_its_first_folder(
    sqlite_app: Aero, url: str, found: bool
) -> None:
    if url.startswith("s3:"):
        sqlite_app.create_source("flowers", url, type_name="T", no_copy=True)
    else:
        sqlite_app.create_source("flowers", url, no_copy=True)
    events = hooks.bucket_events(recorded("aws_several.json"))
    assert events[0].notice is not None
    body = vars(events[0].notice)
    if found:
        assert sqlite_app.notify(body)["status"] == "SUCCEEDED"
        return
    with pytest.raises(Exception, match="No source has the object 'registry/2026"):
        sqlite_app.notify(body)


def test_the_test_of_a_bucket_is_answered(sender: Sender) -> None:
    status, heard = sender.send("s3", recorded("aws_test_event.json"))
    assert (status, heard["triggered"]) == (200, [])
    [told] = heard["ignored"]
    assert (told["event"], told["about"]) == ("s3:TestEvent", "registry")
    assert "reached this server" in told["note"]


def test_sns_wraps_what_a_bucket_says(app: Aero, sender: Sender) -> None:
    """Shapes of "HTTP/HTTPS notification JSON format" in the SNS developer guide."""
    app.create_source("flowers", "s3://registry/2026/red*.csv", no_copy=True)
    envelope = recorded("sns_notification.json")
    status, heard = sender.send(
        "s3", envelope, Content_Type="text/plain; charset=UTF-8"
    )
    assert status == 200
    [told] = heard["triggered"]
    assert told["about"] == "registry/2026/red flower.csv"
    [ignored] = heard["ignored"]
    assert ignored["event"] == "ObjectRemoved:Delete"
    # The same event, in an envelope of its own or in none, counts once.
    again = json.loads(envelope) | {"MessageId": "another"}
    sender.send("s3", json.dumps(again).encode())
    sender.send("s3", json.loads(envelope)["Message"].encode())
    assert app.get_data("flowers")["available_versions"] == 1
    assert len(list(app.list_runs())) == 1


def test_an_envelope_may_hold_the_test_of_a_bucket(sender: Sender) -> None:
    envelope = json.loads(recorded("sns_notification.json"))
    envelope["Message"] = recorded("aws_test_event.json").decode()
    _, heard = sender.send("s3", json.dumps(envelope).encode())
    assert heard["ignored"][0]["event"] == "s3:TestEvent"


def test_a_subscription_is_confirmed_by_who_made_it(
    sender: Sender, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    asked = json.loads(recorded("sns_confirmation.json"))
    status, problem = sender.send("s3", json.dumps(asked).encode())
    assert (status, problem["type"]) == (409, "urn:aero:conflict")
    assert asked["SubscribeURL"] in problem["detail"]
    assert asked["SubscribeURL"] in caplog.text
    # The server opens no URL that it is sent, nor shows one that is not of SNS.
    asked["SubscribeURL"] = publisher.publish("trap", "x")
    _, problem = sender.send("s3", json.dumps(asked).encode())
    assert publisher.url("trap") not in problem["detail"]
    assert "aws sns confirm-subscription" in problem["detail"]
    assert publisher.requests("trap") == 0
    ended = asked | {"Type": "UnsubscribeConfirmation"}
    status, heard = sender.send("s3", json.dumps(ended).encode())
    assert (status, heard["triggered"]) == (200, [])
    assert heard["ignored"][0]["event"] == "UnsubscribeConfirmation"
    assert publisher.requests("trap") == 0


@pytest.mark.parametrize("message", ["", "no", "[]", "{}", 3, None, {"Records": []}])
def test_an_envelope_around_something_else_is_refused(
    sender: Sender, message: Any
) -> None:
    envelope = {"Type": "Notification", "TopicArn": "arn:t", "Message": message}
    status, problem = sender.send("s3", json.dumps(envelope).encode())
    assert (status, problem["type"]) == (422, "urn:aero:invalid-value")


@pytest.mark.parametrize(
    ("user", "status"), [(f"aero:{SECRET}", 200), ("aero:wrong", 401), (SECRET, 401)]
)
def test_sns_proves_itself_by_the_password_in_its_url(
    guarded: tuple[Aero, Sender], user: str, status: int
) -> None:
    _, sender = guarded
    given = base64.b64encode(user.encode()).decode()
    body = recorded("aws_test_event.json")
    found, _ = sender.send("s3", body, Authorization=f"Basic {given}")
    assert found == status
    for bad in ("Basic", "Basic é", "Basic ????", "Digest x"):
        assert sender.send("s3", body, Authorization=bad)[0] == 401


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"Records": 3}', b"\xff", b"no"])
def test_what_is_no_notification_is_refused(sender: Sender, body: bytes) -> None:
    status, problem = sender.send("s3", body)
    assert (status, problem["type"]) == (422, "urn:aero:invalid-value")


def test_a_paused_source_and_a_tie_are_noted(app: Aero, sender: Sender) -> None:
    url = "http://minio:9000/counts/**"
    made = app.create_source("cases", url, no_copy=True)
    app.pause_flow(made["flow_id"])
    _, heard = sender.send("s3", recorded("minio_put.json"))
    assert "is paused" in heard["ignored"][0]["note"]
    app.create_source("others", "http://minio-2:9000/counts/**", no_copy=True)
    _, heard = sender.send("s3", recorded("minio_put.json"))
    assert "belongs equally" in heard["ignored"][0]["note"]
    assert list(app.list_runs()) == []


def test_without_the_database_all_of_it_is_to_be_sent_again(
    app: Aero, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise DatabaseUnavailableError

    monkeypatch.setattr(app, "notify", away)
    status, problem = sender.send("s3", recorded("minio_put.json"))
    assert (status, problem["type"]) == (503, "urn:aero:database-unavailable")


def test_with_a_secret_a_bucket_has_to_know_it(guarded: tuple[Aero, Sender]) -> None:
    _, sender = guarded
    body = recorded("aws_test_event.json")
    for wrong in ({}, {"Authorization": "Bearer no"}, {"Authorization": SECRET}):
        status, problem = sender.send("s3", body, **wrong)
        assert (status, problem["type"]) == (401, "urn:aero:unauthorized")
        assert SECRET not in json.dumps(problem)
    assert sender.send("s3", body, Authorization=f"Bearer {SECRET}")[0] == 200


def test_a_signed_webhook_triggers_once(
    guarded: tuple[Aero, Sender], publisher: Publisher
) -> None:
    app, sender = guarded
    url = publisher.publish("a.csv", "one")
    app.create_source("cases", url)
    what = [{"url": url, "etag": "e1"}, {"url": publisher.url("b.csv")}, 7]
    now = time.time()
    status, heard = sender.signed(what, at=now)
    assert status == 200
    [told] = heard["triggered"]
    assert told["about"] == url
    assert [each["about"] for each in heard["ignored"]] == [
        publisher.url("b.csv"),
        None,
    ]
    app.run_until_idle(20)
    assert app.get_data("cases")["available_versions"] == 1
    # What was overheard and is sent again within the window changes nothing.
    _, again = sender.signed(what, at=now)
    assert again["triggered"][0]["run_id"] == told["run_id"]
    assert len(list(app.list_runs())) == 1
    # A sender may name its deliveries itself.
    named = {"url": url, "delivery_id": "d1", "dedup": False}
    first = sender.signed(named)[1]["triggered"][0]["run_id"]
    assert sender.signed(named, at=now + 7)[1]["triggered"][0]["run_id"] == first
    assert first != told["run_id"]


def test_only_who_knows_the_secret_sends_webhooks(
    guarded: tuple[Aero, Sender], sqlite_url: str
) -> None:
    app, sender = guarded
    app.create_source("cases", "https://h/a.csv")
    what = {"url": "https://h/a.csv"}
    late = time.time() - hooks.WINDOW - 5
    for status, problem in (
        sender.signed(what, secret="another-secret-there"),
        sender.signed(what, at=late),
        sender.send("generic", json.dumps(what).encode()),
    ):
        assert (status, problem["type"]) == (401, "urn:aero:unauthorized")
        assert problem["detail"].count(".") >= 1
    assert list(app.list_runs()) == []
    assert sender.signed(what)[1]["triggered"]


def test_a_server_without_a_secret_takes_no_signed_webhooks(sender: Sender) -> None:
    status, problem = sender.signed({"url": "https://h/a.csv"})
    assert (status, problem["type"]) == (403, "urn:aero:forbidden")
    assert "set AERO_WEBHOOK_SECRET" in problem["detail"]


def test_the_window_and_the_comparison_are_what_keeps_others_out(
    guarded: tuple[Aero, Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Switched off, they let in what they kept out: so they are what is tested."""
    app, sender = guarded
    app.create_source("cases", "https://h/a.csv")
    what = {"url": "https://h/a.csv"}
    monkeypatch.setattr(hooks, "WINDOW", 10**9)
    assert sender.signed(what, at=1.0 + time.time() - 10**6)[0] == 200
    monkeypatch.setattr(hooks.hmac, "compare_digest", lambda *_: True)
    assert sender.signed(what, secret="another-secret-there")[0] == 200
