"""What every channel promises, each against a real receiver on loopback."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import Message as Headers
from typing import Any

import pytest

from aero.channels import Channel, Library, Mail, Message, Webhook
from aero.error import NoticeError
from tests.loopback import Answer, loopback
from tests.mail_server import mail_server

SECRET = "s3cr3t"
KINDS = ["mail", "webhook", "library"]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@dataclass
class Reached:
    """A channel, one receiver of it, what that got, and how it is made to refuse."""

    channel: Channel
    target: str
    received: Callable[[], list[str]]
    refuse: Callable[[], Any]


@pytest.fixture(params=KINDS)
def reached(request: pytest.FixtureRequest) -> Iterator[Reached]:
    with ExitStack() as stack:
        if request.param == "mail":
            box = stack.enter_context(mail_server())
            yield Reached(
                Mail(box.url, timeout=5),
                "mailto:ada@example.org",
                lambda: [mail.as_string() for mail in box.mails],
                lambda: setattr(box, "answer", "550 no"),
            )
            return
        server = stack.enter_context(loopback())
        server.script(Answer(200))
        webhook = request.param == "webhook"
        scheme = "http" if webhook else "json"
        yield Reached(
            Webhook(timeout=5, allow_private=True) if webhook else Library(),
            f"{scheme}://127.0.0.1:{server.port}/{SECRET}",
            lambda: [body.decode() for body in server.bodies],
            lambda: server.script(Answer(500)),
        )


def message(kind: str = "failed", number: int = 0) -> Message:
    return Message(
        id=f"id-{number}",
        kind=kind,
        subject=f"aero: rt {kind} {number}",
        text="All of it.\n",
        flow_id="f",
        flow="rt",
        description="",
        run_id="r",
        task=0,
        source_key="",
        attempt=1,
        at="2026-01-01T00:00:00+00:00",
        failing_since=None,
        error_type=None,
        error_message=None,
        log=[],
        command="aero logs r",
    )


@pytest.mark.parametrize("kind", ["failed", "recovered"])
def test_a_message_arrives(reached: Reached, kind: str) -> None:
    reached.channel.send(reached.target, message(kind))
    (got,) = reached.received()
    assert f"aero: rt {kind} 0" in got
    assert "All of it." in got


def test_each_message_arrives_each_time(reached: Reached) -> None:
    for number in (1, 2, 2):
        reached.channel.send(reached.target, message(number=number))
    for number, got in zip("122", reached.received(), strict=True):
        assert f"rt failed {number}" in got


def test_threads_share_a_channel(reached: Reached) -> None:
    threads = [
        threading.Thread(
            target=reached.channel.send, args=(reached.target, message(number=number))
        )
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reached.received()) == 4


def test_what_is_refused_is_said_without_secrets(reached: Reached) -> None:
    reached.refuse()
    with pytest.raises(NoticeError) as caught:
        reached.channel.send(reached.target, message())
    assert SECRET not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("kind", ["mail", "webhook"])
def test_a_receiver_that_never_answers_is_given_up(kind: str) -> None:
    stop = threading.Event()

    def hang(_: Headers) -> Answer:
        stop.wait(10)
        return Answer(200)

    with loopback() as server:
        server.script(hang)
        place = f"127.0.0.1:{server.port}"
        channel: Channel = Webhook(timeout=0.2, allow_private=True)
        target = f"http://{place}/{SECRET}"
        if kind == "mail":
            channel, target = Mail(f"smtp://{place}", timeout=0.2), "mailto:a@h"
        with pytest.raises(NoticeError) as caught:
            channel.send(target, message())
        stop.set()
    assert SECRET not in str(caught.value)
