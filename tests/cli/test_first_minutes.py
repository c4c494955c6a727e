"""What a new user meets first: a Python without the package's environment, paths that are wrong,
output that nobody reads."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from slowfast_dist.cli.paths import check_paths
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import Config
from slowfast_dist.data.synthetic import make_videos
from tests.helpers.model_folders import save_models, small_config
from tests.helpers.training_runs import ROOT, TINY, launch

BEFORE = (
    "train.py", "slowfast_dist/__init__.py", "slowfast_dist/__main__.py",
    "slowfast_dist/renamed.py", "slowfast_dist/cli/__init__.py", "slowfast_dist/cli/start.py",
    "slowfast_dist/cli/environment.py",
)  # fmt: skip
"""What Python reads before it is found to be too old."""

CLASSES = ("moves left", "moves right")


def run(
    *command: str | Path, python: str = sys.executable, **env: str
) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | env
    return subprocess.run(
        [python, *map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True
    )


# Without the environment


@pytest.mark.parametrize("words", [("train.py",), ("-m", "slowfast_dist"),
                                   ("-m", "slowfast_dist", "predict", "a", "b")])  # fmt: skip
def test_without_the_environment_a_line_says_how_to_come_to_it(words: tuple[str, ...]) -> None:
    done = run("-S", *words)  # a Python that sees no package
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {sys.executable} (Python 3.") and " has no numpy, " in line
    assert "'source launch/setup.sh'" in line and "'source .venv/bin/activate'" in line


def test_of_many_tasks_without_the_environment_one_speaks() -> None:
    for name in ("RANK", "SLURM_PROCID"):
        done = run("-S", "train.py", **{name: "1"})
        assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
        assert run("-S", "train.py", **{name: "0"}).stderr.count("\n") == 1


def test_the_first_files_are_read_by_old_pythons() -> None:
    for name in BEFORE:
        ast.parse((ROOT / name).read_text(), feature_version=(3, 7))


@pytest.mark.parametrize("name", ["python3.7", "python3.8", "python3.9", "python3.10"])
def test_an_old_python_says_what_it_is(name: str) -> None:
    kept = Path.home().glob(f".pyenv/versions/*/bin/{name}")
    found = [path for path in (shutil.which(name), *map(str, kept)) if path]
    python = next((path for path in found if run("--version", python=path).returncode == 0), None)
    if python is None:
        pytest.skip(f"there is no {name}")
    for words in (("train.py", "--help"), ("-m", "slowfast_dist")):
        done = run(*words, python=python)
        (line,) = done.stderr.splitlines()
        assert done.returncode == 2
        assert "is older than 3.11" in line and "'source launch/setup.sh'" in line


# Paths that are wrong

WITHOUT_TORCH = """
import sys
from slowfast_dist.cli.main import main
try:
    main(["train", *sys.argv[1:]])
