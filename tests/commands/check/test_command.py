"""The command check-data: what it finds, what it leaves alone, how it ends."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from slowfast_dist.commands.check.command import run_check
from slowfast_dist.commands.check.report import move
from slowfast_dist.config.commands.dataset import CheckData
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.video.writer import write_video
from tests.helpers.shapes import write_disc
from tests.helpers.training_runs import launch

SMALL = CheckData(num_frames=8, sampling_rate=1, frame_rate=10.0, crop_size=32, num_workers=1)
"""For videos of 12 frames of 64 x 64 px, 10 a second."""


def place(seed: int) -> NDArray[np.float32]:
    """A random background, float32 (64, 64, 3)."""
    coarse = np.random.default_rng([0, seed]).uniform(0, 255, (6, 6, 3)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_LINEAR), 0, 255)


def clip(
    background: NDArray[np.float32], seed: int, frames: int = 12
) -> Iterator[NDArray[np.uint8]]:
    """A square that wanders before it."""
    rng = np.random.default_rng([1, seed])
    start, way = rng.uniform(0, 20, 2), rng.uniform(0.5, 2.5, 2)
    colour = rng.uniform(0, 255, 3)
    for number in range(frames):
        frame = background.copy()
        y, x = (start + way * number).astype(int)
        frame[y : y + 14, x : x + 14] = colour
        yield np.rint(frame).astype(np.uint8)


def write(path: Path, seed: int, background: int | None = None, frames: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = place(1000 + seed if background is None else background)
    write_video(path, clip(scene, seed, frames), fps=10)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("written")
    for number in range(12):
        write(root / "ab"[number % 2] / f"clip{number}.mp4", number)
    return root


@pytest.fixture
def clean(written: Path, tmp_path: Path) -> Path:
    """Two classes of 6 videos with nothing wrong."""
    return shutil.copytree(written, tmp_path / "clean")


def check(root: Path, command: CheckData, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON report."""
    file = tmp_path / "report.json"
    code = 0
    try:
        run_check(root, replace(command, json=file))
    except SystemExit as end:
        assert isinstance(end.code, int)
        code = end.code
    return code, json.loads(file.read_text(encoding="utf-8"))


def found(report: dict[str, Any]) -> dict[str, Any]:
    return {finding["kind"]: finding for finding in report["findings"]}


def paths(item: dict[str, Any]) -> list[str]:
    return [video["path"] for video in item["videos"]]


