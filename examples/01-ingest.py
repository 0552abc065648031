"""Download a file from a server, keep its versions, transfer only what changed."""

import os
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from aero import Aero
from aero.config import ClientConf


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


def publish(folder, text, day):
    file = folder / "cases.csv"
    file.write_text(text)
    # The server tells times in whole seconds; these two are days apart.
    os.utime(file, (day * 86400, day * 86400))


with tempfile.TemporaryDirectory() as name:
    published = Path(name, "www")
    published.mkdir()
    publish(published, "day,cases\n1,4\n", day=1)
    handler = partial(Quiet, directory=str(published))
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        Aero(ClientConf(home=Path(name, "home"))) as app,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/cases.csv"
        flow = app.register_flow(
            "local",
            None,  # no function: the file is stored as it came
            output_data={"cases": {"url": url}},
            policy="INGESTION",
            timer_delay=3600,
        )
        app.run_until_idle()  # an ingestion runs when it is registered
        again = app.run_flow(flow["id"])
        print("polled again:", again["status"])
        publish(published, "day,cases\n1,4\n2,6\n", day=2)
        changed = app.run_flow(flow["id"])
        print("polled after a change:", changed["status"])

        versions = list(app.list_versions("cases"))
        for version in versions:
            print("version", version["version"], "sha256", version["checksum"][:12])
        copy = Path(name, "copy.csv")
        app.fetch_version("cases", copy)
        server.shutdown()

    assert again["status"] == "UNCHANGED"
    assert changed["status"] == "SUCCEEDED"
    assert [version["version"] for version in versions] == [2, 1]
    assert copy.read_text() == "day,cases\n1,4\n2,6\n"
