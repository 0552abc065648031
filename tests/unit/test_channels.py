"""Each channel against a real receiver; that of webhooks in the integration tests."""

import ssl
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aero.channels import Library, Mail, Message, Webhook, channel_for
from aero.clock import utc_now
from aero.config import ClientConf
from aero.error import NoticeError
from tests.certificates import resolve_to_loopback, self_signed
from tests.loopback import Answer, loopback
from tests.mail_server import Mailbox, mail_server

ADA = "mailto:ada@example.org"
NOTICE: dict[str, Any] = {
    "id": "6f1c",
    "kind": "failed",
    "flow_id": "11111111-aaaa",
    "run_id": "22222222-bbbb",
    "created_at": utc_now(),
    "description": "",
    "function_name": "estimate",
    "facts": {
        "task": 0,
        "source_key": "",
        "attempt": 1,
        "error_type": "ValueError",
        "error_message": "no good",
        "log": ["a line"],
    },
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls") / "both.pem", "named.test")


def message(made: tuple[str, ...] = ("rt",), **changes: Any) -> Message:
    facts = {**NOTICE["facts"], **changes.pop("facts", {})}
    return Message.of(SimpleNamespace(**{**NOTICE, **changes, "facts": facts}), made)


# -- what is said ----------------------------------------------------------------------


def test_a_flow_is_called_by_what_it_makes() -> None:
    assert message().flow == "rt"
    assert message(("a", "b", "c", "d")).flow == "a, b, c, ..."
    assert message(()).flow == "estimate"
    assert message((), function_name=None).flow == "11111111"


def test_the_subject_is_one_short_line() -> None:
    assert message().subject == "aero: rt failed: ValueError: no good"
    odd = message(facts={"error_message": "one\r\ntwo\t" + "x" * 900}).subject
    assert odd.startswith("aero: rt failed: ValueError: one two xxx")
    assert odd.endswith("x...")
    assert len(odd) < 170
    about = {"error_type": None, "source_key": "o/1.csv", "failing_since": "2026"}
    recovered = message(kind="recovered", facts=about)
    assert recovered.subject == "aero: rt (o/1.csv) works again"
    assert "failed since 2026" in recovered.text


def test_the_text_says_what_there_is_to_say() -> None:
    text = message(description="R(t)", facts={"task": 3}).text
    for line in ("description  R(t)", "task         3", "  a line"):
        assert line in text.splitlines()
    assert text.endswith("aero logs 22222222 shows more.\n")
    bare = message(facts={"log": []}).text
    assert "description" not in bare
    assert "task" not in bare
    assert "printed" not in bare


def test_the_readme_names_every_part_of_it() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    missing = [f.name for f in fields(Message) if f"`{f.name}`" not in readme]
    assert missing == []


# -- which -----------------------------------------------------------------------------


def test_the_scheme_says_which_channel(tmp_path: Path) -> None:
    settings = ClientConf(home=tmp_path)
    kinds = {
        ADA: Mail,
        "HTTPS://h/x": Webhook,
        "http://h": Webhook,
        "ntfy://x": Library,
    }
    for target, kind in kinds.items():
        assert type(channel_for(target, settings)) is kind


# -- mail ------------------------------------------------------------------------------


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mail_server() as found:
        yield found


def test_a_mail_says_all_of_it(box: Mailbox) -> None:
    told = message(facts={"log": ["Grüße"]})
    Mail(box.url, timeout=5).send(ADA, told)
    (mail,) = box.mails
    assert (mail["From"], mail["To"]) == ("aero@example.org", "ada@example.org")
    assert mail["X-To"] == "ada@example.org"
    assert mail["Subject"] == told.subject
    assert mail["Message-ID"] == "<6f1c@aero>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().splitlines() == told.text.splitlines()


@pytest.mark.parametrize(
    ("user", "sender"), [("", "aero@"), ("/?from=lab@h.org", "lab@h.org")]
)
def test_who_sends_it(box: Mailbox, user: str, sender: str) -> None:
    Mail(f"smtp://127.0.0.1:{box.port}{user}", timeout=5).send(ADA, message())
    assert str(box.mails[0]["From"]).startswith(sender)


def test_without_a_server_it_says_what_to_set() -> None:
    with pytest.raises(NoticeError, match="set smtp_url"):
        Mail(None, timeout=5).send(ADA, message())


@pytest.mark.parametrize("answer", ["550 no such person", "451 not now"])
def test_what_the_server_says_is_said(box: Mailbox, answer: str) -> None:
    box.answer = answer
    with pytest.raises(NoticeError, match=rf"127.0.0.1 did not take .*\({answer}\)"):
        Mail(box.url, timeout=5).send(ADA, message())
    assert box.mails == []


def test_an_address_that_the_server_does_not_know(box: Mailbox) -> None:
    box.refused.add("ada@example.org")
    with pytest.raises(NoticeError, match=r"\(550 unknown here\): check smtp_url and"):
        Mail(box.url, timeout=5).send(ADA, message())


def test_a_server_that_is_not_there() -> None:
    with mail_server() as box:
        url = box.url
    with pytest.raises(NoticeError, match=rf"127.0.0.1:{box.port} does not answer"):
        Mail(url, timeout=5).send(ADA, message())


def test_a_server_that_is_none() -> None:
    with loopback() as server:
        url = f"smtp://127.0.0.1:{server.port}"
        with pytest.raises(NoticeError, match=r"did not take|does not answer"):
            Mail(url, timeout=0.5).send(ADA, message())


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not")
def test_it_logs_in_and_shows_no_password() -> None:
    with mail_server(login=True) as box:
        place = f"127.0.0.1:{box.port}"
        good = f"smtp://ada%40h.org:right%20pass%2Fword@{place}"
        Mail(good, timeout=5).send(ADA, message())
        assert box.logins == [("ada@h.org", "right pass/word")]
        assert box.mails[0]["From"] == "ada@h.org"
        with pytest.raises(NoticeError, match=r"the mail \(535 ") as caught:
            Mail(f"smtp://ada:s3cr3t@{place}", timeout=5).send(ADA, message())
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("at_once", [True, False])
def test_tls_is_verified(
    certificate: Path,
    at_once: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    resolve_to_loopback(monkeypatch)
    with mail_server(context, at_once=at_once) as box:
        scheme = "smtps" if at_once else "smtp"
        mail = Mail(f"{scheme}://named.test:{box.port}", timeout=5)
        with pytest.raises(NoticeError, match="certificate of the mail server named"):
            mail.send(ADA, message())
        assert box.mails == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        mail.send(ADA, message())
        assert len(box.mails) == 1
        other = Mail(f"{scheme}://other.test:{box.port}", timeout=5)
        with pytest.raises(NoticeError, match="certificate of the mail server other"):
            other.send(ADA, message())


def test_nothing_leaves_this_machine_in_the_clear(
    box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to_loopback(monkeypatch)
    with pytest.raises(NoticeError, match="STARTTLS"):
        Mail(f"smtp://named.test:{box.port}", timeout=5).send(ADA, message())
    assert box.mails == []
    # By the name of this machine it may.
    Mail(f"smtp://localhost:{box.port}", timeout=5).send(ADA, message())
    assert len(box.mails) == 1


# -- the library -----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_library_tells_its_services() -> None:
    with loopback() as server:
        server.script(Answer(200))
        target = f"json://127.0.0.1:{server.port}/s3cr3t"
        Library().check(target)
        Library().send(target, message())
        assert b"aero: rt failed" in server.bodies[0]
        server.script(Answer(500))
        with pytest.raises(NoticeError, match=r"^json://\*\*\* did not take it"):
            Library().send(target, message())


def test_without_the_library_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with pytest.raises(
        NoticeError, match=r"pip install 'aero-orchestrator\[notices\]'"
    ):
        Library().send("slack://a/b/c", message())


# -- webhooks --------------------------------------------------------------------------


def test_a_webhook_that_is_not_there_or_not_trusted(
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to_loopback(monkeypatch)
    hook = Webhook(timeout=1, allow_private=True)
    with loopback() as server:
        gone = f"{server.url}/s3cr3t"
    with pytest.raises(NoticeError, match="could not be told: ") as said:
        hook.send(gone, message())
    assert "s3cr3t" not in str(said.value)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def wrap(plain: Any) -> Any:
        return context.wrap_socket(
            plain, server_side=True, do_handshake_on_connect=False
        )

    with (
        loopback(wrap) as server,
        pytest.raises(NoticeError, match="is not trusted") as said,
    ):
        hook.send(f"HTTPS://Named.TEST:{server.port}/s3cr3t?x", message())
    assert "s3cr3t" not in str(said.value)
    with pytest.raises(NoticeError, match="is no URL that can be posted to"):
        hook.send("http://h:99999/s3cr3t", message())
