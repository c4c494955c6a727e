"""What a run left on the disk, misshapen: models, weights, checkpoints, tables, the probe's cache.

A case makes it in an empty folder, drawn from its Random alone, and lets the program read it: that
must work, or raise UserError or RunError, and execute nothing. fuzz_text.py runs them.
"""

import hashlib
import json
import os
import pickle
import struct
import tempfile
from contextlib import redirect_stderr, suppress
from functools import cache
from io import BytesIO, StringIO
from pathlib import Path
from random import Random
from typing import Any

import safetensors.torch
import torch
from accelerate import Accelerator

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.model.slowfast import build_model
from slowfast_dist.model.weights import read_state_dict
from slowfast_dist.runs.best_model import DESCRIPTION, WEIGHTS, read_best
from slowfast_dist.runs.checkpoint import (
    FILES,
    Checkpoint,
    load_checkpoint,
    newest_valid,
    save_checkpoint,
)
from slowfast_dist.runs.folder import RunFolder, open_run
from slowfast_dist.runs.logs import SampleLog
from slowfast_dist.runs.metrics_file import MetricsFile
from slowfast_dist.runs.models.saving import describe_best
from slowfast_dist.training.run import build_trainer
from slowfast_dist.training.trainer import Trainer
from slowfast_dist.video.reader import VideoInfo
from tests.campaigns.fuzz_given import odd_bytes, odd_text
from tests.helpers.training_runs import TINY


def _json(draw: Random) -> object:
    """A JSON value of any shape."""
    kind = draw.randrange(12)
    if kind < 3:
        return draw.choice((None, True, False, 0, -1, 1, 10**6, 10**12, 10**30, 0.5, 1e308, -0.0))
    if kind < 6:
        return odd_text(draw)
    if kind == 6:
        return draw.choice((float("nan"), float("inf")))
    if kind < 9:
        return [_json(draw) for _ in range(draw.randint(0, 3))]
    return {odd_text(draw, 5): _json(draw) for _ in range(draw.randint(0, 3))}


def odd_json(content: object, draw: Random) -> object:
    """``content`` with one value in it, at any depth, replaced, doubled, renamed or left out."""
    if isinstance(content, dict) and content and draw.random() < 0.9:
        changed, key = dict(content), draw.choice(list(content))
        match draw.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed[odd_text(draw, 5)] = changed.pop(key)
            case _:
                changed[key] = odd_json(changed[key], draw)
        return changed
    if isinstance(content, list) and content and draw.random() < 0.8:
        at = draw.randrange(len(content))
        new = [] if draw.random() < 0.2 else [odd_json(content[at], draw)]
        return [*content[:at], *new, *content[at + 1 :]]
    return _json(draw)


def damaged(content: bytes, draw: Random) -> bytes:
    """A JSON file as bytes: odd values where they still parse, or any bytes."""
    if draw.random() < 0.6:
        odd = odd_json(json.loads(content), draw)
        return json.dumps(odd).encode("utf-8", "surrogatepass")
    if draw.random() < 0.2:
        return draw.choice((b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5000, b"\xff\xfe", b"null"))
    return odd_bytes(draw, content, content[::-1])


