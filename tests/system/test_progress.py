"""Progress on a real terminal (a pty), on one without columns, in a file, and silent."""

import fcntl
import io
import os
import pty
import re
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from slowfast_dist.system.progress import Progress, is_terminal
from slowfast_dist.tracking.console import epoch_table, print_scores


@contextmanager
def terminal(rows: int, columns: int) -> Iterator[tuple[TextIO, list[str]]]:
    """A terminal to write to, and a list that holds what was written once the block is left."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    written: list[str] = []
    with os.fdopen(theirs, "w", closefd=False) as stream:
        yield stream, written
    os.set_blocking(ours, False)
    data = b""
    try:
        while part := os.read(ours, 65536):
            data += part
    except BlockingIOError:
        pass
    written.append(data.decode())
    os.close(theirs)
    os.close(ours)


class Loss:
    """A loss that counts how often it is taken, which on a GPU costs a wait each time."""

    taken = 0

    def __call__(self) -> float:
        self.taken += 1
        return 0.5


def train(progress: Progress, steps: int, seconds: float = 0.0) -> None:
    for _ in range(steps):
        with progress.waiting():
            time.sleep(seconds)
        progress.update(clips=4)


def test_plain_lines_in_a_file() -> None:
    out = io.StringIO()
    with Progress(
        "epoch 3/30",
        120,
        start=36,
        loss=lambda: 1.2341,
        memory=lambda: 2.1e9,
        line_seconds=0,
        stream=out,
    ) as progress:
        train(progress, 4, 0.01)
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert re.fullmatch(
        r"epoch 3/30 step 40/120 loss 1\.234 \d+\.\d clips/s data-wait \d+% memory 2\.1 GB "
        r"ETA \d\d:\d\d:\d\d",
        lines[-1],
    ), lines[-1]
    hours, minutes, seconds = map(int, lines[-1].split()[-1].split(":"))
    # 80 steps are left, and the 4 that were done took .01 s each or longer.
    assert 1 <= 3600 * hours + 60 * minutes + seconds <= progress.seconds / 4 * 80 + 1


def test_the_loss_is_not_taken_between_lines() -> None:
    loss = Loss()
    out = io.StringIO()
    with Progress("epoch 1/1", 50, loss=loss, line_seconds=0.05, stream=out) as progress:
        train(progress, 50, 0.004)
    lines = out.getvalue().splitlines()
    assert 2 <= len(lines) <= progress.seconds / 0.05
    assert loss.taken == len(lines)


def test_a_bar_on_a_terminal() -> None:
    loss = Loss()
    with terminal(24, 120) as (stream, written):
        assert is_terminal(stream)
        with Progress("epoch 1/2", 30, loss=loss, stream=stream, line_seconds=0) as progress:
            train(progress, 30, 0.05)
    assert "epoch 1/2" in written[0] and "loss 0.500" in written[0] and "/30" in written[0]
    assert "\n" not in written[0]
    assert 1 <= loss.taken <= progress.seconds


@pytest.mark.parametrize("size", [(24, 0), (0, 80), (0, 0)])
def test_a_terminal_on_which_tqdm_draws_nothing_gets_plain_lines(size: tuple[int, int]) -> None:
    with terminal(*size) as (stream, written):
        assert not is_terminal(stream)
        with Progress("epoch 1/2", 3, line_seconds=0, stream=stream) as progress:
            train(progress, 3)
    assert [line.split(" step ")[1].split()[0] for line in written[0].split("\r\n") if line] == [
        "1/3",
        "2/3",
        "3/3",
    ]


def test_silent_measures_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Progress("epoch 1/2", 10, silent=True, line_seconds=0) as progress:
        train(progress, 5, 0.02)
        time.sleep(0.1)
    seconds = progress.seconds
    time.sleep(0.05)  # after the pass: not part of it
    assert capfd.readouterr() == ("", "")
    assert progress.seconds == seconds >= 0.2
    # Of .2 s half was waited for; how long this machine took beside is in no test's hand.
    assert 0.1 <= progress.data_wait_fraction * seconds <= seconds - 0.1
    assert progress.clips_per_second == pytest.approx(20 / progress.seconds)
    assert progress.seconds_left == pytest.approx(progress.seconds)


def test_an_evaluation_keeps_its_columns_and_steers_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever the classes are called, and however far the model diverged."""
    worst = {
        "loss": 2e25, "label": "a\u202eb", "prediction": "c", "confidence": 1.0,
        "path": "d\udcff.mp4",
    }  # fmt: skip
    scores = {"loss": 1e25, "accuracy": 0.1}
    print_scores("val", scores | {"intervals": {}, "ece": 0.9, "hardest": [worst]})
    head, values, _, _, mistake = capsys.readouterr().out.splitlines()
    assert len(values) == len(head) and values.split() == ["val", "1.000e+25", "0.1000"]
    assert mistake == " 2.000e+25  a\\u202eb  c (1.00)  d\\udcff.mp4"


def test_epoch_table() -> None:
    scores = {"accuracy": 0.75, "precision_macro": 0.5, "recall_macro": 0.25, "f1_macro": 0.125}
    row: dict[str, float | None] = {"epoch": 1, "grad_norm": 1.5, "lr": 1e-4}
    row |= {"train/loss": None, "val/loss": 0.5, "best": True, "epoch_seconds": 365.0}
    row |= {f"{side}/{name}": value for side in ("train", "val") for name, value in scores.items()}
    assert epoch_table(row, epochs=3, classes=6).splitlines() == [
        "epoch 1/3            loss   accuracy  precision     recall         f1",
        "  train                 -     0.7500     0.5000     0.2500     0.1250",
        "  validation       0.5000     0.7500     0.5000     0.2500     0.1250  best so far",
        "  gradient norm 1.5 | learning rate 0.0001 | seconds 365.0 | training left 00:12:10",
    ]
    without = {name: value for name, value in row.items() if not name.startswith("val/")}
    out = epoch_table(without | {"train/top5_accuracy": 1.0, "epoch": 3}, epochs=3, classes=6)
    assert "validation" not in out and "best" not in out and "left" not in out
    assert "top-5" in out
    table = epoch_table(row | {"train/macro_classes": 6, "val/macro_classes": 2}, 3, classes=6)
    _, train, validation, _ = table.splitlines()
    assert validation.endswith("     0.1250  over 2 of 6 classes  best so far")
    assert train.endswith("     0.1250")
