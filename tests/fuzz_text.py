"""All that is read from outside beside videos, misshapen: `python -m tests.fuzz text`.

Each case is drawn from (seed, target, number) alone, so that one can be repeated by itself. It must
work or raise UserError or RunError with one short line, within its time and memory.
"""

import csv
import hashlib
import json
import os
import pickle
import resource
import shutil
import signal
import struct
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from io import BytesIO, StringIO
from pathlib import Path
from random import Random
from types import FrameType

import numpy as np
import psutil
import safetensors.torch
import torch
import yaml

from slowfast_dist.best_model import DESCRIPTION, WEIGHTS, describe_best, read_best
from slowfast_dist.checkpoint import (
    FILES,
    Checkpoint,
    load_checkpoint,
    newest_valid,
    save_checkpoint,
)
from slowfast_dist.cli import one_line, parse_evaluation, parse_training
from slowfast_dist.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    RunError,
    UserError,
    config_dict,
)
from slowfast_dist.config_checks import validate
from slowfast_dist.config_files import preset_folder, read_config_file
from slowfast_dist.data import group_pattern
from slowfast_dist.data.manifest import list_videos
from slowfast_dist.data.probe_all import probe_videos
from slowfast_dist.data.split import split_videos, write_split
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.video import VideoInfo
from slowfast_dist.files import write_json
from slowfast_dist.flags import apply, flag_types
from slowfast_dist.model import build_model
from slowfast_dist.run_folder import RunFolder, open_run, write_unreadable
from slowfast_dist.tracking import MetricsFile, SampleLog, write_predictions
from slowfast_dist.weights import read_state_dict
from tests.mutations import mutate

Case = Callable[[Path, Random], None]
"""Makes one input in an empty folder and gives it to the program."""

CASE_SECONDS = 20.0
MORE_BYTES = 2 * 1024**3
"""Memory that the cases may take beside what the process has when they begin."""
LINE_LENGTH = 1000