class Planted:
    """Unpickled, it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@cache
def _best_files() -> dict[str, bytes]:
    """The models/ of a tiny model of three classes."""
    network, _ = build_model(ModelConfig("slowfast_tiny", pretrained=False), 3)
    description = describe_best(network, ("a", "b", "c"), DataConfig(), EvaluationConfig())
    weights = BytesIO()
    torch.save(network.state_dict(), weights)
    text = json.dumps(description | {"epoch": 1, "metrics": {}})
    return {DESCRIPTION: text.encode(), WEIGHTS: weights.getvalue()}


def best_model(folder: Path, draw: Random) -> None:
    """What `evaluate` reads of a run."""
    files = dict(_best_files())
    name = draw.choice((DESCRIPTION, DESCRIPTION, WEIGHTS))
    if name == DESCRIPTION:
        files[name] = damaged(files[name], draw)
    elif draw.random() < 0.3:
        files[name] = pickle.dumps(Planted(folder / "executed"))
    else:
        files[name] = odd_bytes(draw, files[name], files[DESCRIPTION])
    (folder / "models").mkdir()
    for file, content in files.items():
        (folder / "models" / file).write_bytes(content)
    read_best(folder).load()


def weights(folder: Path, draw: Random) -> None:
    """--model.weights."""
    tensors = {"proj.weight": torch.zeros(3, 4), "proj.bias": torch.ones(3)}
    pickled = BytesIO()
    torch.save(draw.choice((tensors, {"model_state": tensors}, [1], {"a": {}})), pickled)
    safe = safetensors.torch.save(tensors)
    known, suffix = draw.choice(((pickled.getvalue(), ".pth"), (safe, ".safetensors")))
    content = odd_bytes(draw, known, draw.choice((safe, pickled.getvalue())))
    if draw.random() < 0.2:
        content = draw.choice((
            pickle.dumps(Planted(folder / "executed")),
            struct.pack("<Q", draw.choice((1 << 62, 100_000_000, 0, 7))) + b"{}" * 10,
            struct.pack("<Q", 50_000) + b"[" * 50_000,
        ))  # fmt: skip
    path = folder / f"weights{suffix}"
    path.write_bytes(content)
    read_state_dict(path)


@cache
def _checkpoint_files() -> dict[str, bytes]:
    weight = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(weight.parameters())
    state = {"global_step": 2, "epoch": 1, "step": 0, "failed": {"3": "why"}, "rates": {"lr": 0.1}}
    tensors = {"rows": torch.zeros(1, 6, dtype=torch.int64)}
    with tempfile.TemporaryDirectory() as folder:
        saved = Checkpoint(weight.state_dict(), optimizer.state_dict(), tensors, state)
        path = save_checkpoint(Path(folder), saved, keep=1)
        return {file.name: file.read_bytes() for file in path.iterdir()}


def checkpoint(folder: Path, draw: Random) -> None:
    """A checkpoint with one odd file, whose sum may fit all the same."""
    files = dict(_checkpoint_files())
    name = draw.choice(list(files))
    if name.endswith(".json"):
        files[name] = damaged(files[name], draw)
    elif draw.random() < 0.2:
        files[name] = pickle.dumps(Planted(folder / "executed"))
    else:
        files[name] = odd_bytes(draw, files[name], draw.choice(list(files.values())))
    if name in FILES and draw.random() < 0.8:
        sums = {file: hashlib.sha256(files[file]).hexdigest() for file in FILES}
        manifest = json.loads(files["manifest.json"]) | {"sha256": sums}
        files["manifest.json"] = json.dumps(manifest).encode()
    path = folder / draw.choice(("step_00000002", "step_" + "9" * 30, "step_٣٣٣٣٣٣٣٣"))
    path.mkdir()
    for file, content in files.items():
        (path / file).write_bytes(content)
    newest_valid(folder)
    load_checkpoint(path)


@cache
def tiny_training() -> tuple[Trainer, Checkpoint]:
    """A tiny training that has not begun, and its state."""
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        make_videos(Path(folder), 3, seed=0, size=32, frames=4)
        given = ("--data.root", folder, "--epochs", "1", "--global-batch-size", "8")
        config = parse_training((*TINY, *given, "--micro-batch-size", "4"))
        assert config is not None
        accelerator = Accelerator(cpu=True)
        videos = find_videos(config.data, config.seed)
        trainer = build_trainer(config, accelerator, videos)
        trainer.state.rates, trainer.state.failed = {"lr": 0.1}, {1: "why"}
        return trainer, trainer.state.capture(accelerator)


def resume(folder: Path, draw: Random) -> None:
    """A checkpoint as it was written, of a state that no training left."""
    trainer, saved = tiny_training()
    tensors = dict(saved.tensors)
    state: Any = json.loads(json.dumps(saved.state))
    if draw.random() < 0.8:
        state = odd_json(state, draw)
    else:
        name = draw.choice(list(tensors))
        shape = [draw.randrange(4) for _ in range(draw.randrange(4))]
        tensors[name] = torch.zeros(shape, dtype=draw.choice((torch.int64, torch.float32)))
    odd_checkpoint = Checkpoint(saved.model, saved.optimizer, tensors, state)
    trainer.state.restore(odd_checkpoint, trainer.accelerator)


_METRICS = "".join(
    json.dumps({"kind": kind, "epoch": epoch, "global_step": 2 * epoch, "val/loss": 0.5}) + "\n"
    for epoch in (1, 2, 3)
    for kind in ("step", "epoch", "classes", "checkpoint")
)
_SAMPLES = "global_step,sample,video\n" + "".join(f"{n},a/{n}.mp4,b/{n}.mp4\n" for n in range(9))
_UNREADABLE = "path,reason,where\na/1.mp4,why,probe\n"


def run_files(folder: Path, draw: Random) -> None:
    """What a resumed run reads of the run before it."""
    files = {
        "metrics.jsonl": _METRICS.encode(), "logs/samples.csv": _SAMPLES.encode(),
        "unreadable_videos.csv": _UNREADABLE.encode(), "status": b"running\n",
        "config.yaml": b"epochs: 3\n",
        ".lock": b'{"host": "x", "machine": "x", "pid": 1, "since": ""}',
    }  # fmt: skip
    name = draw.choice(list(files))
    if name != ".lock" or draw.random() < 0.9:  # one of another host is watched for 4 s
        del files[".lock"]
        name = "metrics.jsonl" if name == ".lock" else name
    if name == "metrics.jsonl" and draw.random() < 0.7:
        lines = _METRICS.splitlines()
        at = draw.randrange(len(lines))
        lines[at] = damaged(lines[at].encode(), draw).decode("utf-8", "replace")
        files[name] = "\n".join([*lines, ""]).encode()
    else:
        files[name] = odd_bytes(draw, files[name], draw.choice(list(files.values())))
    (folder / "logs").mkdir()
    for file, content in files.items():
        (folder / file).write_bytes(content)
    run = RunFolder(folder)
    with suppress(UserError):
        start = open_run(folder, draw.choice(("auto", "never")))
        start.release()
    run.read_unreadable()
    MetricsFile(run.metrics).truncate_after(4, 2)
    SampleLog(run.samples, ["a"].__getitem__).truncate_after(4)


def probe_cache(folder: Path, draw: Random) -> None:
    """What the probe remembers: damage costs a second probe, and never another answer."""
    for label in ("one", "two"):
        (folder / "videos" / label).mkdir(parents=True)
        (folder / "videos" / label / "a.mp4").write_bytes(_video())
    known = _probed(folder / "videos", folder / "cache")
    assert all(isinstance(info, VideoInfo) for info in known), known
    for file in sorted((folder / "cache").rglob("*")):
        if file.is_file():
            content = file.read_bytes()
            file.write_bytes(odd_bytes(draw, content, draw.choice((_video(), content[::-1]))))
    assert _probed(folder / "videos", folder / "cache") == known


@cache
def _video() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        make_videos(Path(folder), 1, seed=0, size=32, frames=4, classes=("moves left",))
        return next(Path(folder).rglob("*.mp4")).read_bytes()


def make_files() -> None:
    """Make what the cases damage, once and before memory is limited."""
    _best_files(), _checkpoint_files(), tiny_training(), _video()


def _probed(root: Path, file: Path) -> list[VideoInfo | str]:
    with redirect_stderr(StringIO()):
        videos = list_videos(root, "data.root").videos
        return list(probe_videos(videos, 1, file, show_progress=False))
