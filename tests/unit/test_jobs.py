import copy
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent

import pytest

import aero.storage
from aero import jobs
from aero.error import StorageError
from aero.hashing import sha256_text
from aero.storage import MemoryStorage, local_location, open_storage

HEADER = "from __future__ import annotations\n"


class Site:
    """A loopback site: path -> (bytes, etag or None, headers); counts bodies sent."""

    def __init__(self):
        self.pages = {}
        self.sent = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path not in site.pages:
                    self.send_error(404)
                    return
                content, etag, headers = site.pages[self.path]
                if etag and self.headers.get("If-None-Match") == etag:
                    self.send_response(304)
                    self.send_header("ETag", etag)
                    self.end_headers()
                    return
                site.sent.append(self.path)
                self.send_response(200)
                if etag:
                    self.send_header("ETag", etag)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def publish(self, path, content, etag=None, **headers):
        self.pages[path] = (content, etag, headers)
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def site():
    site = Site()
    yield site
    site.close()


@pytest.fixture
def location(tmp_path):
    return local_location(tmp_path / "store")


@pytest.fixture
def payload(location):
    def make(**outputs):
        return {
            "schema": 1,
            "flow_id": "f",
            "run_id": "r",
            "attempt": 1,
            "task": 0,
            "input_data": {},
            "output_data": {
                name: {"id": f"id-{name}", "storage": location, **entry}
                for name, entry in outputs.items()
            },
        }

    return make


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a task in a directory of its own; its result has crossed as JSON."""
    count = iter(range(1000))

    def start(payload, source=None, name="fn", **task):
        workdir = tmp_path / f"work-{next(count)}"
        workdir.mkdir()
        monkeypatch.chdir(workdir)
        if source is not None:
            source = HEADER + dedent(source)
        task = {
            "run_id": "r",
            "attempt": 1,
            "timeout": 60,
            "workdir": str(workdir),
            "download": False,
            "source": source,
            "name": name,
            "kwargs": {},
            "aero": payload,
            "fetch": {"attempts": 1, "timeout": 5},
            **task,
        }
        before = copy.deepcopy(task)
        result = json.loads(json.dumps(jobs.run_task(json.loads(json.dumps(task)))))
        assert task == before
        return result

    return start


def bytes_of(entry):
    with open_storage(entry["storage"]).open(entry["uri"]) as file:
        return file.read()


# download


def test_a_download_is_stored_with_its_facts(site, payload, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    url = site.publish(
        "/a/deaths.csv",
        b"\xe9,1\n",
        '"1"',
        **{"Content-Type": "text/csv; charset=latin-1"},
    )
    given = {"n": 1, "metrics": True, "aero": payload(out={"url": url})}
    given["aero"]["fetch"] = {"attempts": 1}
    before = copy.deepcopy(given)
    args, kwargs = jobs.download("kept", **given)
    assert given == before
    assert (args, kwargs["n"]) == (("kept",), 1)
    assert set(kwargs["aero"]["metrics"]["download"]) == {
        "task_start",
        "task_end",
        "duration",
    }
    entry = kwargs["aero"]["output_data"]["out"]
    assert bytes_of(entry) == b"\xe9,1\n"
    assert entry["file_bn"] == "deaths.csv"
    assert entry["file_format"] == "csv"
    assert entry["size"] == 4
    assert entry["checksum"] == entry["sha256"] == entry["uri"].removeprefix("sha256:")
    assert (entry["url"], entry["final_url"]) == (url, url)
    assert (entry["etag"], entry["last_modified"]) == ('"1"', None)
    assert entry["media_type"] == "text/csv"
    assert entry["encoding"].replace("-", "") == "latin1"
    assert datetime.fromisoformat(entry["retrieved_at"]).utcoffset() is not None
    assert datetime.fromisoformat(entry["created_at"]).utcoffset() is not None
    assert "not_modified" not in entry
    assert list(tmp_path.glob("aero-*")) == []


def test_a_304_changes_nothing_but_the_mark(site, payload):
    url = site.publish("/x.csv", b"1", '"1"')
    given = payload(out={"url": url, "etag": '"1"', "last_modified": None})
    _, kwargs = jobs.download(aero=given)
    expected = copy.deepcopy(given)
    expected["output_data"]["out"]["not_modified"] = True
    assert kwargs == {"aero": expected}
    assert site.sent == []


def test_the_same_bytes_again_leave_fresh_validators_and_store_nothing(
    site, payload, tmp_path
):
    url = site.publish("/x.csv", b"1", '"2"', **{"Last-Modified": "Mon"})
    raw = sha256_text("1")
    _, kwargs = jobs.download(
        aero=payload(out={"url": url, "etag": '"1"', "raw_sha256": raw})
    )
    entry = kwargs["aero"]["output_data"]["out"]
    assert entry["not_modified"] is True
    assert (entry["etag"], entry["last_modified"]) == ('"2"', "Mon")
    assert "uri" not in entry
    assert not list((tmp_path / "store").rglob(raw[-20:] + "*"))


def test_outputs_without_a_url_are_left_alone(payload):
    given = payload(out={})
    assert jobs.download(aero=given) == ((), {"aero": given})


# run_task: what happens


def test_download_and_function_are_one_task(site, run, payload):
    url = site.publish("/x.csv", b"a,b\n", '"1"')
    result = run(
        payload(out={"url": url}),
        """
        from pathlib import Path
        def fn(out, factor):
            path = Path("clean.csv")
            path.write_text(Path(out).read_text().upper() * factor)
            return AeroOutput("out", path)
        fn = aero_format(fn)
        """,
        download=True,
        kwargs={"factor": 2, "metrics": True},
    )
    assert result["error"] is None
    assert result["unchanged"] is False
    entry = result["aero"]["output_data"]["out"]
    assert bytes_of(entry) == b"A,B\nA,B\n"
    assert bytes_of({**entry["raw"], "storage": entry["storage"]}) == b"a,b\n"
    assert entry["raw"]["file_name"] == "x.csv"
    assert set(result["aero"]["metrics"]) == {"download", "function"}
    download, function = result["steps"]
    assert (download["name"], function["name"]) == ("download", "function")
    assert {each["status"] for each in result["steps"]} == {"SUCCEEDED"}
    assert download["bytes"] == 4
    assert "bytes" not in function
    for step in result["steps"]:
        assert step["seconds"] > 0
        assert datetime.fromisoformat(step["started_at"]) <= datetime.fromisoformat(
            step["finished_at"]
        )


def test_without_a_function_the_download_is_the_output(site, run, payload):
    url = site.publish("/x.csv", b"1")
    result = run(payload(out={"url": url}), download=True, name=None)
    assert result["error"] is None
    assert bytes_of(result["aero"]["output_data"]["out"]) == b"1"
    assert [step["name"] for step in result["steps"]] == ["download"]


def test_an_unchanged_poll_runs_no_function(site, run, payload):
    url = site.publish("/x.csv", b"1", '"1"')
    result = run(
        payload(out={"url": url, "etag": '"1"'}),
        "def fn(out):\n    raise RuntimeError",
        download=True,
    )
    assert result["unchanged"] is True
    assert result["error"] is None
    assert [step["name"] for step in result["steps"]] == ["download"]
    assert result["steps"][0]["bytes"] == 0


BOTH = """
    def fn(a, b, c):
        import shutil
        return [AeroOutput("a", a), AeroOutput("b", b), AeroOutput("c", c)]
