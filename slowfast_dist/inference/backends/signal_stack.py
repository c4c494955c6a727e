"""The memory on which a thread takes signals, kept from libraries that exchange it."""

import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ON_STACK, DISABLED = 1, 2
"""Flags of sigaltstack(2): a signal is being taken on it now; there is none."""

FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
"""Signals of the thread's own doing, which must not wait."""


class SignalStack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (
        ("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t),
    )  # fmt: skip


_sigaltstack = ctypes.CDLL(None, use_errno=True).sigaltstack if sys.platform == "linux" else None


def signal_stack() -> SignalStack:
    """This thread's. Raises OSError. Linux alone."""
    now = SignalStack()
    _call(None, ctypes.byref(now))
    return now


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Within the block, libraries may exchange this thread's stack for signals; it comes back.

    A library that exchanges it and, once it is done, brings back the one that it found, brings back
    one that is gone where two such exchanges end in the order in which they began. The next signal
    with a handler then ends the process without a word. So another thread takes the signals of the
    block; Python runs their handlers in the main thread as ever. Elsewhere than on Linux: nothing.
    """
    if _sigaltstack is None:
        yield
        return
    before = signal_stack()
    before.flags &= ~ON_STACK
    over = threading.Event()
    taker = threading.Thread(target=over.wait, name="signals", daemon=True)
    taker.start()  # before the mask, which threads inherit
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - FAULTS)
    try:
        yield
    finally:
        try:
            _call(ctypes.byref(before), None)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            over.set()
            taker.join()


def _call(new: object, old: object) -> None:
    assert _sigaltstack is not None
    if _sigaltstack(new, old):
        number = ctypes.get_errno()
        raise OSError(number, f"sigaltstack: error {number}")
