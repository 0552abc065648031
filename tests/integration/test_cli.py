"""The command line: what it prints, where, and the code it exits with."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from aero import Aero, AeroOutput, api
from aero.cli import main, output
from aero.cli.root import COMMANDS, aero
from aero.config import load_conf
from aero.testing import InlineExecutor, make_app
from tests.databases import ON_SQLITE

FUNCTIONS = '''
from aero import AeroOutput

print("imported")


def count(cases, k=1):
    """Count characters."""
    from pathlib import Path

    print("counting")
    out = Path("n.txt")
    out.write_text(str(len(Path(cases).read_text()) * k))
    return AeroOutput("n", out)


def boom(cases):
    print("about to fail")
    raise ValueError("no good")
'''


def clean(cases):
    from pathlib import Path

    out = Path("out.csv")
    out.write_text(Path(cases).read_text().upper())
    return AeroOutput("cases", out)


def count(cases, k=1):
    from pathlib import Path

    out = Path("n.txt")
    out.write_text(str(len(Path(cases).read_text()) * k))
    return AeroOutput("n", out)


def boom(cases):
    print("about to fail")
    raise ValueError("no good")


@pytest.fixture
def cli(monkeypatch, tmp_path):
    """Run `aero` in this process; functions run in this thread."""

    def in_thread(**options):
        return Aero(load_conf(), executor=InlineExecutor(), **options)

    def run(*args, code=0, given=None):
        result = CliRunner().invoke(aero, args, input=given, prog_name="aero")
        assert result.exit_code == code, result.output
        return result

    monkeypatch.setattr(api, "open_workspace", in_thread)
    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture
def functions(tmp_path):
    file = tmp_path / "functions.py"
    file.write_text(FUNCTIONS)
    return file


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("a,b\n")
    return file.as_uri()


@pytest.fixture
def filled(isolation, database_url, source):
    """A workspace where `cases` was ingested, `n` made of it, and `boom` failed."""
    with make_app(isolation, database_url=database_url) as app:
        flows = {
            "cases": app.register_flow(
                "local",
                app.register_function(clean),
                None,
                {"cases": {"url": source}},
                policy="INGESTION",
            )
        }
        inputs = {"cases": {"id": flows["cases"]["contributed_to"][0]["id"]}}
        for function, outputs in ((count, {"n": {}}), (boom, {})):
            flows[function.__name__] = app.register_flow(
                "local", app.register_function(function), inputs, outputs, policy="ANY"
            )
        app.run_until_idle(60)
        flows["failed"] = next(app.list_runs(status="FAILED"))
        return flows


def shell(*args, **options):
    """Run `aero` as a shell does."""
    return subprocess.run(
        [sys.executable, "-m", "aero", *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


# -- the group --------------------------------------------------------------------


def test_help_names_every_command_in_the_words_of_the_command():
    shown = CliRunner().invoke(aero, ["--help"]).output
    for name, entry in COMMANDS.items():
        assert f"  {name} " in shown
        module = import_module(f"aero.cli.{entry.module}")
        command = getattr(module, name.replace("-", "_") + "_")
        assert command.name == name
        assert command.help


def test_without_arguments_it_helps(cli):
    assert cli().stdout == cli("--help").stdout
    assert cli("--version").stdout.strip()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["lits"], "Error: There is no command 'lits': did you mean 'list'? "),
        (["xyzzyx"], "Error: There is no command 'xyzzyx'. "),
        (["list", "--foo"], "See 'aero list --help'."),
        (["list", "-t", "data", "-i", "x"], "Error: Give either --type or --id."),
        (["lineage", "x", "--up", "--down"], "Error: Give either --up or --down."),
        (["lineage", "x", "--dot", "--json"], "Error: Give either --dot or --json."),
        (["get", "x", "-o", "-", "--json"], "Error: Give either --json or --output -"),
        (["create", "-n", "x"], "Error: Give --url, as flags or in --file."),
        (["create"], "Error: Give --name and --url, as flags or in --file."),
        (["create", "-k", "x"], "Error: --kwargs 'x' is not KEY=VALUE."),
        (["create", "-p", "SOMETIMES"], "Error: There is no policy 'SOMETIMES'"),
        (["register", "-i", "x"], "Error: --input 'x' is not NAME=DATA or NAME="),
        (["register", "--function", "x"], "Error: --function 'x' is not FILE.py:NAME."),
        (["register", "--function", "x.py:y"], "Error: There is no file 'x.py'."),
        (["configure"], "Error: Missing option '-f' / '--file'."),
        (["-l", "LOUD", "list"], "Error: Invalid value for '-l' / '--log'"),
    ],
)
def test_usage_errors_are_one_line_and_code_2(cli, args, said):
    result = cli(*args, code=2)
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    "args", [["get", "nothing"], ["run", "nothing"], ["logs", "nothing"]]
)
def test_errors_are_one_sentence_and_code_1(cli, database_url, args):
    result = cli(*args, code=1)
    assert result.stderr.startswith("Error: There is no ")
    assert result.stderr.count("\n") == 1


def test_a_traceback_is_shown_only_with_debug(cli, monkeypatch):
    def fail(**_options):
        raise RuntimeError("out of paper\nand more")

    monkeypatch.setattr(api, "open_workspace", fail)
    plain = cli("list", code=1).stderr
    assert plain == (
        "Error: RuntimeError: out of paper. Run it again with -l DEBUG for the "
        "traceback.\n"
    )
    assert "Traceback" in cli("-l", "DEBUG", "list", code=1).stderr


def test_a_database_that_cannot_be_used_is_one_sentence(cli, monkeypatch, tmp_path):
    home = tmp_path / "damaged"
    home.mkdir()
    (home / "aero.db").write_bytes(b"no database" * 1000)
    monkeypatch.setenv("AERO_HOME", str(home))
    said = cli("list", code=1).stderr
    assert said == (
        "Error: The database cannot be used (file is not a database): check that its "
        "folder can be written and has space, or restore it from a backup.\n"
    )


def test_a_folder_that_cannot_be_made_is_one_sentence(cli, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AERO_HOME", str(tmp_path / "file" / "home"))
    said = cli("list", code=1).stderr
    assert said.startswith(f"Error: {tmp_path / 'file'}")
    assert said.endswith("cannot be used (Not a directory): check it.\n")


def test_an_interrupt_is_quiet_and_130(cli, monkeypatch):
    def interrupted(**_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "open_workspace", interrupted)
    result = cli("list", code=130)
    assert result.output.strip() == ""


def test_windows_is_told_to_use_wsl(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    assert capsys.readouterr().err.endswith("use WSL 2.\n")


def test_a_server_executes_its_runs_itself(monkeypatch):
    monkeypatch.setenv("AERO_SERVER_URL", "https://aero.example")
    result = CliRunner().invoke(aero, ["work"])
    assert result.exit_code == 1
    assert "unset its server_url" in result.stderr


# -- JSON -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "keys"),
    [
        (["list"], {"id", "name", "url", "available_versions"}),
        (["list", "-t", "flow"], {"id", "function_args", "policy", "derived_from"}),
        (["list", "-t", "prov"], {"id", "flow_id", "contributed_to"}),
        (["list", "-i", "cases"], {"id", "version", "checksum", "data_file"}),
        (["search", "cases"], {"id", "name"}),
        (["runs"], {"id", "status", "trigger_kind", "error_message"}),
        (["runs", "n", "--status", "succeeded"], {"id", "status"}),
        (["delete-flows", "cases", "-y"], {"flow_id", "role"}),
    ],
)
def test_lists_are_exactly_one_json_array(cli, filled, args, keys):
    found = json.loads(cli(*args, "--json").stdout)
    assert found
    assert all(keys <= record.keys() for record in found)


@pytest.mark.parametrize(
    ("args", "keys"),
    [
        (["explain", "n"], {"reason", "inputs"}),
        (["pause", "n", "--reason", "holiday"], {"paused_reason"}),
        (["resume", "n"], {"enabled"}),
        (["set", "n", "--priority", "2", "--max-running", "3"], {"max_running"}),
        (["limit", "local", "3"], {"endpoint", "max_running", "running"}),
        (["run", "n"], {"status", "runs"}),
        (["run", "n", "--no-wait"], {"status", "runs"}),
        (["logs", "FAILED"], {"log_tail", "traceback"}),
        (["retry", "FAILED"], {"status"}),
        (["get", "n", "-o", "n.out"], {"path", "checksum"}),
        (["lineage", "n"], {"root", "nodes", "edges"}),
        (["status"], {"home", "runs"}),
        (["gc", "--dry-run"], {"removed", "dry_run"}),
        (["db", "current"], {"revision", "needed"}),
        (["db", "upgrade"], {"revision", "needed"}),
        (["logout"], {"removed"}),
    ],
)
def test_records_are_exactly_one_json_object(cli, filled, args, keys):
    args = [filled["failed"]["id"] if arg == "FAILED" else arg for arg in args]
    assert keys <= json.loads(cli(*args, "--json").stdout).keys()


def test_no_records_are_an_empty_array(cli, database_url):
    assert json.loads(cli("list", "--json").stdout) == []
    assert json.loads(cli("types", "--json").stdout) == []


# -- sources ----------------------------------------------------------------------


def test_create_prints_the_id_and_what_to_paste(cli, database_url, source):
    result = cli("create", "-n", "cases", "-u", source, "-p", "INGESTION", "-t", "60")
    first, snippet = result.stdout.splitlines()
    data_id = first.removeprefix("Source ")
    assert json.loads(snippet)["cases"]["id"] == data_id
    assert result.stderr == "1 run waits; run 'aero work'\n"


def test_create_takes_a_file_and_flags_win(
    cli, database_url, source, tmp_path, functions
):
    file = tmp_path / "sub" / "source.yaml"
    file.parent.mkdir()
    functions.rename(file.with_name("functions.py"))
    options = {
        **{"name": "other", "url": source, "description": "d"},
        **{"function": "functions.py:count", "output": "cases"},
        **{"kwargs": {"k": 1}},
    }
    file.write_text(yaml.safe_dump(options))
    record = json.loads(
        cli("create", "-f", str(file), "-n", "mine", "-k", "k=3", "--json").stdout
    )
    assert (record["name"], record["description"]) == ("mine", "d")
    flow = json.loads(cli("list", "-t", "flow", "--json").stdout)[0]
    assert flow["function_args"]["kwargs"]["k"] == 3
    assert flow["function_name"] == "count"


def test_create_says_what_it_ignores(cli, database_url, source):
    result = cli("create", "-n", "cases", "-u", source, "-m", "some-id")
    assert result.stderr.splitlines() == [
        "Warning: --modifier was ignored: clean the data with --verifier instead.",
    ]


def test_a_url_for_a_known_type_is_added_to_it(cli, database_url, source):
    cli("create", "-n", "cases", "-u", f"{source}/**", "--type", "group")
    added = json.loads(
        cli("create", "--type", "group", "-u", "http://h/x", "--json").stdout
    )
    assert [each["url"] for each in added["urls"]] == [f"{source}/**", "http://h/x"]
    shown = cli("create", "--type", "group", "-u", "http://h/y").stdout
    assert added["data_id"] in shown
    lines = cli("types").stdout.splitlines()
    assert lines[0] == f"group  data id {added['data_id']}"
    assert [line.split() for line in lines[1:]] == [
        ["pattern", f"{source}/**"],
        ["object", "http://h/x"],
        ["object", "http://h/y"],
    ]


def test_types_says_that_there_are_none(cli, database_url):
    result = cli("types")
    assert result.stdout == ""
    assert "There are no source types" in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nmae: x", "has the unknown key 'nmae': did you mean 'name'?"),
        ("- x", "does not hold 'key: value' lines"),
        ("a: [", "is not YAML"),
        ("kwargs: [1]", "kwargs in the file is not a mapping"),
    ],
)
def test_files_that_cannot_be_used(cli, tmp_path, text, said):
    file = tmp_path / "source.yaml"
    file.write_text(text)
    assert said in cli("create", "-f", str(file), code=2).stderr


def test_a_missing_and_an_empty_file(cli, tmp_path):
    missing = cli("create", "-f", "nowhere.yaml", code=2)
    assert "nowhere.yaml cannot be read" in missing.stderr
    (tmp_path / "empty.yaml").touch()
    assert "Give --name" in cli("create", "-f", "empty.yaml", code=2).stderr


# -- flows ------------------------------------------------------------------------


def test_register_a_function_in_a_file_by_flags(cli, filled, functions):
    result = cli(
        *("register", "--function", f"{functions}:count", "-i", "cases=cases@1"),
        *("-o", "n", "-k", "k=2", "note=text", "-d", "why", "-p", "NONE", "--json"),
    )
    record = json.loads(result.stdout)
    kwargs = record["function_args"]["kwargs"]
    assert (kwargs["k"], kwargs["note"]) == (2, "text")
    assert kwargs["aero"]["input_data"]["cases"]["version"] == 1
    assert (record["description"], record["policy_name"]) == ("why", "NONE")
    assert "imported" in result.stderr


def test_register_from_a_file(cli, filled, tmp_path, functions):
    file = tmp_path / "flow.yaml"
    (tmp_path / "sweep.json").write_text('[{"k": 1}, {"k": 2}]')
    options = {
        "endpoint-uuid": "local",
        "function_uuid": filled["count"]["function_id"],
        "input_data": {"cases": {"id": "cases"}},
        "output_data": {"n": None},
        "config": "sweep.json",
    }
    file.write_text(yaml.safe_dump(options))
    result = cli("register", "-f", str(file))
    assert "is registered (ANY)" in result.stdout
    assert "It makes n: data id " in result.stdout
    assert result.stderr == "2 runs wait; run 'aero work'\n"
    again = cli("register", "-f", str(file), code=1)
    assert "has the same function, inputs, outputs and kwargs" in again.stderr
    cli("register", "-f", str(file), "--exist-ok")


@pytest.mark.parametrize(
    ("text", "said", "code"),
    [
        ("def f(): pass", "defines no function 'count'", 1),
        ("raise OSError('x')", "cannot be imported: OSError: x", 1),
    ],
)
def test_functions_that_cannot_be_loaded(cli, tmp_path, text, said, code):
    (tmp_path / "f.py").write_text(text)
    assert said in cli("register", "--function", "f.py:count", code=code).stderr


def test_a_function_is_given_in_one_way(cli, filled, functions):
    where = f"{functions}:count"
    register = cli("register", "--function", where, "-u", "x", code=2)
    assert "either --function or --function-uuid" in register.stderr
    named = ["create", "-n", "a", "-u", "http://h"]
    create = cli(*named, "-v", "x", "--function", where, code=2)
    assert "either --function or --verifier" in create.stderr


def test_mappings_in_the_file_must_be_mappings(cli, tmp_path):
    (tmp_path / "flow.yaml").write_text("input_data: [1]")
    result = cli("register", "-f", "flow.yaml", code=2)
    assert "input_data in the file is not a mapping" in result.stderr


def test_run_exits_with_1_unless_it_succeeds(cli, filled):
    done = cli("run", filled["count"]["id"])
    assert done.stdout.startswith("UNCHANGED  run ")
    failed = cli("run", filled["boom"]["id"], code=1)
    assert failed.stdout.startswith("FAILED  run ")
    assert failed.stderr.splitlines()[0] == "ValueError: no good"
    waiting = cli("run", filled["count"]["id"], "--no-wait")
    assert waiting.stdout.startswith("PENDING")
    assert waiting.stderr == "1 run waits; run 'aero work'\n"


def test_explain_says_why(cli, filled):
    shown = cli("explain", filled["boom"]["id"]).stdout
    assert shown.startswith("Its last run failed (ValueError: no good)")
    assert "last error" in shown
    assert shown.splitlines()[-1].split() == ["cases", "cases", "1", "yes"]
    assert "INPUT" not in cli("explain", "cases").stdout


def test_pause_resume_cancel_retry(cli, filled):
    assert "is paused." in cli("pause", "n", "--reason", "holiday").stdout
    assert "(holiday)" in cli("explain", "n").stdout
    assert "goes on." in cli("resume", "n").stdout
    run = filled["failed"]["id"]
    assert f"Run {run} is PENDING.\n" == cli("retry", run).stdout
    assert "is CANCELLED." in cli("cancel", run).stdout


def test_delete_flows_asks_first(cli, filled):
    for answer in ("n\n", None):
        kept = cli("delete-flows", "cases", code=1, given=answer)
        assert "Nothing was deleted" in kept.stderr
        assert filled["count"]["id"] in kept.stderr
    gone = cli("delete-flows", "cases", given="y\n").stdout
    assert sum(line.startswith("Deleted the ") for line in gone.splitlines()) == 3
    assert "No flow uses or makes" in cli("delete-flows", "cases", "-y").stderr


# -- runs and data ----------------------------------------------------------------


def test_tables_in_a_pipe_are_a_line_per_record(cli, filled):
    heading, *lines = cli("list").stdout.splitlines()
    assert heading.split() == [
        "ID",
        "NAME",
        "VERSIONS",
        "CREATED",
        "URL",
        "DESCRIPTION",
    ]
    assert [line.split()[1] for line in lines] == ["n", "cases"]
    assert len(cli("runs").stdout.splitlines()) == 4
    assert len(cli("runs", "--limit", "1").stdout.splitlines()) == 2
    assert "n@1" in cli("list", "-t", "prov").stdout
    assert "INGESTION" in cli("list", "-t", "flow").stdout
    assert "out.csv" in cli("list", "-i", "cases").stdout
    nothing = cli("search", "nonsense")
    assert (nothing.stdout, nothing.stderr[:7]) == ("", "Nothing")


def test_on_a_terminal_tables_are_drawn_and_cut(cli, filled, monkeypatch):
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setattr(output, "SCREENFUL", 2)
    shown = cli("runs")
    assert "─" in shown.stdout
    assert filled["failed"]["id"] not in shown.stdout
    assert shown.stderr == "These are the first 2; --limit 0 shows all.\n"
    assert cli("runs", "--limit", "0").stderr == ""


def test_logs_show_output_and_traceback(cli, filled):
    shown = cli("logs", filled["failed"]["id"]).stdout
    assert "ValueError: no good" in shown
    run = json.loads(cli("runs", "n", "--json").stdout)[0]["id"]
    assert "printed nothing" in cli("logs", run).stderr


def test_get_writes_the_bytes_where_it_is_told(cli, filled, tmp_path):
    assert cli("get", "cases").stdout == f"{tmp_path / 'out.csv'}\n"
    assert (tmp_path / "out.csv").read_text() == "A,B\n"
    again = cli("get", "cases", code=2)
    assert "out.csv is here already" in again.stderr
    assert cli("get", "cases@1", "-o", "-").stdout_bytes == b"A,B\n"
    (tmp_path / "folder").mkdir()
    cli("get", "cases", "-o", "folder")
    cli("get", "cases", "-o", "folder/x.csv")
    assert {p.name for p in (tmp_path / "folder").iterdir()} == {"out.csv", "x.csv"}
    assert "There is no folder" in cli("get", "cases", "-o", "no/x", code=2).stderr
    assert "has no version 9" in cli("get", "cases@9", code=1).stderr


def test_a_long_copy_shows_its_progress(cli, filled, monkeypatch):
    data = import_module("aero.cli.data")
    seen = []
    monkeypatch.setattr(data, "LONG", 1)
    monkeypatch.setattr(data, "_written", lambda folder: seen.append(folder) or 1)
    monkeypatch.setattr(data.sys, "stderr", Terminal(sys.stderr))

    def watch(folder, total, name, done):
        data_watch(folder, total, name, Once())

    data_watch = data._watch
    monkeypatch.setattr(data, "_watch", watch)
    with data._progress(Path(), {"data_file": {"file_size": 4}, "name": "cases"}):
        pass
    assert seen == [Path()]


class Terminal:
    def __init__(self, stream):
        self._stream = stream

    def isatty(self):
        return True

    def __getattr__(self, name):
        return getattr(self._stream, name)


class Once:
    """An event that is set at the second look."""

    def __init__(self):
        self.looks = 0

    def wait(self, _seconds):
        self.looks += 1
        return self.looks > 1


def test_what_is_written_is_summed(tmp_path):
    (tmp_path / "x").write_bytes(b"123")
    (tmp_path / "folder").mkdir()
    assert import_module("aero.cli.data")._written(tmp_path) == 3


def test_lineage_reaches_the_source_and_its_hash(cli, filled, source):
    tree = cli("lineage", "n").stdout
    assert tree.startswith("n@1")
    assert source in tree
    record = json.loads(cli("lineage", "n", "--json").stdout)
    downloaded = next(n["source"] for n in record["nodes"] if n["source"])
    assert downloaded["sha256"] in tree
    assert "n@1" in cli("lineage", "cases@1", "--down").stdout
    assert len(cli("lineage", "n", "--depth", "0").stdout.splitlines()) == 1


def test_lineage_for_graphviz(cli, filled, source):
    first, *lines, last = cli("lineage", "n", "--dot").stdout.splitlines()
    assert (first, last) == ("digraph lineage {", "}")
    assert sum(" -> " in line for line in lines) == 2
    assert any(f'"{source}" -> ' in line for line in lines)
    cli("run", "n")
    for depth in ([], ["--depth", "1"]):
        shown = cli("lineage", "cases", "--down", "--dot", *depth).stdout
        assert "style=dashed" in shown
        assert "n@1" in shown


def test_provenance_shows_a_record(cli, filled, source):
    record = json.loads(cli("list", "-t", "prov", "--json").stdout)[-1]
    shown = cli("provenance", record["run_id"]).stdout
    assert f"downloaded  {source}  sha256 " in shown
    assert "made        cases@1  sha256 " in shown
    newest = json.loads(cli("list", "-t", "prov", "--json").stdout)[0]
    assert "used        cases@1" in cli("provenance", newest["id"]).stdout
    assert json.loads(cli("provenance", newest["id"], "--json").stdout) == newest


# -- the installation -------------------------------------------------------------


def test_status_says_where_and_how(cli, filled, isolation):
    shown = cli("status").stdout
    for word in (str(isolation), "none alive", "1 failed", "next due", "default"):
        assert word in shown


def test_status_of_nothing_creates_nothing(cli, empty_database_url):
    assert "no workspace yet" in cli("status").stderr
    assert "There is no database yet" in cli("db", "current").stderr


def test_status_of_nothing_makes_no_file(cli, isolation):
    assert "no workspace yet" in cli("status").stderr
    assert not isolation.exists()


def test_gc_says_what_it_did(cli, filled):
    assert "would be deleted" in cli("gc", "--dry-run").stdout
    assert "0 objects (0 B) deleted" in cli("gc").stdout


def test_db_upgrade_makes_the_schema(cli, empty_database_url):
    assert "There is no database yet" in cli("db", "current").stderr
    upgraded = cli("db", "upgrade").stdout
    assert upgraded == cli("db", "current").stdout
    assert "this aero needs" in upgraded


def test_configure_installs_a_file_and_hides_passwords(cli, tmp_path, isolation):
    file = tmp_path / "mine.toml"
    file.write_text('database_url = "postgresql+psycopg://me:secret@h/x"\n')
    shown = cli("configure", "-f", str(file), "-p", "default").stdout
    assert "secret" not in shown
    record = json.loads(cli("configure", "-f", str(file), "--json").stdout)
    assert record["config_file"] == str(isolation / "config.toml")
    assert "***" in record["database_url"]


def test_logout_says_so(cli, isolation):
    assert cli("logout").stdout == "Nobody was logged in.\n"
    isolation.mkdir(exist_ok=True)
    (isolation / "client_tokens.json").touch()
    assert "is gone" in cli("logout").stdout


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (5e15, "5e+03 TB")],
)
def test_sizes_are_for_people(count, text):
    assert output.size(count) == text


# -- work -------------------------------------------------------------------------


def test_work_once_runs_what_waits_and_tells(cli, filled, source):
    cli("run", filled["count"]["id"], "--no-wait")
    told = cli("work", "--once").stdout.splitlines()
    assert [line.split()[1] for line in told] == ["started", "UNCHANGED"]
    assert told[0].endswith("count -> n")
    Path(source.removeprefix("file://")).write_text("a,b\n1,2\n")
    cli("run", "cases", "--no-wait")
    told = cli("work", "--once", code=1).stdout
    assert "clean -> cases  made cases@2" in told
    assert "boom -> nothing  no good" in told


def test_the_demo_is_given_its_flag(cli, monkeypatch):
    demo = import_module("aero.demo")
    seen = []
    monkeypatch.setattr(demo, "main", lambda serve: seen.append(serve) or 0)
    cli("demo")
    cli("demo", "--serve")
    assert seen == [False, True]
    monkeypatch.setattr(demo, "main", lambda serve: 130)
    cli("demo", code=130)


def test_the_reporter_knows_retries_and_flows_that_are_gone(
    filled, isolation, database_url, capsys
):
    from aero.cli.work import Reporter

    reporter = Reporter()
    gone = {"run_id": "r" * 36, "flow_id": "f" * 36}
    reporter.heard("started", gone)
    with make_app(isolation, database_url=database_url) as app:
        reporter.app = app
        retried = {**gone, "flow_id": "e" * 36, "status": "PENDING", "error": "x\ny"}
        reporter.heard("ended", retried)
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("rrrrrrrr  ffffffff")
    assert second.endswith("eeeeeeee  x y (it is tried again)")
    assert reporter.failed == 0


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_work_stops_when_told_to_and_hands_runs_back(
    isolation, database_url, source, tmp_path, number
):
    mark = tmp_path / "started"
    (tmp_path / "slow.py").write_text(
        "def slow(cases, mark):\n"
        "    import pathlib, time\n"
        "    pathlib.Path(mark).touch()\n"
        "    time.sleep(600)\n"
    )
    register = shell(
        *("register", "--function", f"{tmp_path}/slow.py:slow", "-p", "INGESTION"),
        *("-o", f"cases={source}", "-k", f"mark={mark}", "--json"),
    )
    assert json.loads(register.stdout)["policy_name"] == "INGESTION"
    assert register.stderr == "1 run waits; run 'aero work'\n"
    with subprocess.Popen(
        [sys.executable, "-m", "aero", "work", "--grace", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        wait_for(mark.exists)
        worker.send_signal(number)
        out, err = worker.communicate(timeout=60)
    assert (worker.returncode, err) == (0, "Working; Ctrl-C stops.\n")
    assert "slow -> cases" in out
    with make_app(isolation, database_url=database_url) as app:
        assert [run["status"] for run in app.list_runs()] == ["PENDING"]


def test_work_once_that_is_stopped_has_not_done_its_work(isolation, source, tmp_path):
    mark = tmp_path / "started"
    (tmp_path / "slow.py").write_text(
        "def slow(cases, mark):\n"
        "    import pathlib, time\n"
        "    pathlib.Path(mark).touch()\n"
        "    time.sleep(600)\n"
    )
    shell(
        *("register", "--function", f"{tmp_path}/slow.py:slow", "-p", "INGESTION"),
        *("-o", f"cases={source}", "-k", f"mark={mark}"),
    )
    with subprocess.Popen(
        [sys.executable, "-m", "aero", "work", "--once", "--grace", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as worker:
        wait_for(mark.exists)
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)
    assert worker.returncode == 128 + signal.SIGTERM


# -- limits -----------------------------------------------------------------------


def test_set_says_what_holds_then(cli, filled):
    flow = filled["count"]["id"]
    said = cli("set", "n", "--max-running", "3").stdout
    assert said == (f"Flow {flow} has priority 0, and 3 of its runs may run at once.\n")
    said = cli("set", "n", "--priority", "-1", "--max-running", "none").stdout
    assert said == (
        f"Flow {flow} has priority -1, and any number of its runs may run at once.\n"
    )


def test_limits_are_set_listed_and_removed(cli):
    assert cli("limit").stderr == "No endpoint has a limit.\n"
    assert json.loads(cli("limit", "--json").stdout) == []
    said = cli("limit", "local", "3").stdout
    assert said == "At most 3 runs of local run at once.\n"
    heading, line = cli("limit").stdout.splitlines()
    assert heading.split() == ["ENDPOINT", "AT", "MOST", "RUNNING", "WAITING"]
    assert line.split() == ["local", "3", "0", "0"]
    (record,) = json.loads(cli("limit", "--json").stdout)
    assert record["max_running"] == 3
    said = cli("limit", "local", "none").stdout
    assert said == "Any number of runs of local may run at once.\n"
    assert json.loads(cli("limit", "--json").stdout) == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["set", "n"], "Give --priority, --max-running, --email or --notify"),
        (["set", "n", "--max-running", "0"], "'0' is neither a number from 1 nor"),
        (["limit", "local"], "Give a number from 1 after the endpoint, or 'none'"),
        (["limit", "local", "many"], "'many' is neither a number from 1 nor 'none'"),
    ],
)
def test_what_is_no_limit(cli, filled, args, said):
    assert said in cli(*args, code=2).stderr


def test_limits_are_registered_by_flag_and_by_file(cli, source, tmp_path):
    file = tmp_path / "source.yaml"
    options = {"name": "cases", "url": source, "max-running": 2, "priority": 1}
    file.write_text(yaml.safe_dump(options))
    created = json.loads(cli("create", "-f", str(file), "--json").stdout)
    registered = cli(
        *("register", "-o", f"x={source}", "-p", "NONE", "--json"),
        *("--max-running", "4", "--priority", "5"),
    )
    flow = json.loads(registered.stdout)
    assert (flow["max_running"], flow["priority"]) == (4, 5)
    flows = json.loads(cli("list", "--type", "flow", "--json").stdout)
    (polled,) = [each for each in flows if each["id"] == created["flow_id"]]
    assert (polled["max_running"], polled["priority"]) == (2, 1)


# -- as a shell sees it -----------------------------------------------------------


def test_exit_codes_and_streams_of_the_real_thing(filled):
    listed = shell("list", "--json")
    assert listed.returncode == 0
    assert [d["name"] for d in json.loads(listed.stdout)] == ["n", "cases"]
    assert listed.stderr == ""
    failed = shell("get", "nothing")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert shell("frob").returncode == 2


@ON_SQLITE
def test_a_reader_that_leaves_is_no_trouble(filled):
    script = f"{sys.executable} -m aero list -t prov --json | head -c 1"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[", "")


@ON_SQLITE
def test_colours_are_for_terminals_only(filled):
    leader, follower = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "aero", "logs", filled["failed"]["id"]],
            stdout=follower,
            check=False,
            timeout=60,
        )
        shown = os.read(leader, 65536)
    finally:
        os.close(leader)
        os.close(follower)
    assert done.returncode == 0
    assert b"ValueError" in shown
    assert "\x1b" not in shell("runs").stdout


@pytest.mark.parametrize("args", [[], ["--help"], ["list", "--help"]])
def test_help_loads_nothing_heavy(args):
    code = (
        "import atexit, sys\n"
        "heavy = ('sqlalchemy', 'rich', 'globus_sdk', 'globus_compute_sdk', 'yaml')\n"
        "said = lambda: sys.stderr.write(str([m for m in heavy if m in sys.modules]))\n"
        "atexit.register(said)\n"
        f"sys.argv = ['aero', *{args!r}]\n"
        "import aero.cli\n"
        "aero.cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "[]")


@ON_SQLITE
def test_list_in_a_pipe_loads_neither_rich_nor_alembic_nor_globus(filled):
    code = (
        "import atexit, sys\n"
        "heavy = ('alembic', 'rich', 'globus_sdk', 'globus_compute_sdk')\n"
        "said = lambda: sys.stderr.write(str([m for m in heavy if m in sys.modules]))\n"
        "atexit.register(said)\n"
        "sys.argv = ['aero', 'list']\n"
        "import aero.cli\n"
        "aero.cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "[]")
