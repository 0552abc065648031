"""A source in a process of its own: 1 KiB, at /changing ever new, at /fixed never.

Prints its port, serves until its standard input is closed.
"""

import http.server
import itertools
import sys
import threading

COUNT = itertools.count()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        fixed = self.path.startswith("/fixed")
        if fixed and self.headers.get("If-None-Match") == '"fixed"':
            self.send_response(304)
            self.send_header("ETag", '"fixed"')
            self.end_headers()
            return
        body = (b"%016d" % (0 if fixed else next(COUNT))) * 64
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if fixed:
            self.send_header("ETag", '"fixed"')
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