def test_nothing_wrong_is_exit_code_0(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = check(clean, SMALL, tmp_path)
    assert (code, report["ok"], report["findings"]) == (0, True, [])
    assert report["videos"] == report["readable"] == 12
    assert report["classes"] == {"a": {"train": 5, "val": 1}, "b": {"train": 5, "val": 1}}
    facts = report["facts"]
    assert facts["codecs"] == {"h264": 12} and facts["decoders"] == {"pyav": 12}
    assert len(facts["slowest"]) == 3 and facts["slowest"][0]["decode_ms_a_clip"] > 0
    assert 0 < facts["loader"]["cpu_seconds_a_clip"] < 1
    printed = capsys.readouterr().out
    assert "NOTHING WRONG" in printed and "ERRORS" not in printed
    assert max(map(len, printed.splitlines())) <= max(80, len(str(clean)) + 60)


def test_everything_wrong_is_named(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clean / "a" / "text.mp4").write_text("not a video")
    for number in range(6):
        write(clean / "a" / f"more{number}.mp4", 30 + number)
    for number in range(24):
        write(clean / "b" / f"most{number}.mp4", 60 + number)
    for number in range(2):
        write(clean / "few" / f"{number}.mp4", 50 + number)
    write(clean / "a" / "short.mp4", 70, frames=2)  # .2 s: 8 frames of 10 a second last .8 s
    shutil.copy(clean / "a" / "clip0.mp4", clean / "a" / "again.mp4")
    shutil.copy(clean / "a" / "clip2.mp4", clean / "b" / "elsewhere.mp4")
    with av.open(str(clean / "b" / "clip1.mp4")) as source:
        frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    larger = [cv2.resize(frame, (128, 128)).astype(np.uint8) for frame in frames]
    write_video(clean / "b" / "larger.mp4", iter(larger), fps=30)
    code, report = check(clean, SMALL, tmp_path)
    kinds = found(report)
    assert code == 1 and not report["ok"]
    assert [item["path"] for item in kinds["unreadable"]["items"]] == ["a/text.mp4"]
    assert kinds["unreadable"]["items"][0]["reason"] == "text file, not a video"
    (contradiction,) = kinds["duplicates-across-classes"]["items"]
    assert contradiction["exact"]
    assert paths(contradiction) == ["a/clip2.mp4", "b/elsewhere.mp4"]
    same = [
        (paths(item), item["exact"])
        for kind in ("duplicates", "duplicates-across-split")
        for item in kinds.get(kind, {"items": []})["items"]
    ]
    assert (["a/again.mp4", "a/clip0.mp4"], True) in same
    assert (["b/clip1.mp4", "b/larger.mp4"], False) in same
    assert [item["path"] for item in kinds["short-clips"]["items"]] == [
        "a/short.mp4", "b/larger.mp4",  # .4 s
    ]  # fmt: skip
    assert "frame-rates" not in kinds  # of one of 30 frames a second: clips go by time
    assert "--loss.class-weights balanced" in kinds["class-imbalance"]["remedy"]
    assert kinds["small-classes"]["items"] == [{"class": "few", "videos": 2}]
    assert "recordings-cross-split" not in kinds and "places-cross-split" not in kinds
    levels = [finding["level"] for finding in report["findings"]]
    assert levels == sorted(levels)  # errors first
    printed = capsys.readouterr().out
    assert printed.index("ERRORS") < printed.index("a/text.mp4") < printed.index("WARNINGS")


@pytest.mark.parametrize("counts", [(3, 3), (4, 2)])
def test_frame_rates_are_named_with_their_counts(
    tmp_path: Path, counts: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is wrong with a mix where clips go by time; else it is said as training says it."""
    for number in range(6):
        path = tmp_path / "videos" / "ab"[number % 2] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        rate = 15 if number < counts[0] else 60
        write_video(path, clip(place(number), number, 3 * rate), rate)
    command = replace(SMALL, num_frames=32, sampling_rate=2, frame_rate=30.0)
    report = check(tmp_path / "videos", command, tmp_path)[1]
    assert not {"frame-rates", "slow-videos", "no-frame-rate"} & set(found(report))
    of_15, of_60 = (f"{rate} ({count})" for rate, count in zip((15, 60), counts, strict=True))
    printed = " ".join(capsys.readouterr().out.split())
    line = f"{of_15}, {of_60} are mixed; clips take frames by their times (frame rate 30)"
    assert line in printed
    assert report["facts"]["by_time"]["rates"] == [
        {"rate": 15.0, "videos": counts[0]}, {"rate": 60.0, "videos": counts[1]}
    ]  # fmt: skip
    assert "short-clips" not in found(report)  # 3 s, and a clip by time lasts 2.1
    counted = check(tmp_path / "videos", replace(command, frame_rate="video"), tmp_path)[1]
    finding = found(counted)["frame-rates"]
    first = "6 of 6 videos have another frame rate than the 30 a second that the pretrained "
    assert finding["summary"].startswith(f"{first}networks saw: ")
    assert finding["remedy"].startswith("--data.frame-rate 30 takes frames by their times, as the ")
    assert {item["fps"] for item in finding["items"]} == {15.0, 60.0}
    assert "are mixed" not in capsys.readouterr().out
    slow = check(tmp_path / "videos", replace(command, sampling_rate=1), tmp_path)[1]
    assert found(slow)["slow-videos"]["summary"].startswith(
        f"{counts[0]} of 6 videos have fewer frames a second than the 30 that a clip takes, as "
    )
    assert found(counted)["short-clips"]["items"] == [  # 45 frames, where a clip counts 63
        {**item, "frames": 45} for item in found(counted)["short-clips"]["items"]
    ]
    assert len(found(counted)["short-clips"]["items"]) == counts[0]


def recordings(root: Path, name: str) -> Path:
    """2 classes x 6 recordings x 4 clips before the same background each."""
    rng = np.random.default_rng(0)
    for label in range(2):
        for recording in range(6):
            for number in range(4):
                given = name.format(
                    c=("jump", "run")[label], r=recording, i=number, x=rng.integers(10**9)
                )
                seed = label * 100 + recording * 10 + number
                write(root / given, seed, background=label * 10 + recording)
    return root


def test_recordings_on_both_sides_give_the_pattern_that_keeps_them_together(tmp_path: Path) -> None:
    root = recordings(tmp_path / "videos", "{c}/v_{c}_g{r:02d}_c{i:02d}.mp4")
    code, report = check(root, SMALL, tmp_path)
    crossing = found(report)["recordings-cross-split"]
    assert code == 1 and crossing["items"]
    for item in crossing["items"]:
        assert len({path.rsplit("_c", 1)[0] for path in paths(item)}) == 1
        assert {video["split"] for video in item["videos"]} == {"train", "val"}
    pattern = crossing["remedy"].partition("--data.group-pattern '")[2].rstrip("'")
    code, report = check(root, replace(SMALL, group_pattern=pattern), tmp_path)
    assert (code, report["findings"]) == (0, [])


@pytest.mark.slow
def test_a_split_by_hand_that_keeps_recordings_together_is_right(tmp_path: Path) -> None:
    root = recordings(tmp_path / "videos", "{c}/v_{c}_g{r:02d}_c{i:02d}.mp4")
    for path in [path for path in root.rglob("*.mp4") if "_g04" in path.name]:
        target = tmp_path / "val" / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    command = replace(SMALL, val_dir=tmp_path / "val")
    assert check(root, command, tmp_path)[0] == 0
    moved = tmp_path / "val" / "jump" / "v_jump_g04_c00.mp4"
    moved.rename(root / "jump" / moved.name)
    code, report = check(root, command, tmp_path)
    (crossing,) = found(report)["recordings-cross-split"]["items"]
    assert code == 1 and len(paths(crossing)) == 4
    for folder in (root, tmp_path / "val"):  # the same path below either
        (folder / "run" / "bad.mp4").write_text("text")
    check(root, replace(command, move_bad=tmp_path / "bad"), tmp_path)
    assert sorted(path.relative_to(tmp_path / "bad").as_posix()
                  for path in (tmp_path / "bad").rglob("*.mp4")) == [
        "train/run/bad.mp4", "val/run/bad.mp4",
    ]  # fmt: skip


@pytest.mark.slow
def test_recordings_without_names_are_told_by_their_place(tmp_path: Path) -> None:
    root = recordings(tmp_path / "videos", "{c}/{x:09d}.mp4")
    code, report = check(root, SMALL, tmp_path)
    crossing = found(report)["places-cross-split"]
    assert code == 1 and crossing["level"] == "error"
    assert "a folder of its own" in crossing["remedy"]
    assert "recordings-cross-split" not in found(report)


@pytest.mark.slow
@pytest.mark.parametrize(("cameras", "kinds"), [(4, ["places-cross-split"]), (1, [])])
def test_a_few_cameras_that_always_stand_there_are_no_error(
    cameras: int, kinds: list[str], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for number in range(48):
        name = f"{'ab'[number % 2]}/{rng.integers(10**9):09d}.mp4"
        write(tmp_path / "videos" / name, number, background=int(rng.integers(cameras)))
    code, report = check(tmp_path / "videos", SMALL, tmp_path)
    assert code == 0 and [finding["kind"] for finding in report["findings"]] == kinds


@pytest.mark.slow
def test_names_of_a_known_kind_are_a_warning_where_looks_say_nothing(tmp_path: Path) -> None:
    for number in range(24):
        video, start = f"abc-_def{number // 4:03d}", number % 4 * 10
        name = f"{'ab'[number // 12]}/{video}_{start:06d}_{start + 10:06d}.mp4"
        write(tmp_path / "videos" / name, number)
    code, report = check(tmp_path / "videos", SMALL, tmp_path)
    assert code == 0 and [finding["kind"] for finding in report["findings"]] == [
        "names-cross-split"
    ]
    pattern = report["findings"][0]["remedy"].partition("--data.group-pattern '")[2].rstrip("'")
    grouped = replace(SMALL, group_pattern=pattern)
    assert check(tmp_path / "videos", grouped, tmp_path)[1]["findings"] == []


def test_independent_clips_raise_no_alarm(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    make_videos(root, 8, seed=0, size=64, frames=12)
    code, report = check(root, replace(SMALL, flip=False), tmp_path)
    assert (code, report["findings"]) == (0, [])
    _, report = check(root, SMALL, tmp_path)
    [finding] = report["findings"]  # the demo has moves left and right
    assert finding["kind"] == "mirrored-classes" and "--data.flip false" in finding["remedy"]


def test_a_list_is_checked_as_training_takes_it(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its split, also test's copies of training videos; a column without use; another folder."""
    names = sorted(path.relative_to(clean).as_posix() for path in clean.rglob("*.mp4"))
    shutil.copyfile(clean / names[0], clean / "a" / "copy.mp4")
    sides = ["val" if number % 3 == 2 else "train" for number in range(len(names))]
    rows = [f"{name};{name[0]};{side};x" for name, side in zip(names, sides, strict=True)]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["Path;Label;Split;Camera", *rows, "a/copy.mp4;a;test;x"]))
    code, report = check(table, replace(SMALL, videos=clean), tmp_path)
    found = {finding["kind"]: finding for finding in report["findings"]}
    assert code == 1 and {"duplicates-across-split", "unused-columns"} <= found.keys()
    [item] = found["duplicates-across-split"]["items"]
    by_name = {video["path"]: video["split"] for video in item["videos"]}
    assert item["exact"] and by_name == {names[0]: "train", "a/copy.mp4": "test"}
    assert "'Camera'" in found["unused-columns"]["summary"]
    assert sum(counts["test"] for counts in report["classes"].values()) == 1
    assert ", 1 test" in capsys.readouterr().out.splitlines()[0]