PLAIN = tuple("abcxyz0189 _-.,;:/\\'\"=+#&*!?%@|<>()[]{}~\t")
ODD = (
    "\n", "\r", "\0", "\x1b[2J", "\x07", "\x7f", "\x85", "\u2028", "\ufeff", "\u202e", "\u200d",
    "e\u0301", "é", "ß", "ı", "日本", "🎬", "\udcff", "\udc80", "\U0010ffff", "=cmd()", "@SUM(1)",
)  # fmt: skip
NUMBERS = (
    "0", "-1", "1e400", "-1e400", "nan", "inf", "1e-320", "9" * 30, "9" * 5000, "0x10", "1_000",
    "٣", "²", "1.5", "1e3", "+4", " 4", "4 ", "04", "2147483648", "9223372036854775808", "-0", "",
)  # fmt: skip
WORDS = (
    "true", "no", "null", "~", "none", "None", "auto", "{}", "[]", "[256, 320]", "(1,", "[[1]]",
    "2026-01-01", "!!python/object/apply:os.system [id]", "--help", "--epochs", "-x", "=", "a=b",
    "../../../etc/passwd", "/dev/zero", "/dev/null", "/proc/self/mem", ".", "..", "/",
    "x" * 100_000,
)  # fmt: skip
PATTERNS = (
    r"(a+)+$", r"(a|a)*$", r"(.*a){25}", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(", r"[", r"*", r"\1",
    r"(?P<x>a)(?P<x>b)", r"(?<=a+)b", r"x{1000000}", r"((((a{100}){100}){100}){100})",
    r"a{99999999}", r"a{99999999999}",
    r"(?i)ſ", r"\Z", "", r"()", r"(a)|(b)", r"\p{L}", "(" * 200 + ")" * 200, "(" * 5000, r"seq\d+",
    "(?:" * 90 + "a" + ")*" * 90, r"(?#", r"(?(1)a|b)", "\0", "\ud800",
)  # fmt: skip


def odd_text(draw: Random, longest: int = 40) -> str:
    parts = (PLAIN, ODD, NUMBERS, WORDS)
    size = draw.randint(0, longest)
    return "".join(draw.choice(draw.choices(parts, (60, 20, 1, 1))[0]) for _ in range(size))


def odd_name(draw: Random) -> str:
    """A name that a file on Linux may have: no more than 255 bytes, no slash, no NUL."""
    name = odd_text(draw, 12) if draw.random() < 0.9 else draw.choice("aé.🎬") * 300
    raw = name.replace("/", "").replace("\0", "").encode("utf-8", "surrogateescape")[:240]
    name = os.fsdecode(raw)
    return name if name.strip(".") else "x" + name


def odd_bytes(draw: Random, content: bytes, other: bytes) -> bytes:
    """Random ones, or ``content`` damaged, or in another encoding."""
    kind = draw.randrange(8)
    if kind == 0:
        return draw.randbytes(draw.choice((0, 1, 10, 1000, 100_000)))
    if kind == 1:
        text = content.decode("utf-8", "replace")
        coding = draw.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp037"))
        return text.encode(coding, "replace")
    if kind == 2:
        return odd_text(draw, 400).encode("utf-8", "surrogateescape")
    return mutate(content, other, draw)[1]


# --- settings ------------------------------------------------------------------------------------


@cache
def _types() -> dict[str, object]:
    return flag_types(Config)


@cache
def _yaml() -> tuple[bytes, ...]:
    whole = yaml.safe_dump(config_dict(Config(data=DataConfig(root=Path("videos")))))
    return whole.encode(), *(path.read_bytes() for path in sorted(preset_folder().glob("*.yaml")))


def _odd_yaml(draw: Random) -> bytes:
    deep = draw.choice((10, 500, 20_000))
    laughs = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )
    name = draw.choice(list(_types()))
    value = draw.choice((*NUMBERS, *WORDS, *ODD, *PATTERNS, odd_text(draw)))
    keys = name.split(".")
    nested = "\n".join("  " * i + f"{key}:" for i, key in enumerate(keys))
    shapes = (
        "[" * deep, "{a: " * deep, "- " * deep, "? " * deep, "&a [*a]", "&a {data: *a}",
        "data: &a {<<: *a}", laughs, laughs + "epochs: *a29\n", "a: *nowhere",
        f"{nested} !!python/object/apply:os.mkdir [executed]",
        f"{nested} !!python/name:os.system", f"{nested} !!binary {value}", f"{nested} !x {value}",
        f"{nested} {value}", f"{nested} {json.dumps(value)}", f"{nested} [{value}, {value}]",
        f"{nested} |\n    {value}\n    b", f"{nested} {{{value}: {value}}}",
        f"{nested} 1\n{nested} 1", f"{keys[0]}: {value}", f"{value}: 1",
        f"? [a, {{b: c}}]\n: {value}",
        "--- 1\n--- 2\n", "%YAML 9.9\n---\na: 1", f"{nested} {'9' * 100_000}",
        f"{'k' * 200_000}: 1", "data: " + "{a: 1}, " * 1000, "\t\tepochs: 1",
        "".join(f"k{i}: 1\n" for i in range(5000)), f"{nested} &{'a' * 5000} 1",
    )  # fmt: skip
    return draw.choice(shapes).encode("utf-8", "surrogatepass")


def config_file(folder: Path, draw: Random) -> None:
    """--config with any bytes, and with any value for any setting."""
    path, types = folder / "odd.yaml", _types()
    known = draw.choice(_yaml())
    odd = draw.random() < 0.6
    path.write_bytes(_odd_yaml(draw) if odd else odd_bytes(draw, known, _yaml()[0]))
    validate(apply(read_config_file(path, types), Config(), types))


def command_line(folder: Path, draw: Random) -> None:
    """Any words, most of them flags with a value of any kind."""
    words = [draw.choice(("demo", "finetune", "--data.root=x", odd_text(draw, 8), "--help"))]
    for _ in range(draw.randint(0, 3)):
        flag = "--" + draw.choice([*_types(), "config", odd_text(draw, 8)])
        values = [
            draw.choice((*NUMBERS, *WORDS, *ODD, *PATTERNS, odd_text(draw)))
            for _ in range(draw.choice((0, 1, 1, 1, 2, 3)))
        ]
        equals = values and draw.random() < 0.3
        words += [f"{flag}={values[0]}", *values[1:]] if equals else [flag, *values]
    words = [word for word in words if not word.startswith(("/dev/zero", "--config=/dev/zero"))]
    with redirect_stdout(StringIO()):
        if draw.random() < 0.8:
            parse_training(words)
        else:
            parse_evaluation(["run", "--data", "x", *words[1:]])


# --- lists and names -----------------------------------------------------------------------------


def csv_list(folder: Path, draw: Random) -> None:
    """A CSV of path,label, with some of its files there."""
    names = [f"{label}/{number}.mp4" for label in "ab" for number in range(3)]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    good = "path,label\n" + "".join(f"{name},{name[0]}\n" for name in names)
    odd = odd_text(draw)
    name, text = names[0], draw.choice((odd, "../" * 3 + "etc/passwd", "/etc/passwd", ".", ""))
    lines = (
        "path,label\n" + f"{text},{odd}\n" * 2, good + f'"{name}\n",{odd}\n', good.upper(),
        good.replace("\n", "\r"), good.replace(",", "\t"), good.replace(",", ";"),
        good + f'"{"x" * 200_000}",a\n', good + ",".join("x" * 1_000_000) + "\n",
        "path,label" + ",x" * 1_000_000 + "\n" + good[11:], good + '"', good * 2,
        "path,label,label\n" + "".join(f"{n},a,b\n" for n in names),
        "path,path,label\n" + good[11:],
        good + f"./{name},a\n", good + f"b/../{name},b\n", good + f"{name}/,b\n", good + "\0\n",
        "label,path\n" + "".join(f"{n[0] if odd else odd},{n}\n" for n in names), odd + good,
        good.replace(",a\n", f",{json.dumps(odd)}\n"), "path,label\n", "", good + "\n" * 1000,
        "path,label\n" + "".join(f"{n}, {n[0]} \n" for n in names),
        "path,label\n" + "".join(f"{n},{'c' * 10_000}{n[0]}\n" for n in names),
    )  # fmt: skip
    errors = draw.choice(("surrogateescape", "replace"))
    content = draw.choice(lines).encode("utf-8", errors)
    if draw.random() < 0.4:
        content = odd_bytes(draw, good.encode(), content + b"x")
    (folder / "list.csv").write_bytes(content)
    listing = list_videos(folder / "list.csv", "data.root")
    here = folder.resolve()
    for video in listing.videos:
        if not Path(os.path.abspath(video.path)).is_relative_to(here):
            raise AssertionError(f"{video.path} is not below {here}")
    _written_and_read_again(folder, "list.csv")


def names(folder: Path, draw: Random) -> None:
    """Class folders and files of any name that a file system takes."""
    for _ in range(draw.randint(1, 4)):
        label = folder / "videos" / odd_name(draw)
        label.mkdir(parents=True, exist_ok=True)
        for _ in range(draw.randint(1, 3)):
            with suppress(OSError):
                (label / (odd_name(draw) + draw.choice((".mp4", ".MP4", ".avi", ".x")))).touch()
    pattern = odd_text(draw, 6) if draw.random() < 0.2 else None
    list_videos(folder / "videos", "data.root", pattern)
    _written_and_read_again(folder, "videos")


def _written_and_read_again(folder: Path, what: str) -> None:
    """Names come back from every file that a run writes, and as a CSV they list the same."""
    listing = list_videos(folder / what, "data.root")
    videos, classes = listing.videos, listing.classes
    output = folder / "output"
    output.mkdir()
    paths = [video.name for video in videos]
    labels = [classes[video.label] for video in videos]
    write_json(output / "classes.json", dict(enumerate(classes)))
    known = json.loads((output / "classes.json").read_text(encoding="utf-8"))
    assert list(known.values()) == list(classes), "classes.json"
    numbers = np.array([video.label for video in videos])
    logits = np.zeros((len(videos), len(classes)))
    write_predictions(output / "predictions.csv", paths, numbers, logits, classes)
    rows = _rows(output / "predictions.csv")
    assert [row[:2] for row in rows[1:]] == [list(p) for p in zip(paths, labels, strict=True)], rows
    assert [title[5:] for title in rows[0][3:]] == list(classes), rows[0]
    write_unreadable(output / "unreadable_videos.csv", [(path, "why", "probe") for path in paths])
    assert sorted(row[0] for row in RunFolder(output).read_unreadable()) == sorted(set(paths))
    with suppress(UserError):  # too few videos
        split = split_videos(listing, 0.5, 0)
        write_split(output / "split.csv", classes, split.train, split.val)
        rows = _rows(output / "split.csv")
        assert sorted(row[0] for row in rows[1:]) == sorted(paths), rows
    table = (folder / what if (folder / what).is_dir() else folder) / "again.csv"
    with open(table, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows((("path", "label"), *zip(paths, labels, strict=True)))
    try:
        again = list_videos(table, "data.root", single_class=True)
    except UserError:
        if any(text != text.strip() for text in (*paths, *labels)):
            return  # spaces around the fields of a CSV are taken away
        raise AssertionError(f"a list of these is refused: {paths}") from None
    if all(text == text.strip() for text in (*paths, *labels)):
        assert sorted(video.name for video in again.videos) == sorted(paths), paths


def _rows(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def patterns(folder: Path, draw: Random) -> None:
    """--data.group-pattern, also those that take for ever."""
    for label in ("one", "two"):
        for _ in range(3):
            name = "a" * draw.choice((3, 30, 200)) + draw.choice(("!", "é", "seq7", "日本"))
            (folder / label).mkdir(exist_ok=True)
            (folder / label / f"{name}.mp4").touch()
    pattern = draw.choice(PATTERNS) if draw.random() < 0.8 else odd_text(draw, 30)
    validate(Config(data=DataConfig(root=folder, group_pattern=pattern)))
    list_videos(folder, "data.root", pattern)


# --- what a run left -----------------------------------------------------------------------------


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


def _damaged(content: bytes, draw: Random) -> bytes:
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
        files[name] = _damaged(files[name], draw)
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
        files[name] = _damaged(files[name], draw)
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
        lines[at] = _damaged(lines[at].encode(), draw).decode("utf-8", "replace")
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
    SampleLog(run.samples, ["a"]).truncate_after(4)


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


def _probed(root: Path, file: Path) -> list[VideoInfo | str]:
    with redirect_stderr(StringIO()):
        videos = list_videos(root, "data.root").videos
        return list(probe_videos(videos, 1, file, show_progress=False))


TARGETS: dict[str, Case] = {
    case.__name__: case
    for case in (
        config_file, command_line, csv_list, names, patterns, best_model, weights, checkpoint,
        run_files, probe_cache,
    )
}  # fmt: skip


# --- the run -------------------------------------------------------------------------------------


class TooLongError(BaseException):
    """A case that took longer than CASE_SECONDS."""


@contextmanager
def _limits() -> Iterator[None]:
    """Memory for all that follows; an alarm, where it is set, raises."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLongError

    before, patience = resource.getrlimit(resource.RLIMIT_AS), group_pattern.SECONDS
    group_pattern.SECONDS = 0.2  # or the patterns that need it all would need hours
    handler = signal.signal(signal.SIGALRM, ring)
    most = psutil.Process().memory_info().vms + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
        group_pattern.SECONDS = patience


def run_case(target: str, folder: Path, seed: int, number: int) -> str | None:
    """One case in an empty ``folder``; None where all is well, else what is amiss.

    "" where the program refused it in one line, as it should.
    """
    folder.mkdir()
    here = Path.cwd()
    os.chdir(folder)
    try:
        signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
        TARGETS[target](folder, Random(f"{seed} {target} {number}"))
    except (UserError, RunError) as error:
        line = one_line(error)
        if len(line) > LINE_LENGTH or not line.isprintable():
            return f"a line of {len(line)} characters: {line[:200]!r}"
    except TooLongError:
        return f"longer than {CASE_SECONDS:g} s"
    except BaseException:
        return traceback.format_exc(limit=-3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.chdir(here)
    if (folder / "executed").exists():
        return "a planted call was executed"
    return None


def fuzz_text(root: Path, cases: int, seed: int, targets: Sequence[str] = tuple(TARGETS)) -> bool:
    """``cases`` in all, shared out to the targets; prints a line each and the first of each fault.

    Returns whether all was well; the inputs of what was not stay in ``root``/TARGET.
    """
    _best_files(), _checkpoint_files(), _video()
    well = True
    with _limits():
        for target in targets:  # of the cache few: each starts a process
            faults: Counter[str] = Counter()
            begun, slowest = time.process_time(), 0.0
            share = max(1, cases // len(targets) // (20 if target == "probe_cache" else 1))
            for number in range(share):
                folder, since = root / target / str(number), time.process_time()
                folder.parent.mkdir(exist_ok=True)
                fault = run_case(target, folder, seed, number)
                slowest = max(slowest, time.process_time() - since)
                if fault is None:
                    shutil.rmtree(folder)
                    continue
                kind = fault.strip().splitlines()[-1][:100]
                faults[kind] += 1
                if faults[kind] == 1:
                    print(f"{folder}:\n{fault}", flush=True)
            well &= not faults
            print(
                f"{target}: {share} cases, {faults.total()} faults, slowest {slowest:.2f} s, "
                f"{time.process_time() - begun:.0f} s",
                flush=True,
            )
    return well
