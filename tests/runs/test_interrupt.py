import os
import signal
import threading

from snrl.runs.interrupt import stop_on_signals


def test_the_first_signal_is_noted_and_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals() as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop
        assert stop.signal is signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_run_without_handlers() -> None:
    seen = []

    def work() -> None:
        with stop_on_signals() as stop:
            seen.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
