"""A workspace that has seen everything there is, to be copied and damaged."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aero import AeroOutput
from aero.acting import Change
from aero.app import Aero
from aero.auth.base import EVERYTHING, Identity
from aero.testing import make_app
from tests import scenarios
from tests.conftest import Publisher
from tests.loopback import loopback


def size(cases):
    """Write how many bytes there are."""
    from pathlib import Path

    Path("size.txt").write_text(str(len(Path(cases).read_bytes())))
    return AeroOutput("size", "size.txt")


class History:
    """A workspace of everything there is, on SQLite; nobody works on it."""

    def __init__(self, home: Path, publisher: Publisher) -> None:
        self.home = home
        self.publisher = publisher
        self.url = f"sqlite:///{home / 'aero.db'}"

    def open(self, url: str) -> Aero:
        """Open the workspace on another database."""
        return make_app(self.home, database_url=url)

    def live(self, config: Path) -> None:
        """Let the workspace have a past."""
        publish = self.publisher.publish
        with self.open(self.url) as app:
            source = app.create_source(
                "cases",
                publish("cases", "one"),
                policy="INGESTION",
                function_uuid=app.register_function(scenarios.upper),
                tags=["health", "wéekly"],
                description="Ünïcode, and a line\nbreak.",
            )
            data = source["id"]
            scenarios.analysis(app, size, {"cases": data}, ("size",))
            # Nobody answers there, so what it is told waits.
            hook = {"notify": self.publisher.url("hook")}
            scenarios.analysis(app, scenarios.failing, {"cases": data}, (), **hook)
            config.write_text(json.dumps([{"factor": 1e22}, {"factor": 2}]))
            scenarios.analysis(app, scenarios.length, {"cases": data}, config=config)
            event = {"type_name": "events", "policy": "INGESTION_EVENT"}
            app.create_source("events", self.publisher.url("events/*"), **event)
            app.create_source("remote", "https://example.org/remote", no_copy=True)
            app.run_until_idle(30)
            for number in range(3):
                publish("cases", f"number {number}")
                app.run_flow(source["flow_id"])
                app.run_flow(source["flow_id"])
                app.notify(url=publish(f"events/{number}", f"event {number}"))
                app.notify(url="https://example.org/remote", etag=f"e{number}")
                app.run_until_idle(30)
            waiting = scenarios.analysis(
                app, scenarios.constant, {"cases": data}, policy="NONE"
            )
            app.pause_flow(waiting["id"], "for the move")
            app.create_token("laptop", owner="ada", expires_days=1)
            app.add_member("lab", "ada", "editor")
            ada = Identity(id="ada", name="Ada", scopes=EVERYTHING)
            change = Change(what="POST /limit/{endpoint}", about={"endpoint": "local"})
            app.acting_as(ada, change).set_limit("local", 2)
            app.run_flow(waiting["id"], wait=False)

    def copy(self, folder: Path) -> "History":
        """Return the workspace copied to another folder, for a test to change."""
        shutil.copytree(self.home, folder)
        return History(folder, self.publisher)


@contextmanager
def lived_through(folder: Path) -> Iterator[History]:
    """Give a workspace that has seen everything, while its sources are published."""
    with loopback() as server:
        history = History(folder / "home", Publisher(server))
        history.live(folder / "sweep.json")
        yield history