def damage_packet(path: Path, number: int) -> None:
    """Fill a packet with zeros, behind its header."""
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    start, size = packets[number]
    assert start is not None
    content = bytearray(path.read_bytes())
    content[start + 8 : start + size] = bytes(size - 8)
    path.write_bytes(content)


def test_a_file_is_looked_at_wherever_its_segments_lie(clean: Path, tmp_path: Path) -> None:
    """One whose first segment lies outside, one whose only one does, a damaged one likewise."""
    draw = list(clip(place(77), 77)).__getitem__
    for name in ("a/odd.mp4", "b/odd.mp4"):
        write_disc(clean / name, 64, 64, Fraction(16, 11), frames=12, draw=draw)
    shutil.copyfile(clean / "a" / "clip0.mp4", clean / "a" / "copy.mp4")
    names = sorted(path.relative_to(clean).as_posix() for path in clean.rglob("clip*.mp4"))
    rows = [f"{name},{name[0]},0,1" for name in names]
    rows += ["a/odd.mp4,a,50,51", "a/odd.mp4,a,0,1", "b/odd.mp4,b,50,51", "a/copy.mp4,a,50,51"]
    damage_packet(write(clean / "b" / "damaged.mp4", 99), 7)
    rows.append("b/damaged.mp4,b,50,51")
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["path,label,start,end", *rows]))
    code, report = check(table, replace(SMALL, videos=clean, full=True), tmp_path)
    by_kind = found(report)
    assert code == 1 and len(by_kind["segments-outside"]["items"]) == 4
    assert report["facts"]["pixel_aspects"] == {"1:1": 13, "16:11": 2}
    assert [one["path"] for one in by_kind["unreadable"]["items"]] == ["b/damaged.mp4"]
    groups = [{one["path"]: one["split"] for one in item["videos"]}
              for kind, finding in by_kind.items() if kind.startswith("duplicates")
              for item in finding["items"]]  # fmt: skip
    copies = {frozenset(group) for group in groups}
    assert copies == {frozenset({"a/odd.mp4", "b/odd.mp4"}),
                      frozenset({"a/clip0.mp4", "a/copy.mp4"})}  # fmt: skip
    sides = {name: side for group in groups for name, side in group.items()}
    assert sides["a/odd.mp4"] in ("train", "val") and sides["b/odd.mp4"] is None


