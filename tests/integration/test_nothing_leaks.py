"""What is private is in no answer to a stranger: no id, no name, no URL of it."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import urllib3
from sqlalchemy import select

from aero import AeroOutput
from aero.app import Aero
from aero.client import AeroClient
from aero.db.models import Data, Flow, Function, Provenance, Run
from aero.error import ClientError
from aero.provenance.tree import tree_lines
from aero.server.access import NEEDS
from aero.types import Json
from tests.conftest import Publisher
from tests.guests import acting, copied, guarded, own, token

WORD = "hush"
"""Is in every name and URL of what is private, and in nothing else."""


def hush_function(cases):
    from pathlib import Path

    Path("made.txt").write_text(Path(cases).read_text() * 2)
    return AeroOutput("made", "made.txt")


def joined(first, second):
    from pathlib import Path

    Path("joined.txt").write_text(Path(first).read_text() + Path(second).read_text())
    return AeroOutput("joined", "joined.txt")


class World:
    """What olga has: private things, public ones, and such as lie between the two."""

    def __init__(self, app: Aero, publisher: Publisher) -> None:
        self.app = app
        mine = acting(app, "olga")
        self.public = own(app, publisher, "olga", "open", public=True)
        self.private = own(app, publisher, "olga", f"{WORD}-source", hush_function)
        function = mine.register_function(hush_function)
        seen = mine.register_function(joined, public=True)
        # Of public data, private: what strangers see grows into what they do not.
        self.below = mine.register_flow(
            "local",
            function,
            {"cases": {"id": self.public.data}},
            {"made": {}},
            policy="ANY",
            description=f"{WORD} of public data",
        )
        [made] = self.below["contributed_to"]
        # Public, of private data by a private function; and again of that.
        self.between = mine.register_flow(
            "local",
            function,
            {"cases": {"id": self.private.data}},
            {"made": {}},
            policy="ANY",
            public=True,
            description="between",
        )
        self.above = mine.register_flow(
            "local",
            seen,
            {
                "first": {"id": self.between["contributed_to"][0]["id"]},
                "second": {"id": made["id"]},
            },
            {"joined": {}},
            policy="ANY",
            public=True,
            description="above",
        )
        # A public data that a private flow makes, and a private one of a public flow.
        lonely = own(app, publisher, "olga", "lonely", hush_function)
        mine.share("data", lonely.data, public=True)
        self.lonely = lonely.data
        self.bare = mine.register_flow(
            "local",
            seen,
            {"first": {"id": self.public.data}, "second": {"id": self.public.data}},
            {"joined": {}},
            policy="ANY",
            public=True,
            description="bare",
        )
        mine.share("data", self.bare["contributed_to"][0]["id"])
        app.run_until_idle()

    def secrets(self) -> set[str]:
        """Return the ids of everything that is not a stranger's to see."""
        with self.app.db.read() as tx:
            found = set()
            for model in (Data, Flow, Function):
                own = select(model.id).where(model.visibility == "private")
                found |= set(tx.execute(own).scalars())
            for model in (Run, Provenance):
                own = select(model.id).join(Flow, Flow.id == model.flow_id)
                own = own.where(Flow.visibility == "private")
                found |= set(tx.execute(own).scalars())
        return found


@pytest.fixture
def world(app: Aero, publisher: Publisher) -> World:
    return World(app, publisher)


class Crawler:
    """Asks every route that shows something about everything its answers name."""

    def __init__(self, url: str, secret: str) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {secret}"}
        self.answers: dict[str, str] = {}
        self._pool = urllib3.PoolManager()

    def get(self, path: str) -> Any:
        answer = self._pool.request(
            "GET", self.url + path, headers=self.headers, retries=False
        )
        text = answer.data.decode()
        assert answer.status in {200, 403, 404, 422}, (path, text)
        self.answers[path] = f"{answer.status} {dict(answer.headers)} {text}"
        is_json = answer.status == 200 and text.startswith(("[", "{"))
        return answer.json() if is_json else []

    def crawl(self) -> None:
        """Ask the lists, then each route for each id of its kind."""
        lists = {kind: self.get(f"/{kind}?limit=1000") for kind in KINDS}
        ids = {kind: [each["id"] for each in lists[kind]] for kind in KINDS}
        ids["function"] = [flow["function_id"] for flow in lists["flow"]]
        names = [each["name"] for each in self.get("/data/types")]
        for action in NEEDS:
            method, path = action.split(" ")
            if method != "GET" or path in {"/openapi.json", "/docs"}:
                continue
            for where in self._paths(path, ids, names):
                self.get(where)
        for word in (WORD, "open", "http", "about", "at-"):
            self.get(f"/data/search?query={word}")
        for direction in ("up", "down"):
            for each in ids["data"]:
                self.get(f"/data/{each}/lineage?direction={direction}")
        self._pool.clear()

    @staticmethod
    def _paths(path: str, ids: dict[str, list[str]], names: list[str]) -> Iterator[str]:
        kind = path.split("/")[1]
        if "{ref}" in path:
            for each in filter(None, ids.get(kind, [])):
                yield path.replace("{ref}", each).replace("{number}", "1")
        elif "{name}" in path:
            for name in names:
                yield path.replace("{name}", name)
        else:
            yield path

    def found(self, secrets: set[str]) -> dict[str, list[str]]:
        """Return which answers hold which secrets."""
        return {
            path: held
            for path, text in self.answers.items()
            # What was asked for is said again.
            if (held := [s for s in secrets if s in text and s not in path])
        }


