"""A stranger's run, misshapen, as `report`, `model-card`, `evaluate` and `prepare` read it, and the
probe's cache by one that knows its format. fuzz_text.py runs the cases."""

import hashlib
import json
import tempfile
from contextlib import redirect_stderr
from dataclasses import asdict
from functools import cache
from io import StringIO
from pathlib import Path
from random import Random

import numpy as np

from slowfast_dist.commands.prepare.folder import RECORD, Prepared, open_folder
from slowfast_dist.data.listing.columns import InfoColumns, Texts
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.probe_cache import (
    DIGEST_SIZE,
    MAGIC,
    Segment,
    read_segment,
    write_segment,
)
from slowfast_dist.report.card import render_card
from slowfast_dist.report.command import write_report
from slowfast_dist.runs.best_model import DESCRIPTION, read_best, read_description
from slowfast_dist.runs.videos import own_validation, trained_on
from slowfast_dist.video.reader import VideoInfo
from tests.campaigns.fuzz_given import odd_bytes
from tests.campaigns.fuzz_left import damaged
from tests.helpers.made_runs import made_run
from tests.helpers.model_folders import description, small_config

NAMES = ("../x.mp4", "/etc/passwd", "a/../../x", "\0", "a" * 5000, "http:x", "a\nb", "<b>|`x`")
"""Paths and names that a run should not make anybody open, or show as they are."""


@cache
def _run_files() -> dict[str, bytes]:
    """A run of three classes, with what `read_best` needs."""
    with tempfile.TemporaryDirectory() as folder:
        run = made_run(Path(folder) / "run", ["a", "b", "c"], epochs=3, videos=4)
        write_report(run)
        facts = description(("a", "b", "c"), small_config(run))
        (run / "models").mkdir(exist_ok=True)
        (run / "models" / DESCRIPTION).write_text(json.dumps(facts))
        return {
            str(path.relative_to(run)): path.read_bytes()
            for path in sorted(run.rglob("*"))
            if path.is_file()
        }


def _odd_run(folder: Path, draw: Random, names: list[str]) -> Path:
    files = dict(_run_files())
    name = draw.choice(names)
    if name.endswith(".json") and draw.random() < 0.8:
        files[name] = damaged(files[name], draw)
    elif draw.random() < 0.4:
        text = files[name].decode("utf-8", "surrogateescape")
        text = text.replace(draw.choice(text.split(",")), draw.choice(NAMES))
        files[name] = text.encode("utf-8", "surrogateescape")
    else:
        files[name] = odd_bytes(draw, files[name], draw.choice(list(files.values())))
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    return folder


def page(folder: Path, draw: Random) -> None:
    """What `report` reads, and `evaluate` without --data."""
    run = _odd_run(folder, draw, [name for name in _run_files() if name != "report.html"])
    write_report(run)
    with redirect_stderr(StringIO()):
        own_validation(run / "models", ("a", "b", "c"))


def model_card(folder: Path, draw: Random) -> None:
    """What `model-card` reads."""
    run = _odd_run(folder, draw, [f"models/{DESCRIPTION}"])
    if draw.random() < 0.5:
        trained_on(run / "models", _NO_VIDEOS)
        read_best(run)
    text = render_card(read_description(run / "models"), [])
    assert "<b>" not in text and "<script" not in text.replace("\\<", "")


_NO_VIDEOS = VideoTable(Path(), Texts.of([]), np.zeros(0, np.int32))


def prepared(folder: Path, draw: Random) -> None:
    """The record of a folder of prepared videos."""
    line = Prepared("a/1.mp4", "a/1.avi", 9, 1, "0" * 64, 4, 32, 12, 2, 5)
    content = json.dumps(asdict(line)).encode()
    record = damaged(content, draw) if draw.random() < 0.7 else odd_bytes(draw, content, b"{}")
    (folder / "prepared").mkdir()
    (folder / "prepared" / RECORD).write_bytes(content + b"\n" + record + b"\n")
    with open_folder(folder / "prepared") as found:
        for entry in list(found.entries.values()):
            found.holds(entry)
            found.without_source([], folder)
            found.remove(entry.path)


@cache
def _segment() -> bytes:
    infos = InfoColumns.of([VideoInfo(30, 25.0, 64, 48, 0, "h264", True)] * 3)
    names, stamps = Texts.of(["a/1.mp4", "a/2.mp4", "b/1.mp4"]), np.ones((3, 2), np.int64)
    with tempfile.TemporaryDirectory() as folder:
        write_segment(Path(folder) / "x", Segment(names, stamps, infos.take(np.arange(3))))
        return (Path(folder) / "x").read_bytes()


def cache_segment(folder: Path, draw: Random) -> None:
    """A segment of the probe's cache by one that knows how its digest is made: it is dropped, or
    what it says is used like what any other says."""
    body = odd_bytes(draw, _segment()[len(MAGIC) + DIGEST_SIZE :], _segment())
    digest = hashlib.blake2b(body, digest_size=DIGEST_SIZE).digest()
    (folder / "x").write_bytes(MAGIC + digest + body)
    with redirect_stderr(StringIO()):
        segment = read_segment(folder / "x")
    if segment is not None:
        rows = np.arange(len(segment))
        assert len(Segment.concatenated([segment, segment.take(rows)])) == 2 * len(segment)
        assert [segment.infos[int(row)].frames for row in rows] and [*segment.names]


def make_files() -> None:
    """Make what the cases damage, once and before memory is limited."""
    _run_files(), _segment()
