import json
import warnings

import pytest

from aero.error import ClientError, InvalidTypeError, InvalidValueError
from aero.flow_request import (
    DEFAULT_TIMER,
    KWARGS_LIMIT,
    InputRequest,
    OutputRequest,
    check_url,
    flow_request,
    parse_policy,
    read_sweep,
)
from aero.types import PolicyEnum

INPUT = {"cases": {"id": "some data"}}
URL = "https://example.org/cases.csv"
SOURCE = {"cases": {"url": URL}}


def request(inputs=None, outputs=None, kwargs=None, **options):
    """Ask for a flow that is in order but for what the test says."""
    return flow_request(
        "local",
        options.pop("function_uuid", "function"),
        INPUT if inputs is None else inputs,
        {"n": {}} if outputs is None else outputs,
        kwargs,
        **options,
    )


def test_what_is_not_said_has_a_default():
    made = request()
    assert made.endpoint == "local"
    assert made.function_id == "function"
    assert made.inputs == {"cases": InputRequest(ref="some data")}
    assert made.outputs == {"n": OutputRequest()}
    assert made.kwargs == {}
    assert made.policy is PolicyEnum.NONE
    assert (made.timer, made.cron, made.timezone) == (None, None, "UTC")
    assert (made.retries, made.timeout, made.priority) == (0, None, 0)
    assert made.description == ""
    assert made.tags == ()


def test_everything_that_is_said_is_kept(tmp_path):
    made = request(
        {"cases": {"id": "x", "version": 3, "fetch": False}},
        {"n": {"id": "y", "collection_uuid": "u", "storage": "s"}},
        {"window": 7},
        description="why",
        policy=PolicyEnum.TIMER,
        timer_delay=60,
        retries=2,
        timeout=5,
        priority=-1,
        tags=["a", "b", "a"],
    )
    assert made.inputs["cases"] == InputRequest(ref="x", version=3, fetch=False)
    assert made.outputs["n"] == OutputRequest(ref="y", collection_uuid="u", storage="s")
    assert made.kwargs == {"window": 7}
    assert made.timer == 60
    assert made.timeout == 5.0
    assert made.tags == ("a", "b")


@pytest.mark.parametrize("said", [PolicyEnum.ANY, 2, "2", "ANY", " any "])
def test_a_policy_is_a_number_or_a_name(said):
    assert parse_policy(said) is PolicyEnum.ANY


@pytest.mark.parametrize("said", [None, 7, "often", "", "²", [], 1.5])
def test_an_unknown_policy_names_those_there_are(said):
    with pytest.raises(InvalidValueError, match=r"ANY \(2\)"):
        parse_policy(said)


def test_minus_one_is_none():
    assert parse_policy("-1") is PolicyEnum.NONE


def test_an_ingestion_polls_daily_unless_told_otherwise():
    made = request({}, SOURCE, policy="INGESTION", function_uuid=None)
    assert made.timer == DEFAULT_TIMER
    made = request({}, SOURCE, policy="INGESTION", cron="0 6 * * *")
    assert (made.timer, made.cron) == (None, "0 6 * * *")


def test_a_schedule_without_use_is_ignored_with_a_warning():
    with pytest.warns(UserWarning, match="ANY has no schedule"):
        made = request(policy="ANY", timer_delay=60)
    assert made.timer is None


@pytest.mark.parametrize("key", ["tmp_dir", "temp_dir", "tmpdir", "unheard_of"])
def test_unknown_keys_of_entries_are_ignored_with_a_warning(key):
    with pytest.warns(UserWarning, match=key):
        made = request(outputs={"n": {key: "/somewhere"}})
    assert made.outputs == {"n": OutputRequest()}
    with pytest.warns(UserWarning, match=key):
        request({"cases": {"id": "x", key: 1}})


def test_trailing_slashes_do_not_matter():
    made = request(outputs={"n": {"collection_url": "https://g.example/store//"}})
    assert made.outputs["n"].collection_url == "https://g.example/store"


def test_the_callers_dicts_stay_as_they_are():
    inputs, outputs, kwargs = {"cases": {"id": "x"}}, {"n": {}}, {"deep": {"a": [1]}}
    before = json.dumps([inputs, outputs, kwargs])
    request(inputs, outputs, kwargs)
    assert json.dumps([inputs, outputs, kwargs]) == before


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


