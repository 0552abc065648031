"""The socket that is served on."""

import socket

import pytest

from aero.error import ConfigError
from aero.server import serving


def test_answers_do_not_wait_to_be_acknowledged() -> None:
    # An answer is sent in two parts. Without this the second waits for the client to
    # acknowledge the first, which that delays by 40 ms.
    with (
        serving._listen("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname(), timeout=10),
    ):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_in_use_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"{port} cannot be listened on .*--port"):
            serving._listen("127.0.0.1", port)
