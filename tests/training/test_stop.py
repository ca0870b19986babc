"""Signals that ask a loop to stop, in the main thread and in others."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from svp_jax.training.saving.stop import stop_on_signals


@pytest.fixture(autouse=True)
def interrupts():
    """Ctrl-C as Python handles it: a test run in the background of a script ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_flag_and_its_handler_comes_back(number):
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop.requested and stop.signal is None
        signal.raise_signal(number)
        assert stop.requested and stop.signal == number
    assert signal.getsignal(number) is before
    with stop_on_signals() as stop:
        assert not stop.requested


def test_a_second_interrupt_ends_the_block_at_once():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_on_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_batch_systems_may_send_sigterm_again():
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM


def test_blocks_within_and_in_other_threads_share_the_outer_flag():
    def entered_in_a_thread():
        with stop_on_signals() as stop:
            return stop

    with stop_on_signals() as outer, ThreadPoolExecutor(1) as thread:
        with stop_on_signals() as inner:
            pass
        # The inner one has not taken the handlers away.
        signal.raise_signal(signal.SIGTERM)
        assert inner.signal == outer.signal == signal.SIGTERM
        assert thread.submit(entered_in_a_thread).result().signal == signal.SIGTERM


def test_a_thread_alone_is_never_asked_to_stop():
    def entered_in_a_thread():
        with stop_on_signals() as stop:
            return stop.requested, signal.getsignal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(entered_in_a_thread).result() == (False, before)
    # And has not hindered the main thread.
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested


def test_an_ignored_interrupt_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGINT, before)
