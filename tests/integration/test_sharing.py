"""Owners, groups and the public: what each of them can do, and the log of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from aero.app import Aero
from aero.auth.base import Identity, Role, Scope
from aero.cli.root import aero
from aero.client import AeroClient
from aero.db import schema
from aero.db.models import Run, Token
from aero.db.sight import Viewer, visible
from aero.error import (
    ConflictError,
    ForbiddenError,
    InvalidTypeError,
    InvalidValueError,
    NotFoundError,
)
from aero.testing import make_app
from aero.types import RunStatus
from tests.conftest import Publisher
from tests.guests import GROUP, SCOPES, acting, client, copied, guarded, join, own

# -- roles ----------------------------------------------------------------------------


def test_the_role_is_the_greatest_that_anybody_gave(
    app: Aero, publisher: Publisher
) -> None:
    join(app, olga="editor", vera="viewer")
    its = own(app, publisher, "olga", "x", group=GROUP)

    def seen_as(**groups: Role) -> Aero:
        return app.acting_as(
            Identity(id="vera", name="v", scopes=SCOPES, groups=groups)
        )

    with pytest.raises(ForbiddenError):
        seen_as().pause_flow(its.flow)
    assert seen_as(lab=Role.EDITOR).pause_flow(its.flow)["enabled"] is False
    app.add_member(GROUP, "vera", "admin")
    assert seen_as(lab=Role.VIEWER).delete_flow(its.flow)["id"] == its.flow
    app.remove_member(GROUP, "vera")
    assert seen_as(lab=Role.VIEWER).get_data(its.data)["id"] == its.data
    with pytest.raises(NotFoundError):
        seen_as(other=Role.ADMIN).get_data(its.data)


@pytest.mark.parametrize("database_url", ["sqlite_url"], indirect=True)
def test_only_editors_give_things_to_a_group(app: Aero, publisher: Publisher) -> None:
    join(app, olga="editor", vera="viewer")
    vera, its = acting(app, "vera"), own(app, publisher, "vera", "x")
    url = publisher.publish("y.csv", "y")
    for group in (GROUP, "nowhere"):
        asks: list[Callable[[], Any]] = [
            lambda group=group: vera.share("data", its.data, group=group),
            lambda group=group: vera.create_source("y", url, group=group),
            lambda group=group: vera.register_function(copied, group=group),
            lambda group=group: vera.register_flow("local", its.function, group=group),
        ]
        for ask in asks:
            with pytest.raises(ForbiddenError, match=f"not an editor of .*'{group}'"):
                ask()
    assert vera.get_data(its.data)["visibility"] == "private"
    assert [d["name"] for d in vera.list_metadata("data")] == ["x"]
    # Who administers may name any; nobody is a member of it yet.
    assert app.share("data", its.data, group="nowhere")["group"] == "nowhere"


def test_outputs_are_for_editors_and_inputs_for_viewers(
    app: Aero, publisher: Publisher
) -> None:
    join(app, olga="editor", ed="editor", vera="viewer")
    its = own(app, publisher, "olga", "x", group=GROUP)
    shelf = acting(app, "olga").register_flow(
        "local", its.function, {"cases": {"id": its.data}}, {"copy": {}}, group=GROUP
    )
    made = shelf["contributed_to"][0]["id"]
    acting(app, "olga").delete_flow(shelf["id"])
    ed, vera = acting(app, "ed"), acting(app, "vera")
    asked = ("local", its.function, {"cases": {"id": its.data}})
    with pytest.raises(ForbiddenError, match="editor of the group 'lab'") as caught:
        vera.register_flow(*asked, {"copy": {"id": made}})
    assert caught.value.role == "editor"
    flow = ed.register_flow(*asked, {"copy": {"id": made}})
    assert (flow["owner"], flow["visibility"]) == ("ed", "private")
    assert flow["contributed_to"][0]["owner"] == "olga"
    # That somebody writes it is told to who asks for it, and not which flow does.
    again = acting(app, "olga")
    with pytest.raises(ConflictError, match="a flow of somebody else") as conflict:
        again.register_flow(*asked, {"copy": {"id": made}}, {"n": 1})
    assert flow["id"] not in str(conflict.value) + str(conflict.value.facts)


@pytest.mark.parametrize("database_url", ["sqlite_url"], indirect=True)
def test_flows_of_a_data_are_deleted_all_or_none(
    app: Aero, publisher: Publisher
) -> None:
    join(app, olga="editor", ed="editor", leo="admin")
    its = own(app, publisher, "olga", "x", group=GROUP)
    ed, leo = acting(app, "ed"), acting(app, "leo")
    shared = ed.register_flow(
        "local", its.function, {"cases": {"id": its.data}}, {"copy": {}}, group=GROUP
    )
    olga = acting(app, "olga")
    for user in (olga, ed):
        with pytest.raises(ForbiddenError, match="be its owner, or admin of"):
            user.delete_data_flows(its.data)
    assert len(olga.get_data_flows(its.data)) == 2
    unseen = ed.register_flow(
        "local", its.function, {"cases": {"id": its.data}}, {"copy": {}}, {"n": 1}
    )
    with pytest.raises(ForbiddenError, match="Other people's flows"):
        leo.delete_data_flows(its.data)
    ed.delete_flow(unseen["id"])
    gone = leo.delete_data_flows(its.data)
    assert {e["flow_id"] for e in gone} == {its.flow, shared["id"]}


@pytest.mark.parametrize("database_url", ["sqlite_url"], indirect=True)
def test_sharing_with_fewer_again(app: Aero, publisher: Publisher) -> None:
    join(app, olga="editor", leo="admin", vera="viewer")
    its = own(app, publisher, "olga", "x", group=GROUP)
    leo, vera = acting(app, "leo"), acting(app, "vera")
    assert vera.get_run(its.run)["id"] == its.run
    # It is the answer that tells who shared it last that it is not theirs any more.
    assert leo.share("flow", its.flow)["visibility"] == "private"
    for user in (leo, vera):
        with pytest.raises(NotFoundError):
            user.get_run(its.run)
        assert user.get_data(its.data)["id"] == its.data
    with pytest.raises(ForbiddenError):
        vera.share("data", its.data, public=True)


def test_a_lost_answer_does_not_undo_who_shared_it(
    sqlite_app: Aero, publisher: Publisher
) -> None:
    from aero.sharing import Share
    from aero.types import Sharing

    join(sqlite_app, olga="editor", leo="admin")
    its = own(sqlite_app, publisher, "olga", "x", group=GROUP)
    share = Share("data", its.data, Sharing())
    leo = acting(sqlite_app, "leo")
    assert leo.db.write(share) == leo.db.write(share)


def test_an_engine_is_limited_by_nobody(app: Aero, publisher: Publisher) -> None:
    olga, bob = acting(app, "olga"), acting(app, "bob")
    its = own(app, publisher, "olga", "x", public=True)
    private = bob.register_flow(
        "local",
        bob.register_function(copied),
        {"cases": {"id": its.data}},
        {"copy": {}},
        policy="ANY",
    )
    olga.share("data", its.data)
    publisher.publish("at-x.csv", "other")
    # What olga notifies triggers, at its commit, what bob has and she does not see.
    olga.notify(file_id=its.data)
    app.run_until_idle()
    runs = list(bob.list_runs(private["id"]))
    assert [run["status"] for run in runs] == [RunStatus.SUCCEEDED] * 2
    assert bob.get_run(runs[0]["id"])["inputs"] == [{"name": "cases", "hidden": True}]


# -- what a request costs, and keys ---------------------------------------------------


def counted(app: Aero, ask: Callable[[], Any]) -> int:
    """Return how many queries something asks."""
    seen: list[str] = []

    def note(*args: Any) -> None:
        seen.append(args[2])

    event.listen(app.db.engine, "before_cursor_execute", note)
    try:
        ask()
    finally:
        event.remove(app.db.engine, "before_cursor_execute", note)
    return len(seen)


def test_who_asks_costs_one_query(app: Aero, publisher: Publisher) -> None:
    join(app, olga="editor", vera="viewer")
    its = own(app, publisher, "olga", "x", group=GROUP)
    asks: dict[str, Callable[[Aero], Any]] = {
        "data": lambda a: a.get_data(its.data),
        "name": lambda a: a.get_data("x"),
        "flow": lambda a: a.get_flow(its.flow),
        "flows": lambda a: list(a.list_metadata("flow")),
        "records": lambda a: list(a.list_metadata("prov")),
        "runs": lambda a: list(a.list_runs()),
        "run": lambda a: a.get_run(its.run),
        "record": lambda a: a.get_provenance(its.prov),
        "lineage": lambda a: a.lineage(its.data),
        "explain": lambda a: a.explain(its.flow),
        "search": lambda a: a.search_sources("x"),
        "types": lambda a: a.list_source_types(),
        "status": lambda a: a.status(),
        "idle": lambda a: a.idle(),
        "of data": lambda a: a.get_data_flows(its.data),
    }
    for name, ask in asks.items():
        plain = counted(app, lambda ask=ask: ask(app))
        viewed = counted(app, lambda ask=ask: ask(acting(app, "vera")))
        assert viewed <= plain + 1, name
    assert counted(app, lambda: acting(app, "vera").get_data(its.data)) > 0


@pytest.mark.parametrize("database_url", ["sqlite_url"], indirect=True)
def test_the_same_key_of_two_users_runs_a_flow_twice(
    app: Aero, publisher: Publisher
) -> None:
    join(app, olga="editor", ed="editor")
    its = own(app, publisher, "olga", "x", group=GROUP)
    with guarded(app) as url:
        started: dict[str, set[str]] = {}
        for user in ("olga", "ed"):
            # Two tokens, so that it is not the answer that is remembered.
            for _ in range(2):
                with client(url, app, user) as mine:
                    run = mine.run_flow(its.flow, wait=False, idempotency_key="k")
                    started.setdefault(user, set()).add(run["trigger_key"])
            app.run_until_idle()
    assert [len(keys) for keys in started.values()] == [1, 1]
    assert started["olga"] != started["ed"]
    runs = [r for r in app.list_runs(its.flow) if r["trigger_kind"] == "manual"]
    assert len(runs) == 2


@pytest.mark.parametrize("database_url", ["sqlite_url"], indirect=True)
def test_the_same_delivery_of_two_users_is_two(app: Aero, publisher: Publisher) -> None:
    join(app, olga="editor", ed="editor")
    its = own(app, publisher, "olga", "x", group=GROUP)
    runs = set()
    with guarded(app) as url:
        for user in ("olga", "ed"):
            for _ in range(2):
                with client(url, app, user) as mine:
                    runs.add(mine.notify(url=its.url, delivery_id="d")["id"])
            app.run_until_idle()
    assert len(runs) == 2


# -- groups, the log, the commands ----------------------------------------------------


@pytest.mark.parametrize("database_url", ["sqlite_url"], indirect=True)
def test_members_come_and_go(app: Aero) -> None:
    join(app, vera="viewer", ed="editor")
    app.add_member("other", "vera", "admin")
    app.add_member(GROUP, "vera", "editor")
    assert app.list_members(GROUP) == [
        {"group": GROUP, "member": "ed", "role": "editor"},
        {"group": GROUP, "member": "vera", "role": "editor"},
    ]
    assert len(app.list_members()) == 3
    assert app.remove_member(GROUP, "ed")["role"] == "editor"
    with pytest.raises(NotFoundError, match="'ed' is no member"):
        app.remove_member(GROUP, "ed")
    with pytest.raises(InvalidValueError, match="no role 'boss'"):
        app.add_member(GROUP, "ed", "boss")
    for group, member in ((" ", "ed"), (GROUP, ""), (GROUP, 1)):
        with pytest.raises(InvalidValueError):
            app.add_member(group, member)
    log = [(e["who"], e["what"], e["about"].get("member")) for e in app.audit()]
    assert sorted(log) == [
        (app.owner, "group add", "ed"),
        *[(app.owner, "group add", "vera")] * 3,
        (app.owner, "group remove", "ed"),
    ]


@pytest.mark.parametrize("database_url", ["sqlite_url"], indirect=True)
def test_tokens_and_sharing_are_in_the_log(app: Aero, publisher: Publisher) -> None:
    made = app.create_token("laptop", owner="ada", scopes=["write", "read"])
    app.revoke_token(made["id"])
    its = own(app, publisher, "olga", "x")
    app.share("flow", its.flow, group=GROUP)
    assert {e["what"]: e["about"] for e in app.audit()} == {
        "token create": {
            "name": "laptop",
            "owner": "ada",
            "scopes": ["read", "write"],
            "ids": [made["id"]],
        },
        "token revoke": {"ids": [made["id"]]},
        "share flow": {"visibility": "group", "group": GROUP, "ids": [its.flow]},
    }
    assert made["token"] not in json.dumps(list(app.audit()))


def test_the_log_is_for_administrators_and_paged(app: Aero) -> None:
    for number in range(40):
        app.add_member(GROUP, f"m{number:02}")
    with guarded(app) as url:
        with client(url, app, "eve", "admin") as chief:
            found = list(chief.audit())
        with client(url, app, "eve", "read") as mere, pytest.raises(ForbiddenError):
            list(mere.audit())
    added = [e for e in found if e["what"] == "group add"]
    assert {e["about"]["member"] for e in added} == {f"m{n:02}" for n in range(40)}
    assert [len(found), len(added)] == [41, 40]
    assert {e["who"] for e in found} == {app.owner}


def invoke(*args: str, code: int = 0) -> Any:
    result = CliRunner().invoke(aero, args, prog_name="aero")
    assert result.exit_code == code, result.output
    return result


def test_the_commands(isolation: Path, publisher: Publisher) -> None:
    assert invoke("group", "add", "lab", "ada", "--role", "admin").stdout == (
        "ada is now admin in lab.\n"
    )
    added = json.loads(invoke("group", "add", "lab", "bob", "--json").stdout)
    assert added == {"group": "lab", "member": "bob", "role": "viewer"}
    assert len(json.loads(invoke("group", "list", "lab", "--json").stdout)) == 2
    assert "ada" in invoke("group", "list").stdout
    assert invoke("group", "remove", "lab", "bob").stdout == "bob was viewer in lab.\n"
    assert "no members" in invoke("group", "list", "other").stderr
    url = publisher.publish("x.csv", "x")
    invoke("create", "-n", "x", "-u", url, "--group", "lab")
    listed = json.loads(invoke("list", "--json").stdout)
    assert [(d["name"], d["group"]) for d in listed] == [("x", "lab")]
    assert "is seen by everybody" in invoke("share", "x", "--public").stdout
    assert "the group lab" in invoke("share", "x", "--group", "lab").stdout
    private = json.loads(
        invoke("share", "x", "-t", "flow", "--private", "--json").stdout
    )
    assert private["visibility"] == "private"
    for wrong in ([], ["--public", "--private"]):
        invoke("share", "x", *wrong, code=2)
    log = json.loads(invoke("audit", "--json").stdout)
    assert [e["what"] for e in log] == [
        *("share flow", "share data", "share data"),
        *("group remove", "group add", "group add"),
    ]
    assert "member=ada" in invoke("audit").stdout
    script = isolation.parent / "f.py"
    script.write_text(
        "from aero import AeroOutput\n\n\ndef f(x):\n    return AeroOutput('y', x)\n"
    )
    flow = json.loads(
        invoke(
            *("register", "--function", f"{script}:f", "-i", "x=x", "-o", "y"),
            *("--public", "--json"),
        ).stdout
    )
    with make_app(isolation) as app:
        assert app.get_function(flow["function_id"])["visibility"] == "public"
    assert flow["contributed_to"][0]["visibility"] == "public"


def test_hidden_things_in_tables(
    sqlite_app: Aero, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    join(sqlite_app, olga="editor", vera="viewer")
    its = own(sqlite_app, publisher, "olga", "x")
    flow = acting(sqlite_app, "olga").register_flow(
        "local",
        its.function,
        {"cases": {"id": its.data}},
        {"copy": {}},
        public=True,
        policy="ANY",
    )
    sqlite_app.run_until_idle()
    made = flow["contributed_to"][0]["id"]
    acting(sqlite_app, "olga").share("flow", its.flow, public=True)
    run = next(sqlite_app.list_runs(flow["id"]))["id"]
    secret = sqlite_app.create_token("t", owner="vera")["token"]
    with guarded(sqlite_app) as url:
        monkeypatch.setenv("AERO_SERVER_URL", url)
        monkeypatch.setenv("AERO_TOKEN", secret)
        for command in (
            *("list -t flow", "list -t prov", f"lineage {made}"),
            *(f"lineage {made} --dot", f"provenance {run}", f"explain {flow['id']}"),
        ):
            assert "(hidden)" in invoke(*command.split()).stdout, command


# -- the edges of it ------------------------------------------------------------------


def test_only_what_belongs_to_somebody_is_for_viewers(sqlite_app: Aero) -> None:
    viewer = Viewer(Identity(id="a", name="a", scopes=frozenset({Scope.READ})))
    with sqlite_app.db.seen_by(viewer).read() as tx:
        assert len(visible(tx, Run)) == 1
        with pytest.raises(TypeError, match="Token"):
            visible(tx, Token)
    with sqlite_app.db.read() as tx:
        assert visible(tx, Token) == ()


@pytest.mark.parametrize("database_url", ["sqlite_url"], indirect=True)
def test_both_public_and_of_a_group_is_neither(app: Aero, publisher: Publisher) -> None:
    its = own(app, publisher, "olga", "x")
    for wrong in ({"public": "yes"}, {"public": True, "group": GROUP}, {"group": 3}):
        with pytest.raises((InvalidTypeError, InvalidValueError)):
            app.share("data", its.data, **wrong)
        with pytest.raises((InvalidTypeError, InvalidValueError)):
            app.register_flow("local", its.function, **wrong)
    with pytest.raises(IntegrityError):
        app.db.write(
            lambda tx: tx.execute(text("UPDATE data SET visibility = 'group'"))
        )
    with pytest.raises(IntegrityError):
        app.db.write(lambda tx: tx.execute(text("UPDATE flow SET group_id = 'g'")))


def test_what_there_was_is_private(app: Aero, publisher: Publisher) -> None:
    its = own(app, publisher, "olga", "x", public=True)
    schema.downgrade(app.db, "0004")
    schema.upgrade(app.db)
    for get, ref in ((app.get_data, its.data), (app.get_function, its.function)):
        assert get(ref)["visibility"] == "private"
    assert acting(app, "olga").get_run(its.run)["id"] == its.run
    with pytest.raises(NotFoundError):
        acting(app, "bob").get_data(its.data)


def test_a_client_says_what_it_cannot_send() -> None:
    with AeroClient("http://127.0.0.1:1") as client_, pytest.raises(InvalidValueError):
        client_.share("run", "x", public=True)
