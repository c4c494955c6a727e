"""What people give beside videos, misshapen: settings, lists, names, patterns.

A case makes one input in an empty folder, drawn from its Random alone, and gives it to the program:
that must work, or raise UserError or RunError. tests/campaigns/fuzz_text.py runs them.
"""

import csv
import json
import os
from contextlib import redirect_stdout, suppress
from functools import cache
from io import StringIO
from pathlib import Path
from random import Random

import numpy as np
import yaml

from slowfast_dist.cli.commands import COMMANDS
from slowfast_dist.cli.flags import apply
from slowfast_dist.cli.parser import parse_command, parse_training
from slowfast_dist.cli.presets import preset_folder, read_config_file
from slowfast_dist.config.checks import flag_types, validate
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config, config_dict
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.split import split_videos, write_split
from slowfast_dist.runs.folder import RunFolder, write_unreadable
from slowfast_dist.runs.predictions import write_predictions
from slowfast_dist.system.files import write_json
from tests.campaigns.mutations import mutate

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
            parse_command(COMMANDS["evaluate"], ["run", "--data", "x", *words[1:]])


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