"""


def test_when_one_source_changed_the_function_gets_them_all(site, run, payload):
    entries = {
        "a": {"url": site.publish("/a", b"A", '"a"'), "etag": '"a"'},
        "b": {"url": site.publish("/b", b"B", '"b2"'), "etag": '"b"'},
        "c": {"url": site.publish("/c", b"C"), "raw_sha256": sha256_text("C")},
    }
    result = run(payload(**entries), BOTH, download=True)
    assert result["error"] is None
    outputs = result["aero"]["output_data"]
    assert [bytes_of(outputs[name]) for name in "abc"] == [b"A", b"B", b"C"]
    assert not any("not_modified" in entry for entry in outputs.values())
    assert sorted(site.sent) == ["/a", "/b", "/c"]


def test_without_a_function_only_what_changed_is_transferred(site, run, payload):
    entries = {
        "a": {"url": site.publish("/a", b"A", '"a"'), "etag": '"a"'},
        "b": {"url": site.publish("/b", b"B", '"b2"'), "etag": '"b"'},
    }
    result = run(payload(**entries), download=True)
    outputs = result["aero"]["output_data"]
    assert outputs["a"]["not_modified"] is True
    assert bytes_of(outputs["b"]) == b"B"
    assert result["unchanged"] is False
    assert site.sent == ["/b"]


def test_a_plain_source_is_wrapped_and_every_run_has_a_fresh_namespace(run, payload):
    source = """
        seen = []
        def fn():
            seen.append(1)
            with open("n", "w") as file:
                file.write(str(len(seen)))
            return AeroOutput("out", "n")
    """
    for _ in range(3):
        result = run(payload(out={}), source)
        assert bytes_of(result["aero"]["output_data"]["out"]) == b"1"


def test_a_function_may_define_dataclasses(run, payload):
    result = run(
        payload(),
        """
        def fn():
            from dataclasses import dataclass, fields
            @dataclass
            class Point:
                x: int
            assert fields(Point)[0].name == "x"
        """,
    )
    assert result["error"] is None
    assert not [name for name in sys.modules if name.startswith("aero_function")]


def test_two_functions_of_one_name_keep_their_own_source(run, payload):
    first = run(payload(), 'def fn():\n    raise ValueError("first")')
    second = run(payload(), 'def fn():\n\n    raise ValueError("second")')
    assert 'raise ValueError("first")' in first["error"]["traceback"]
    assert 'raise ValueError("second")' in second["error"]["traceback"]


def test_a_task_without_steps_hands_the_payload_back(run, payload):
    result = run(payload(out={}))
    assert result["aero"] == payload(out={})
    assert result["steps"] == []


# run_task: what goes wrong


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("raise ValueError('no')", "ValueError", "no"),
        ("import sys; sys.exit(3)", "FunctionError", "called sys.exit(3): let it"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("fn()", "RecursionError", "maximum recursion depth exceeded"),
        ("raise MemoryError('big')", "OutOfMemoryError", "The function ran out of"),
        ("open('/not/there')", "FileNotFoundError", "No such file"),
        ("import json; json.loads('{')", "json.decoder.JSONDecodeError", "Expecting"),
        (
            "from aero.error import StorageError; raise StorageError('mine')",
            "StorageError",
            "mine",
        ),
        (
            "class Mine(Exception):\n        pass\n    raise Mine('own')",
            "fn.<locals>.Mine",
            "own",
        ),
        (
            "class E(Exception):\n        def __str__(self): return 1 / 0\n    raise E",
            "fn.<locals>.E",
            "<E without a readable message>",
        ),
    ],
)
def test_what_the_function_raises_is_its_own_fault(run, payload, body, kind, message):
    result = run(payload(), f"def fn():\n    {body}\n")
    error = result["error"]
    assert (error["type"], error["fault"]) == (kind, "function")
    assert error["message"].startswith(message) or message in error["message"]
    lines = error["traceback"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith('  File "<aero function fn>", line ')
    assert "aero/formatting.py" not in error["traceback"]
    assert "aero/jobs.py" not in error["traceback"]
    assert result["steps"][-1]["status"] == "FAILED"
    assert result["environment"]["packages"]


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("def fn():\n    pass", "InvalidValueError", "declared but not returned"),
        ("def fn(x):\n    pass", "InvalidTypeError", "'x'"),
        ("def fn(:\n    pass", "SyntaxError", "invalid syntax"),
        ("def other():\n    pass", "InvalidValueError", "defines no function fn"),
    ],
)
def test_a_broken_contract_is_the_functions_fault_without_our_frames(
    run, payload, source, kind, words
):
    error = run(payload(out={}), source)["error"]
    assert (error["type"], error["fault"]) == (kind, "function")
    assert words in error["message"]
    assert "in run_task" not in error["traceback"] or kind == "SyntaxError"
    assert kind in error["traceback"]


def test_an_error_while_the_source_is_executed_is_the_functions_fault(run, payload):
    error = run(payload(), "import not_a_module\ndef fn():\n    pass")["error"]
    assert error["type"] == "ModuleNotFoundError"
    assert error["fault"] == "function"
    assert "import not_a_module" in error["traceback"]


def test_a_payload_of_another_schema_is_refused(run, payload):
    error = run({**payload(), "schema": 9}, "def fn():\n    pass")["error"]
    assert "schema 9" in error["message"]
    assert error["fault"] == "function"


def test_a_final_answer_is_the_sources_fault(site, run, payload):
    url = site.publish("/there", b"").replace("/there", "/gone")
    result = run(payload(out={"url": url}), download=True)
    assert result["error"]["fault"] == "source"
    assert result["error"]["type"] == "SourceError"
    assert [step["status"] for step in result["steps"]] == ["FAILED"]
    assert "Traceback" in result["error"]["traceback"]


def test_a_url_that_cannot_be_fetched_is_the_sources_fault(run, payload):
    result = run(payload(out={"url": "gopher://x/y"}), download=True)
    assert result["error"]["fault"] == "source"


def test_a_source_out_of_reach_is_unavailable(site, run, payload):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        result = run(payload(out={"url": f"http://127.0.0.1:{port}/x"}), download=True)
    assert result["error"]["fault"] == "unavailable"
    assert result["error"]["type"] == "SourceUnavailableError"


@pytest.mark.parametrize("raised", [StorageError("disk"), OSError(28, "No space")])
def test_what_the_storage_cannot_do_is_not_the_functions_fault(
    run, payload, monkeypatch, raised
):
    class Full(MemoryStorage):
        def put(self, path, *, sha256=None, move=False):
            raise raised

    monkeypatch.setattr(aero.storage, "open_storage", lambda location: Full())
    source = "def fn():\n    open('o', 'w').close()\n    return AeroOutput('out', 'o')"
    error = run(payload(out={}), source)["error"]
    assert error["fault"] == "storage"


def test_an_interrupt_of_ours_is_not_swallowed(run, payload, monkeypatch):
    def interrupted(location):
        raise KeyboardInterrupt

    monkeypatch.setattr(aero.storage, "open_storage", interrupted)
    source = "def fn():\n    open('o', 'w').close()\n    return AeroOutput('out', 'o')"
    with pytest.raises(KeyboardInterrupt):
        run(payload(out={}), source)


def test_secrets_are_masked_even_if_the_function_removes_them(
    run, payload, monkeypatch
):
    monkeypatch.setenv("TOKEN", "s3same")
    result = run(
        payload(),
        """
        def fn(auth):
            import os
            del os.environ["TOKEN"]
            try:
                raise KeyError(auth["token"])
            except KeyError:
                raise ValueError("denied: " + auth["token"])
        """,
        kwargs={"auth": {"token": {"$secret": "TOKEN"}}},
    )
    assert result["error"]["message"] == "denied: ***"
    assert "s3same" not in json.dumps(result)
    assert "KeyError: '***'" in result["error"]["traceback"]


def test_a_missing_secret_is_named(run, payload, monkeypatch):
    monkeypatch.delenv("TOKEN", raising=False)
    result = run(payload(), "def fn(t):\n    pass", kwargs={"t": {"$secret": "TOKEN"}})
    assert "TOKEN" in result["error"]["message"]
    malformed = run(payload(), "def fn(t):\n    pass", kwargs={"t": {"$secret": 1}})
    assert malformed["error"]["fault"] == "function"
    assert malformed["steps"] == []


def test_what_is_recorded_is_bounded_and_fit_for_a_database(run, payload):
    error = run(
        payload(), "def fn():\n    raise ValueError('a\\0b\\ud800' + 'x' * 10**6)"
    )["error"]
    assert error["message"].startswith("a\\x00b\\ud800xxx")
    assert len(error["message"]) < 70_000
    assert "[...]" in error["message"]


# environment, layering and cost


def test_the_environment_names_what_is_loaded(run, payload):
    run(payload(), "def fn():\n    pass")
    result = run(payload(), "def fn():\n    import yaml\n")
    found = result["environment"]
    assert found["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert found["platform"]
    assert isinstance(found["host"], str)
    assert "aero" in found
    assert found["packages"]["PyYAML"]
    assert found["packages"]["pytest"] == pytest.__version__


def test_a_forked_child_ends_as_it_wants_to(tmp_path):
    script = """
        from aero.jobs import run_task
        source = '''
        def fn():
            import os
            child = os.fork()
            if child == 0:
                raise SystemExit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        '''
        import textwrap
        task = {"workdir": ".", "kwargs": {}, "aero": {}, "name": "fn"}
        result = run_task({**task, "source": textwrap.dedent(source)})
        print("reported", result["error"])
    """
    assert _python(script) == "reported None"


def test_workers_load_neither_database_nor_globus():
    script = """
        import sys, aero.jobs, aero.formatting, aero.secret, aero.sources
        heavy = {"sqlalchemy", "globus_sdk", "globus_compute_sdk", "aero.db"}
        print(sorted(heavy & sys.modules.keys()))
    """
    assert _python(script) == "[]"


def _python(script):
    checkout = str(Path(__file__).parents[2])
    shown = subprocess.run(
        [sys.executable, "-c", dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": checkout},
    )
    return shown.stdout.strip()
