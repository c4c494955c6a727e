"""`python -m tests.campaigns.chaos`, a small one: and it finds a difference where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns import chaos
from tests.helpers.training_runs import living, rows


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_an_undisturbed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "chaos"
    options = ["--kills", "4", "--seeds", "1", "--processes", "2", "--output", str(output)]
    code = chaos.main(options)
    printed = capsys.readouterr().out
    assert code == 0, printed
    line = printed.splitlines()[1].split(" | ")
    assert line[:3] == ["0", "2", "4"] and line[-1] == "the same to the bit"

    quiet, killed = output / "seed_0" / "undisturbed", output / "seed_0" / "killed"
    assert len(rows(quiet, "epoch")) == 4 and len(rows(quiet, "step")) == 20
    samples = killed / "logs" / "samples.csv"
    lines = samples.read_text().splitlines()
    assert len(lines) == 1 + 20 * 4
    samples.write_text("\n".join([*lines[:5], lines[6], lines[5], *lines[7:], ""]))
    optimizer = max((killed / "checkpoints").iterdir()) / "optimizer.pt"
    content = bytearray(optimizer.read_bytes())
    content[len(content) // 2] ^= 1
    optimizer.write_bytes(content)
    metrics = killed / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"epoch": 3', '"epoch": 4'))
    assert chaos.differences(quiet, killed) == [
        "optimizer.pt", "logs/samples.csv", "epoch rows of metrics.jsonl",
        "step rows of metrics.jsonl",
    ]  # fmt: skip


def test_every_process_of_a_start_is_found_and_killed(tmp_path: Path) -> None:
    """Also one that left the family: a grandchild whose parent is gone."""
    start = chaos.Start(tmp_path / "run", ("--help",), 1)
    start.launcher.wait()
    code = (
        "import os, time\n"
        "if child := os.fork():\n os.waitpid(child, 0)\n"  # which is gone when this one ends
        "else:\n os.setsid()\n os.fork() and os._exit(0)\n time.sleep(600)"
    )
    environment = os.environ | {chaos.TOKEN: start.token}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    (orphan,) = start.alive()
    assert orphan.pid != start.launcher.pid
    start.kill()
    assert living([orphan], 5) == []