@pytest.mark.slow
def test_damage_in_the_middle_is_found_by_decoding_every_frame(clean: Path, tmp_path: Path) -> None:
    damage_packet(write(clean / "a" / "damaged.mp4", 99, frames=120), 45)
    assert check(clean, SMALL, tmp_path)[0] == 0
    code, report = check(clean, replace(SMALL, full=True), tmp_path)
    (item,) = found(report)["unreadable"]["items"]
    assert code == 1 and item["path"] == "a/damaged.mp4"
    assert "decoding failed at frame 4" in item["reason"]


# --- moving --------------------------------------------------------------------------------------


def test_recordings_that_were_cut_off_are_told_with_what_they_lost(
    clean: Path, tmp_path: Path, capsys: Any
) -> None:
    root = shutil.copytree(clean, tmp_path / "root")
    path = next(root.rglob("*.mp4"))
    with av.open(str(path)) as source, av.open(str(path.with_suffix(".mkv")), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    path.unlink()
    path = path.with_suffix(".mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 4 // 5])
    run_check(root, replace(SMALL, json=tmp_path / "report.json"))
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    [found] = [one for one in report["findings"] if one["kind"] == "cut-off"]
    [item] = found["items"]
    assert 0 < item["lost"] < 12 and item["path"] == path.relative_to(root).as_posix()
    assert f"{item['lost']} of 12 pictures" in printed and "were cut off while" in printed


def test_bad_files_are_moved_to_where_they_were_and_over_nothing(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "bad"
    for name in ("a/deep/x.mp4", "b/x.mp4"):
        (clean / name).parent.mkdir(exist_ok=True)
        (clean / name).write_text(f"text of {name}")
    (clean / "b" / "link.mp4").symlink_to("nowhere.mp4")
    (target / "b").mkdir(parents=True)
    (target / "b" / "x.mp4").write_text("mine")
    before = {path for path in clean.rglob("*.mp4")}
    code, report = check(clean, replace(SMALL, move_bad=target), tmp_path)
    assert code == 1
    assert before - {path for path in clean.rglob("*.mp4")} == {
        clean / "a" / "deep" / "x.mp4",
        clean / "b" / "link.mp4",
    }
    assert (target / "a" / "deep" / "x.mp4").read_text() == "text of a/deep/x.mp4"
    assert (target / "b" / "x.mp4").read_text() == "mine"
    assert (clean / "b" / "x.mp4").read_text() == "text of b/x.mp4"
    assert os.readlink(target / "b" / "link.mp4") == str(clean / "b" / "nowhere.mp4")
    assert len(report["moved"]) == 2
    assert "something is there already" in capsys.readouterr().out


def test_a_file_is_moved_to_another_file_system(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not os.access(other, os.W_OK) or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    folder = other / f"slowfast-dist-test-{os.getpid()}"
    try:
        for number, content in enumerate((b"one" * 10**6, b"two")):
            source = tmp_path / f"{number}.mp4"
            source.write_bytes(content)
            os.utime(source, (10**9, 10**9))
        assert move(tmp_path / "0.mp4", folder / "deep" / "x.mp4") is None
        assert (folder / "deep" / "x.mp4").read_bytes() == b"one" * 10**6
        assert (folder / "deep" / "x.mp4").stat().st_mtime == 10**9
        assert not (tmp_path / "0.mp4").exists()
        problem = move(tmp_path / "1.mp4", folder / "deep" / "x.mp4")
        assert problem and "already" in problem
        assert (tmp_path / "1.mp4").read_bytes() == b"two"
        assert [path.name for path in (folder / "deep").iterdir()] == ["x.mp4"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_the_rows_of_a_csv_stay(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clean / "a" / "bad.mp4").write_text("text")
    names = sorted(path.relative_to(clean).as_posix() for path in clean.rglob("*.mp4"))
    table = clean / "videos.csv"
    table.write_text("path,label\n" + "".join(f"{name},{name[0]}\n" for name in names))
    content = table.read_bytes()
    assert check(table, replace(SMALL, move_bad=tmp_path / "bad"), tmp_path)[0] == 1
    assert (tmp_path / "bad" / "a" / "bad.mp4").exists() and table.read_bytes() == content
    assert "still lists them" in capsys.readouterr().out


# --- mistakes and hostile files ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"move_bad": "inside"}, "--move-bad"),
        ({"json": "."}, "--json"),
        ({"group_pattern": "("}, "^--group-pattern"),
        ({"group_pattern": "nothing"}, "matches none"),
        ({"val_dir": "missing"}, "^--val-dir"),
    ],
)
def test_a_mistake_is_named_before_anything_is_read(
    clean: Path, change: dict[str, str], message: str
) -> None:
    values: dict[str, Any] = {
        name: value if name == "group_pattern" else clean / value for name, value in change.items()
    }
    with pytest.raises(UserError, match=message):
        run_check(clean, replace(SMALL, **values))


def test_a_dataset_on_which_training_would_not_start_is_reported(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    write(root / "a" / "one.mp4", 0)
    for number in range(3):
        (root / "b").mkdir(exist_ok=True)
        (root / "b" / f"{number}.mp4").write_text("text")
    code, report = check(root, SMALL, tmp_path)
    assert code == 1 and "no video of class 'b' can be read" in found(report)["refused"]["remedy"]


def test_exit_codes_of_the_command(clean: Path, tmp_path: Path) -> None:
    flags = ("--num-frames", "8", "--sampling-rate", "1", "--crop-size", "32")
    command = ("-m", "slowfast_dist", "check-data")
    (clean / "a" / "bad.mp4").write_text("text")
    done = launch(*command, clean, *flags)
    assert done.returncode == 1 and "a/bad.mp4: text file" in done.stdout
    missing = launch(*command, tmp_path / "missing", *flags)
    assert missing.returncode == 2
    assert missing.stderr == f"error: {tmp_path / 'missing'}: there is no such folder or CSV\n"


def real_data(name: str) -> Path:
    folder = os.environ.get("SLOWFAST_DIST_TEST_DATA")
    if not folder:
        pytest.skip("SLOWFAST_DIST_TEST_DATA is not set: no real videos to test with")
    return Path(folder, name)


@pytest.mark.slow
def test_sequences_of_a_real_dataset_cross_a_random_split_and_are_named(tmp_path: Path) -> None:
    root = real_data("ut_interaction")
    code, report = check(root, CheckData(), tmp_path)
    crossing = found(report)["recordings-cross-split"]
    assert code == 1
    assert crossing["remedy"].endswith(r"--data.group-pattern 'seq\d+'")
    assert all(len({path.split("_")[-2] for path in paths(i)}) == 1 for i in crossing["items"])
    code, report = check(root, CheckData(group_pattern=r"seq\d+"), tmp_path)
    assert code == 0 and not {kind for kind in found(report) if "cross" in kind}


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
def test_odd_files_do_not_break_the_report(full: bool, tmp_path: Path) -> None:
    files = sorted(real_data("odd").iterdir())
    for number, file in enumerate(files):
        folder = tmp_path / "videos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).symlink_to(file)
    code, report = check(tmp_path / "videos", CheckData(full=full), tmp_path)
    assert code == 1 and report["videos"] == len(files)
    bad = {Path(item["path"]).name for item in found(report)["unreadable"]["items"]}
    assert {"audio_only.mp4", "derived_zero_byte.mp4", "lfs_pointer_not_video.mp4"} <= bad
    assert "corrupt_mid_stream.mp4" in bad or not full
    assert not bad & {"av1_24frames.mp4", "vfr_webcam_fall.mp4", "vp9_no_duration.webm"}


def test_a_mix_of_lights_fields_and_shapes_is_counted(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def add(name: str, sar: Fraction | None, **more: Any) -> None:
        pictures = list(clip(place(500 + len(name)), len(name)))
        draw = pictures.__getitem__
        write_disc(clean / name, 64, 64, sar, frames=12, draw=draw, **more)

    add("a/hdr.mp4", None, codec="libx265", pix_fmt="yuv420p10le", color_trc=16)
    fields = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    add("b/fields.mp4", Fraction(16, 11), options=fields)
    code, found = check(clean, SMALL, tmp_path)
    assert code == 0
    kinds = {one["kind"]: one for one in found["findings"]}
    assert [one["path"] for one in kinds["hdr"]["items"]] == ["a/hdr.mp4"]
    assert [one["path"] for one in kinds["interlaced"]["items"]] == ["b/fields.mp4"]
    assert kinds["hdr"]["summary"].startswith("1 of 14 videos is HDR (PQ 1), the others not: ")
    assert found["facts"]["pixel_aspects"] == {"1:1": 13, "16:11": 1}
    assert found["facts"]["lights"] == {"sdr": 13, "pq": 1}
    assert (found["facts"]["interlaced"], found["facts"]["alpha"]) == (1, 0)
    said = capsys.readouterr().out
    assert "not square: 16:11 (1); shown as players do" in said
    code, found = check(clean, replace(SMALL, pixel_aspect="stored"), tmp_path)
    [stored] = [one for one in found["findings"] if one["kind"] == "stored"]
    first = "1 of 14 videos has pixels that are not square (16:11), read as they are stored, "
    assert stored["summary"].startswith(first)
    assert [one["path"] for one in stored["items"]] == ["b/fields.mp4"]
    assert "not square: 16:11 (1); read as they are stored" in capsys.readouterr().out
    assert "- 1 of 14 videos is interlaced, the others not:" in said