KINDS = ("data", "flow", "run", "prov")


def test_no_answer_to_a_stranger_holds_what_is_private(app: Aero, world: World) -> None:
    secrets = world.secrets() | {WORD}
    assert len(secrets) > 10
    with guarded(app) as url:
        stranger = Crawler(url, token(app, "bob"))
        stranger.crawl()
        owner = Crawler(url, token(app, "olga"))
        owner.crawl()
    print(f"{len(stranger.answers)} answers to the stranger")
    assert len(stranger.answers) > 60
    assert stranger.found(secrets) == {}
    # The search finds what it looks for where it may be.
    assert len({s for held in owner.found(secrets).values() for s in held}) == len(
        secrets
    )


def test_what_lies_beneath_is_hidden_but_there(app: Aero, world: World) -> None:
    bob, olga = acting(app, "bob"), acting(app, "olga")
    above = world.above["contributed_to"][0]["id"]
    his, hers = bob.lineage(above), olga.lineage(above)
    assert his.nodes.keys() == hers.nodes.keys()
    assert his.edges == hers.edges
    hidden = [key for key, node in his.nodes.items() if "hidden" in node]
    names = sorted(hers.nodes[key]["name"] for key in hidden)
    assert names == [f"{WORD}-source", "made"]
    assert all(his.nodes[key] == {"id": key, "hidden": True} for key in hidden)
    assert sum("(hidden)" in line for line in tree_lines(his)) == 3
    # A function that is not to be seen is said to be there.
    functions = {n["function"]["name"] for n in his.nodes.values() if n.get("function")}
    assert functions == {"joined", "(hidden)"}
    between = bob.get_flow(world.between["id"], inputs_only=False)
    assert (between["function_id"], between["function_name"]) == (None, "(hidden)")
    assert between["derived_from"] == [{"hidden": True}]
    payload = between["function_args"]["kwargs"]["aero"]
    assert payload["input_data"] == {"cases": {"hidden": True}}
    run = next(bob.list_runs(world.between["id"]))
    assert bob.get_run(run["id"])["inputs"] == [{"name": "cases", "hidden": True}]
    record = bob.get_provenance(run["id"])
    [used] = olga.get_provenance(run["id"])["derived_from"]
    assert record["derived_from"] == [{"id": used["id"], "hidden": True}]
    assert record["function"]["code"] == "hidden"
    assert record["function"]["source"] is None
    [entry] = bob.explain(world.between["id"])["inputs"]
    assert (entry["data_id"], entry["data_name"]) == (None, None)
    bare = bob.get_provenance(next(bob.list_runs(world.bare["id"]))["id"])
    assert [v["hidden"] for v in bare["contributed_to"]] == [True]
    lonely = bob.lineage(world.lonely)
    assert lonely.nodes[lonely.root]["run_id"] is None
    assert lonely.nodes[lonely.root]["sources"] == []
    assert olga.lineage(world.lonely).nodes[lonely.root]["sources"] != []
    assert app.get_flow(world.between["id"], inputs_only=False)["function_id"]


def called(app: Aero, method: str, ref: str) -> Any:
    return list(getattr(app, method)(ref))


def told(ask: Any) -> tuple[type, int, str, Json]:
    with pytest.raises(ClientError) as caught:
        ask()
    return type(caught.value), caught.value.code, str(caught.value), caught.value.facts


