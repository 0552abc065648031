import pytest

from aero import targets
from aero.error import ForbiddenError, InvalidTypeError, InvalidValueError

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("email", "notify", "found"),
    [
        (None, None, ()),
        ("", "", ()),
        ([], [], ()),
        ("ada@example.org", None, ("mailto:ada@example.org",)),
        ("a@b.org, c@d.org", None, ("mailto:a@b.org", "mailto:c@d.org")),
        (("a@b.org",), ["mailto:a@b.org"], ("mailto:a@b.org",)),
        (None, "https://h/x?y=z", ("https://h/x?y=z",)),
        (
            None,
            ["http://[::1]:80", "slack://a/b/c"],
            ("http://[::1]:80", "slack://a/b/c"),
        ),
    ],
)
def test_targets_are_urls_each_once(email, notify, found):
    assert targets.targets(email, notify) == found


@pytest.mark.parametrize(
    "email",
    ["ada", "@h", "a@", "a b@h", "a@b@c", "a@h\nBcc: b@h", "a@h?cc=b", "a" * 65 + "@h"],
)
def test_what_is_no_address(email):
    with pytest.raises(InvalidValueError, match="no address for mail"):
        targets.targets(email)
    with pytest.raises(InvalidValueError):
        targets.targets(notify=f"mailto:{email}")


@pytest.mark.parametrize(
    "url",
    [
        SECRET,
        f"/{SECRET}",
        f"https:{SECRET}",
        "https://",
        f"https:///{SECRET}",
        f"https://h:x/{SECRET}",
        f"https://h:0/{SECRET}",
        f"https://[h/{SECRET}",
        f"https://h/{SECRET} x",
        f"https://h/{SECRET}\n",
        f"https://h/{SECRET}\0x",
        f"https://ada:{SECRET}@h/x",
        f"https://h/{SECRET}" + "x" * 2000,
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url):
    if url.endswith("\n"):
        assert targets.targets(notify=url) == (url.strip(),)
        return
    with pytest.raises(InvalidValueError) as caught:
        targets.targets(notify=[url])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("given", [5, {"a": "b"}, [5], [["a@b"]], b"a@b"])
def test_what_is_no_list_of_texts(given):
    with pytest.raises(InvalidTypeError, match="email is no list"):
        targets.targets(given)
    with pytest.raises(InvalidTypeError, match="notify is no list"):
        targets.targets(None, given)


def test_there_are_not_too_many():
    many = [f"https://h/{number}" for number in range(21)]
    assert len(targets.targets(notify=many[:20])) == 20
    with pytest.raises(InvalidValueError, match="21 targets"):
        targets.targets(notify=many)


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("mailto:ada@h", "ada@h"),
        ("https://h", "https://h"),
        ("https://h/", "https://h"),
        ("HTTPS://h:8/", "https://h:8"),
        (f"https://h/{SECRET}", "https://h/***"),
        (f"https://h?{SECRET}", "https://h/***"),
        (f"https://h#{SECRET}", "https://h/***"),
        (f"slack://{SECRET}/{SECRET}", "slack://***"),
    ],
)
def test_nothing_secret_is_shown(target, shown):
    assert targets.shown(target) == shown
    (kept,) = targets.targets(notify=target)
    assert targets.addresses([kept]) + targets.others([kept]) == [shown]


def test_one_kind_is_replaced_and_the_other_stays():
    before = ["mailto:a@h", "https://h/x"]
    same = {"email": None, "notify": None}
    assert targets.changed(before, **same) == tuple(before)
    mail = same | {"email": ["mailto:b@h"]}
    assert targets.changed(before, **mail) == ("mailto:b@h", "https://h/x")
    assert targets.changed(before, **(same | {"notify": []})) == ("mailto:a@h",)
    assert targets.changed(before, email=[], notify=[]) == ()


def test_from_afar_only_what_cannot_harm_this_machine():
    targets.refuse_from_afar(["HTTP://h", "https://h", "MailTo:a@h"])
    for target in ("file://h", f"slack://{SECRET}", "mailtos://u:p@h"):
        with pytest.raises(ForbiddenError, match="aero set") as caught:
            targets.refuse_from_afar(["https://h", target])
        assert SECRET not in str(caught.value)
