"""A library leaves a stack for signals that is gone: the one from before is back."""

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from slowfast_dist.inference.backends.signal_stack import (
    DISABLED,
    SignalStack,
    kept_signal_stack,
    signal_stack,
)
from tests.helpers.training_runs import ROOT

if sys.platform != "linux":
    pytest.skip("elsewhere nothing is done", allow_module_level=True)

SIZE = 1 << 16


def exchange(start: int | None, flags: int, size: int) -> None:
    new = SignalStack(start, flags, size)
    assert ctypes.CDLL(None).sigaltstack(ctypes.byref(new), None) == 0


def values(stack: SignalStack) -> tuple[int | None, int, int]:
    return stack.start, stack.flags, stack.size


@pytest.fixture
def restored() -> Iterator[None]:
    """faulthandler's, which pytest turns on."""
    before = values(signal_stack())
    yield
    exchange(*before)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("had_one", [True, False])
def test_what_a_library_leaves_is_exchanged_for_what_was_there(had_one: bool) -> None:
    own, theirs = mmap.mmap(-1, SIZE), mmap.mmap(-1, SIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(own))
    exchange(start if had_one else None, 0 if had_one else DISABLED, SIZE if had_one else 0)
    before = values(signal_stack())
    with kept_signal_stack():
        exchange(ctypes.addressof(ctypes.c_char.from_buffer(theirs)), 0, SIZE)
        assert values(signal_stack()) != before
    assert values(signal_stack()) == before
    assert before[1] == (0 if had_one else DISABLED)


def test_a_signal_within_is_taken_by_another_thread_and_handled_at_once() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(threading.get_ident()))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        with kept_signal_stack():
            assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, [])
            os.kill(os.getpid(), signal.SIGUSR1)
            for _ in range(1000):
                if seen:
                    break
                threading.Event().wait(0.01)
            assert seen == [threading.main_thread().ident]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not [one for one in threading.enumerate() if one.name == "signals"]


def test_an_interrupt_ends_the_block() -> None:
    program = (
        "import os, signal, time\n"
        "from slowfast_dist.inference.backends.signal_stack import kept_signal_stack\n"
        "try:\n"
        "    with kept_signal_stack():\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(5)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', len(signal.pthread_sigmask(signal.SIG_BLOCK, [])))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "interrupted 0\n", done.stderr