WRONG = {
    "endpoint": (lambda: flow_request("", "f", INPUT, {}), "endpoint"),
    "inputs not a dict": (lambda: request([("cases", {})]), "input_data is a list"),
    "entry not a dict": (lambda: request({"cases": "id"}), "is a str"),
    "output not a dict": (lambda: request(outputs={"n": None}), "NoneType"),
    "no identifier": (lambda: request({"a-b": {"id": "x"}}), "no Python identifier"),
    "keyword": (lambda: request({"class": {"id": "x"}}), "no Python identifier"),
    "number": (lambda: request(outputs={1: {}}), "no Python identifier"),
    "reserved": (lambda: request(outputs={"aero": {}}), "reserved"),
    "no id": (lambda: request({"cases": {}}), "names no Data"),
    "id not text": (lambda: request({"cases": {"id": 5}}), "names no Data"),
    "pin 0": (lambda: request({"cases": {"id": "x", "version": 0}}), "from 1"),
    "pin True": (lambda: request({"cases": {"id": "x", "version": True}}), "from 1"),
    "pin text": (lambda: request({"cases": {"id": "x", "version": "1"}}), "from 1"),
    "scheme": (lambda: request({}, {"n": {"url": "ftp://x/y"}}), "https://"),
    "url": (lambda: request({}, {"n": {"url": 5}}), "https://"),
    "url bracket": (lambda: request({}, {"n": {"url": "http://[x/y"}}), "https://"),
    "url port": (lambda: request({}, {"n": {"url": "http://x:99999/y"}}), "a host"),
    "url no port": (lambda: request({}, {"n": {"url": "http://x:y/z"}}), "a host"),
    "url no host": (lambda: request({}, {"n": {"url": "https:///y"}}), "a host"),
    "url login": (lambda: request({}, {"n": {"url": "http://me:key@x/y"}}), "login"),
    "url user": (lambda: request({}, {"n": {"url": "http://me@x/y"}}), "login"),
    "collection": (lambda: request(outputs={"n": {"collection_url": 5}}), "string"),
    "uuid": (lambda: request(outputs={"n": {"collection_uuid": {}}}), "string"),
    "storage": (lambda: request(storage=5), "string"),
    "description": (lambda: request(description={}), "description is a dict"),
    "timer and cron": (
        lambda: request(policy="TIMER", timer_delay=5, cron="* * * * *"),
        "choose one",
    ),
    "negative timer": (lambda: request(policy="TIMER", timer_delay=-1), "seconds"),
    "nan": (lambda: request(policy="TIMER", timer_delay=float("nan")), "seconds"),
    "timer text": (lambda: request(policy="TIMER", timer_delay="5"), "seconds"),
    "cron": (lambda: request(policy="TIMER", cron="61 * * * *"), "61"),
    "zone": (lambda: request(timezone="Mars/Base"), "time zone"),
    "timer without when": (lambda: request(policy="TIMER"), "needs to know when"),
    "ingestion without url": (lambda: request(policy="INGESTION"), "no output names"),
    "nothing to do": (lambda: request(function_uuid=None), "without a function"),
    "any without inputs": (lambda: request({}, policy="ANY"), "it has none"),
    "all without inputs": (lambda: request({}, policy="ALL"), "it has none"),
    "input is download": (lambda: request(outputs=SOURCE), "rename one"),
    "kwarg is input": (lambda: request(kwargs={"cases": 1}), "an input and in kwargs"),
    "kwarg is download": (
        lambda: request({}, SOURCE, {"cases": 1}),
        "a download and in kwargs",
    ),
    "kwarg no identifier": (lambda: request(kwargs={"a b": 1}), "identifier"),
    "kwargs list": (lambda: request(kwargs=[1]), "kwargs is a list"),
    "kwargs text": (lambda: request(kwargs="ab"), "kwargs is a str"),
    "kwargs set": (lambda: request(kwargs={"a": {1}}), "JSON"),
    "kwargs nan": (lambda: request(kwargs={"a": float("inf")}), "JSON"),
    "kwargs surrogate": (lambda: request(kwargs={"a": "\ud800"}), "JSON"),
    "kwargs deep": (lambda: request(kwargs={"a": nested(100_000)}), "JSON"),
    "config type": (lambda: request(config=5), "path of a JSON file"),
    "config missing": (lambda: request(config="/no/such/file"), "cannot be read"),
    "retries": (lambda: request(retries=-1), "from 0"),
    "retries 1.5": (lambda: request(retries=1.5), "whole number"),
    "retries huge": (lambda: request(retries=2**70), "whole number"),
    "priority": (lambda: request(priority=True), "whole number"),
    "priority huge": (lambda: request(priority=-(2**70)), "whole number"),
    "timeout 0": (lambda: request(timeout=0), "above 0"),
    "timeout inf": (lambda: request(timeout=float("inf")), "above 0"),
    "timeout huge": (lambda: request(timeout=1e300), "above 0"),
    "timeout text": (lambda: request(timeout="1"), "above 0"),
    "tags text": (lambda: request(tags="flu"), "list of words"),
    "tags number": (lambda: request(tags=5), "list of words"),
    "tags mixed": (lambda: request(tags=["flu", 5]), "list of words"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_one_sentence_that_helps(name):
    ask, words = WRONG[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ClientError, match=words) as caught:
            ask()
    assert isinstance(caught.value, ValueError | TypeError)
    assert caught.value.code == 422
    assert "\n" not in str(caught.value)


def test_kwargs_are_arguments_and_no_data(tmp_path):
    tasks = [{"series": "é" * KWARGS_LIMIT}, {"series": "x" * 100_000_000}]
    for kwargs in tasks:
        with pytest.raises(InvalidValueError, match="large into a file"):
            request(kwargs=kwargs)
    most = {"series": "x" * (KWARGS_LIMIT - len('{"series":""}'))}
    assert request(kwargs=most).kwargs == most
    sweep = tmp_path / "sweep.json"
    sweep.write_text(json.dumps([most, {}]))
    with pytest.raises(InvalidValueError, match="large into a file"):
        request(config=sweep)


def test_a_sweep_is_a_json_list_of_kwargs(tmp_path):
    path = tmp_path / "sweep.json"
    path.write_text('[{"window": 7}, {"window": [1, 2]}]')
    for given in (path, str(path)):
        assert request(config=given).kwargs == [{"window": 7}, {"window": [1, 2]}]


def test_a_sweep_excludes_kwargs(tmp_path):
    path = tmp_path / "sweep.json"
    path.write_text('[{"window": 7}]')
    with pytest.raises(ValueError, match="Both kwargs and config"):
        request(kwargs={"window": 7}, config=path)
    assert request(kwargs={}, config=path).kwargs == [{"window": 7}]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"[1]", b'"text"', b"[{}", b"\xff\xfe", b"null"]
)
def test_a_config_that_is_no_list_of_dicts_is_refused(tmp_path, content):
    path = tmp_path / "sweep.json"
    path.write_bytes(content)
    with pytest.raises(InvalidValueError, match=r"sweep\.json") as caught:
        read_sweep(path)
    assert caught.value.path == str(path)


def test_every_task_of_a_sweep_is_checked(tmp_path):
    path = tmp_path / "sweep.json"
    path.write_text('[{"window": 7}, {"window": NaN}]')
    with pytest.raises(InvalidValueError, match="JSON"):
        request(config=path)
    path.write_text('[{"window": 7}, {"cases": 1}]')
    with pytest.raises(InvalidValueError, match="rename one"):
        request(config=path)


@pytest.mark.parametrize(
    "url",
    [
        "http://a/b",
        "HTTPS://a:8443/b@c",
        "http://[::1]:80/*.csv",
        "file:///a",
        "s3://b/k",
    ],
)
def test_urls_that_can_be_downloaded_from(url):
    assert check_url(url, "here") == url


def test_the_login_of_a_url_is_not_repeated():
    with pytest.raises(InvalidValueError) as caught:
        check_url("http://me:hunter2@x/y", "Output 'n'")
    assert "hunter2" not in f"{caught.value} {caught.value.facts}"


def test_no_tags_is_no_tag():
    assert request(tags=None).tags == ()


def test_a_wrong_type_is_a_type_error():
    with pytest.raises(TypeError) as caught:
        request(tags=5)
    assert isinstance(caught.value, InvalidTypeError)
