"""A process hears that it shall stop."""

import os
import signal
import threading

from aero.stopping import StopRequest

LONG = 60


def test_a_stop_request_hears_signals_and_puts_handlers_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.wait(0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(LONG)
        assert (stop.is_set(), stop.number, stop.hurried) == (
            True,
            signal.SIGTERM,
            False,
        )
        os.kill(os.getpid(), signal.SIGINT)
        assert (stop.number, stop.hurried) == (signal.SIGTERM, True)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_thread_that_gets_no_signals_leaves_them_alone():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with StopRequest() as stop:
            seen.append((stop.is_set(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
