"""Default signal handling for the tests and the processes that they start."""

from __future__ import annotations

import signal


def restore_default_signals() -> None:
    """Reset the signals that tests send, whatever the shell passed on.

    A process started by ``nohup`` or in the background of a script ignores SIGINT, and so do its
    children: they never see the SIGINT that a test sends. A handler is not inherited, so the children of
    a process that handles SIGINT start with the default.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