@pytest.mark.parametrize("database_url", ["sqlite_url"], indirect=True)
def test_what_is_unseen_is_as_what_is_unknown(app: Aero, world: World) -> None:
    its, bob = world.private, acting(app, "bob")
    unknown = "01234567-89ab-4def-8123-456789abcdef"
    methods = {
        "data": "get_data list_versions get_version lineage get_data_flows "
        "delete_data_flows",
        "flow": "get_flow explain pause_flow resume_flow delete_flow flow_id run_flow",
        "function": "get_function",
        "run": "get_run cancel_run retry_run get_provenance",
        "prov": "get_provenance",
        "name": "get_data pause_flow",
        "url": "search_sources",
    }
    compared = 0
    for kind, names in methods.items():
        ref = getattr(its, kind)
        for name in names.split():
            if name == "search_sources":
                assert bob.search_sources(ref) == []
                continue
            refs = {ref, ref if kind == "name" else ref[:9], unknown}
            said = {asked: told(partial(called, bob, name, asked)) for asked in refs}
            plain = {json.dumps(s[1:]).replace(r, "REF") for r, s in said.items()}
            assert len(plain) == 1, plain
            compared += 1
    for make in (
        lambda ref: bob.share("flow", ref),
        lambda ref: bob.set_flow(ref, priority=1),
        lambda ref: bob.notify(file_id=ref),
        lambda ref: bob.notify(url=f"http://h/{ref}"),
        lambda ref: bob.register_flow(
            "local", bob.register_function(copied), {"cases": {"id": ref}}, {"copy": {}}
        ),
        lambda ref: bob.register_flow("local", ref, {}, {}),
        lambda ref: bob.get_source_type(ref),
        lambda ref: bob.add_type_url(ref, "http://h/x"),
    ):
        for ref in (its.data, its.flow, its.function, f"type-{its.name}"):
            one, other = told(partial(make, ref)), told(partial(make, unknown))
            assert one[:2] == other[:2]
            assert one[2].replace(ref, "REF") == other[2].replace(unknown, "REF")
            compared += 1
    assert compared > 40


@pytest.mark.parametrize("database_url", ["sqlite_url"], indirect=True)
def test_conflicts_name_nobody_elses(
    app: Aero, world: World, publisher: Publisher
) -> None:
    its, bob = world.private, acting(app, "bob")
    output = {f"{WORD}_source": {"url": its.url}}
    acting(app, "olga").register_flow("local", None, {}, output)
    conflicts = [
        lambda: bob.register_flow("local", None, {}, output),
        lambda: bob.register_flow("local", None, {}, output, exist_ok=True),
        lambda: bob.create_source("x", its.url, type_name="mine"),
        lambda: bob.create_source("x", "http://h/x", type_name=f"type-{its.name}"),
        lambda: bob.add_type_url("bobs", its.url),
    ]
    bob.create_source("y", publisher.publish("y.csv", "y"), type_name="bobs")
    secrets = world.secrets()
    for ask in conflicts:
        _, code, sentence, facts = told(ask)
        assert code == 409
        assert "belongs to somebody else" in sentence
        assert not [s for s in secrets if s in sentence + json.dumps(facts)]
        assert "flow_id" not in facts
        assert "type_name" not in facts
    # Names are the viewer's own: what is unseen makes none ambiguous.
    mine = bob.create_source(its.name, publisher.publish("z.csv", "z"))
    assert bob.get_data(its.name)["id"] == mine["id"]
    assert bob.get_flow(its.name, inputs_only=False)["id"] == mine["flow_id"]


@pytest.mark.parametrize("database_url", ["sqlite_url"], indirect=True)
def test_counts_are_of_what_is_seen(
    app: Aero, world: World, publisher: Publisher
) -> None:
    with guarded(app) as url:
        metrics, counted = {}, {}
        for user in ("bob", "olga"):
            with AeroClient(url, token=token(app, user)) as client:
                counted[user] = client.status()["runs"]
                assert counted[user]["SUCCEEDED"] == len(
                    list(client.list_runs(status="SUCCEEDED"))
                )
            crawler = Crawler(url, token(app, user))
            crawler.get("/metrics")
            metrics[user] = crawler.answers["/metrics"]
    assert counted["bob"]["SUCCEEDED"] < counted["olga"]["SUCCEEDED"]
    assert world.private.flow in metrics["olga"]
    assert world.private.flow not in metrics["bob"]
    assert 'flow="others"' in metrics["bob"]
    acting(app, "olga").create_source(
        "waiting", publisher.publish("w.csv", "w"), policy="INGESTION"
    )
    bob, olga = acting(app, "bob"), acting(app, "olga")
    assert (bob.idle(), olga.idle(), app.idle()) == (True, False, False)
    assert bob.status()["next_due"] is None
    assert olga.status()["next_due"] is not None