finally:
    heavy = [name for name in ("torch", "accelerate", "sklearn", "wandb") if name in sys.modules]
    assert not heavy, heavy
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 2, seed=0, size=32, frames=12, classes=CLASSES)
    return root


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--data.root {here}/none", "--data.root {here}/none: there is no such folder or CSV"),
        ("--data.root {here}/none.csv", "--data.root {here}/none.csv: there is no such folder"),
        ("--data.root {here}/file", "--data.root {here}/file: give a folder of class folders"),
        ("--data.root {here}/empty", "--data.root {here}/empty: no class folder with videos"),
        ("--data.root {here}/loose", "--data.root {here}/loose: 1 videos lie in the folder itself"),
        ("--data.root {here}/bad.csv", "--data.root {here}/bad.csv"),
        ("--data.train-dir {videos} --data.val-dir {here}/none", "--data.val-dir {here}/none: "),
        ("--data.train-dir {here}/none --data.val-dir {videos}", "--data.train-dir {here}/none: "),
        ("--data.train-dir {videos} --data.val-dir {here}/empty", "--data.val-dir {here}/empty: "),
        ("--data.root {videos} --model.weights {here}/no.pth",
         "--model.weights {here}/no.pth: there is no such file"),
        ("--data.root {videos} --resume {here}/none", "--resume {here}/none: no checkpoint there"),
        ("--data.root {videos} --output-dir {here}/file", "--output-dir {here}/file: cannot "),
        ("--data.root {videos} --output-dir {here}/file/a/b", "--output-dir {here}/file/a/b: "),
        ("--data.root {videos} --output-dir /proc/none", "--output-dir /proc/none: cannot create"),
    ],
)  # fmt: skip
def test_a_path_that_is_wrong_is_said_before_anything_slow(
    videos: Path, tmp_path: Path, words: str, said: str
) -> None:
    if "/proc" in words and not Path("/proc/self").exists():
        pytest.skip("there is no folder that nobody can write into")
    for name in ("empty", "loose"):
        (tmp_path / name).mkdir()
    for name in ("file", "loose/a.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "bad.csv").write_text("no,header\n")
    names = {"here": str(tmp_path), "videos": str(videos)}
    given = [word.format(**names) for word in words.split()]
    output = () if "--output-dir" in given else ("--output-dir", tmp_path / "run")
    done = launch("-c", WITHOUT_TORCH, *given, *output, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {said.format(**names)}"), line
    assert not (tmp_path / "run").exists()


def test_what_is_there_is_left_as_it_was(videos: Path, tmp_path: Path) -> None:
    """Also by a look at whether it can be written."""
    (tmp_path / "notes.txt").write_text("mine")
    done = launch(
        "-c", WITHOUT_TORCH, "--data.root", videos, "--output-dir", tmp_path, "--resume",
        tmp_path / "none", env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2 and os.listdir(tmp_path) == ["notes.txt"]


def test_of_several_processes_one_says_it(tmp_path: Path) -> None:
    words = ("--data.root", tmp_path / "none", "--output-dir", tmp_path / "run")
    done = launch(str(ROOT / "train.py"), *words, processes=2, fork=False)
    assert done.returncode != 0
    assert done.stderr.count(f"error: --data.root {tmp_path}/none: there is no such folder") == 1


# Output that nobody reads


@pytest.mark.parametrize(
    "words",
    [
        "--help", "train --help", "benchmark", "check-data {videos}",
        "predict {models} {videos} --json", "evaluate {models} --data {videos}",
        "model-card {models}", "export {models} --format safetensors --output {here}/a.safetensors",
        "prepare {videos} {here}/prepared",
        pytest.param("make-demo {here}/demo", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_command_whose_output_nobody_reads_ends_without_a_word(
    videos: Path, tmp_path: Path, words: str
) -> None:
    save_models(tmp_path / "models", CLASSES, small_config(videos))
    names = {"videos": videos, "models": tmp_path / "models", "here": tmp_path}
    command = [word.format(**names) for word in words.split()]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "slowfast_dist", *command], cwd=ROOT, stdout=writer,
            stderr=subprocess.PIPE, text=True,
            env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    finally:
        os.close(writer)
    assert done.returncode in (0, 141), done.stderr
    assert "Traceback" not in done.stderr and "Error" not in done.stderr
    assert "rror:" not in done.stderr, done.stderr


# A full disk


@contextmanager
def small_disk(tmp_path: Path, size: str) -> Iterator[Path]:
    """A file system of that size, where one can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or os.system(f"mount -t tmpfs -o size={size} tmpfs '{disk}' 2>/dev/null"):
        pytest.skip("mounts a small file system, so needs root")
    try:
        yield disk
    finally:
        os.system(f"umount '{disk}'")


@pytest.mark.parametrize(
    "words",
    [
        "export {models} --format safetensors --output {disk}/a.safetensors",
        pytest.param("export {models} --format pt2 --output {disk}/a.pt2", marks=pytest.mark.slow),
        "evaluate {models} --data {videos} --output {disk}/e",
        "check-data {videos} --json {disk}/a.json", "make-demo {disk}/demo",
        "prepare {videos} {disk}/p",
        pytest.param("predict {models} {videos} --segments --annotate --output {disk}/s",
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_full_disk_is_called_that(videos: Path, tmp_path: Path, words: str) -> None:
    save_models(tmp_path / "models", CLASSES, small_config(videos))
    with small_disk(tmp_path, "12k") as disk:
        with suppress(OSError), open(disk / "full", "wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        names = {"videos": videos, "models": tmp_path / "models", "disk": disk}
        command = [word.format(**names) for word in words.split()]
        done = launch("-m", "slowfast_dist", *command)
        assert done.returncode in (1, 2), done.stdout + done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
        assert re.search(rf"disk full, \d+ kB are free in {disk}", lines[0]), lines


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_on_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "slowfast_dist", "--help"], cwd=ROOT, stdout=full,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: standard output: No space left on device: disk full\n"


# After the demo


def test_the_demo_ends_with_commands_that_work(videos: Path, tmp_path: Path) -> None:
    """Its settings on fewer videos, in a folder with a space in its name."""
    output = tmp_path / "a run"
    done = launch(
        str(ROOT / "train.py"), "demo", *TINY, "--data.root", videos, "--epochs", "1",
        "--output-dir", output, "--data.val-fraction", "0.5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    begin = next(n for n, line in enumerate(printed) if line.startswith("next ("))
    assert "source launch/setup.sh" in printed[begin]
    commands = [line.strip() for line in printed[begin + 1 :]]
    assert [shlex.split(line)[:4] for line in commands][2:] == [
        ["python", "-m", "slowfast_dist", "check-data"],
        ["python", "train.py", "--data.root", "my_videos"],
    ]
    (output / "report.html").unlink()
    for line in commands[:2]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        again = subprocess.run(
            line, shell=True, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True,
            text=True,
        )  # fmt: skip
        assert again.returncode == 0, again.stderr
    assert (output / "report.html").exists()


# Lists of a run, and runs that go on


def own_split(folder: Path, videos: Path) -> Path:
    """The split.csv of a run on ``videos``, as far as it is read."""
    folder.mkdir()
    (folder / "config.yaml").write_text(f"data:\n  root: {videos}\n")
    names = [path.relative_to(videos) for path in sorted(videos.rglob("*.mp4"))]
    rows = [f"{name},{name.parent},{side},{name}" for name, side in zip(names, SIDES, strict=True)]
    (folder / "split.csv").write_text("\n".join(["path,class,split,group", *rows, ""]))
    return folder / "split.csv"


SIDES = ("train", "val") * 2


def test_a_first_look_finds_the_videos_of_a_runs_own_list(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    make_videos(videos, 2, seed=0, size=32, frames=12, classes=CLASSES)
    table = own_split(tmp_path / "run", videos)
    output = tmp_path / "out"
    check_paths(Config(data=DataConfig(root=table), output_dir=output))
    check_paths(Config(data=DataConfig(train_dir=table, val_dir=table), output_dir=output))
    shutil.rmtree(videos)
    with pytest.raises(UserError, match="files that do not exist"):
        check_paths(Config(data=DataConfig(root=table), output_dir=output))


def test_a_finished_run_needs_its_videos_no_more(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config = Config(data=DataConfig(root=tmp_path / "gone"), output_dir=run, resume="auto")
    with pytest.raises(UserError, match="data.root"):
        check_paths(config)
    (run / "status").write_text("finished\n")
    check_paths(config)


def test_a_run_that_begins_under_resume_auto_needs_its_weights(tmp_path: Path) -> None:
    """As in a job's script, which always says auto."""
    make_videos(tmp_path / "videos", 2, seed=0, size=32, frames=12, classes=CLASSES)
    config = Config(
        data=DataConfig(root=tmp_path / "videos"), output_dir=tmp_path / "run", resume="auto",
        model=ModelConfig(weights=tmp_path / "gone.pth"),
    )  # fmt: skip
    with pytest.raises(UserError, match="--model.weights .* there is no such file"):
        check_paths(config)
    (tmp_path / "run" / "checkpoints" / "step_00000001").mkdir(parents=True)
    check_paths(config)
