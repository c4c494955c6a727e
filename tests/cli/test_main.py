import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slowfast_dist.cli.main import main, one_line_for_mistakes
from slowfast_dist.cli.parser import parse_training
from slowfast_dist.cli.presets import preset_names
from slowfast_dist.config.checks import flag_types
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.training import Config

REPOSITORY = Path(__file__).resolve().parents[2]
ROOT = ["--data.root", "videos"]


def parsed(*arguments: str) -> Config:
    config = parse_training(arguments)
    assert config is not None
    return config


def mistake(*arguments: str) -> str:
    with pytest.raises(UserError) as error:
        parse_training(arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


def run(*command: str, rank: int | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "RANK"}
    if rank is not None:
        environment |= {
            "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
        }  # fmt: skip
    return subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )


# Precedence and spelling


def test_flags_go_over_files_and_later_files_over_earlier_ones_and_the_preset(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("epochs: 101\nseed: 101\nlog_every: 101\n")
    second.write_text("epochs: 102\nseed: 102\n")
    files = ["--config", str(first), str(second)]
    config = parsed("demo", "--epochs", "103", *files)
    assert (config.epochs, config.seed, config.log_every) == (103, 102, 101)
    assert config.model.name == "slowfast_tiny"  # the preset's
    assert config.evaluation == Config().evaluation  # the dataclass's
    assert parsed("demo", f"--config={first}", f"--config={second}", "--epochs=103") == config
    assert parsed("demo", "--config", str(second), str(first)).seed == 101


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--data.flip"], True),
        (["--data.flip", "true"], True),
        (["--data.flip", "false"], False),
        (["--data.flip=true"], True),
        (["--data.flip=false"], False),
        (["--data.flip=False"], False),
        (["--data.flip", "--seed", "3"], True),
        (["--data.flip", "false", "--data.flip"], True),
    ],
)
@pytest.mark.parametrize("preset", ["finetune", "original"])
def test_the_ways_to_write_a_boolean(preset: str, words: list[str], value: bool) -> None:
    assert parsed(preset, *ROOT, *words).data.flip is value


@pytest.mark.parametrize(
    "words", [["256", "300"], ["256 300"], ["256,300"], ["[256, 300]"], ["(256, 300)"]]
)
def test_two_numbers_may_come_as_one_word(words: list[str]) -> None:
    assert parsed(*ROOT, "--data.short-side", *words).data.short_side == (256, 300)
    first, *rest = words
    assert parsed(*ROOT, f"--data.short-side={first}", *rest).data.short_side == (256, 300)


def test_what_a_wandb_sweep_writes_behind_the_preset_is_understood() -> None:
    config = parsed(
        "original",
        *ROOT,
        "--data.num_frames=8",
        "--data.crop-size=64",
        "--optimizer.lr=1e-05",
        "--data.flip=True",
        "--optimizer.clip_norm=None",
        "--data.short_side=[64, 96]",
        "--wandb.tags=a",
    )
    assert config.data.num_frames == 8 and config.optimizer.lr == 1e-5 and config.data.flip
    assert config.optimizer.clip_norm is None and config.data.short_side == (64, 96)
    assert config.wandb.tags == ("a",)


def test_none_a_negative_number_and_a_value_with_a_dash() -> None:
    config = parsed("finetune", *ROOT, "--optimizer.clip-norm", "none", "--wandb.name=-x")
    assert config.optimizer.clip_norm is None and config.wandb.name == "-x"
    assert mistake(*ROOT, "--seed", "-1").startswith("--seed -1: ")


def test_a_presets_name_is_a_value_where_a_value_is_due() -> None:
    assert parsed("--data.root", "demo").data.root == Path("demo")
    assert parsed("original", *ROOT, "--wandb.tags", "a", "demo").wandb.tags == ("a", "demo")
    assert parsed(*ROOT, "--wandb.tags=demo").wandb.tags == ("demo",)


# Mistakes


@pytest.mark.parametrize(
    "words",
    [
        ["--epochs", "3", "demo"],
        ["--data.flip", "demo"],
        ["--wandb.tags", "a", "demo"],
        ["--data.short-side", "64", "demo"],
        ["--config", "configs/demo.yaml", "demo"],
    ],
)
def test_a_preset_behind_the_flags_is_refused(words: list[str]) -> None:
    assert mistake(*words) == ("demo: a preset comes before the flags: python train.py demo ...")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epocs", "3"], "--epocs: unknown flag: did you mean --epochs?"),
        (["--lr=3"], "--lr: unknown flag: did you mean --optimizer.lr?"),
        (["--data.no-flip"], "--data.no-flip: unknown flag: did you mean --data.flip?"),
        (["-epochs", "3"], "-epochs: unknown flag: did you mean --epochs?"),
        (["--confg", "a"], "--confg: unknown flag: did you mean --config?"),
        (["--zzzzz"], "--zzzzz: unknown flag: --help lists them all"),
        (["--epochs", "abc"], "--epochs abc: give a whole number"),
        (["--epochs="], "--epochs : give a whole number"),
        (["--epochs"], "--epochs: a value is missing: give a whole number"),
        (["--epochs", "--seed", "3"], "--epochs: a value is missing: give a whole number"),
        (["--epochs", "3", "4"], "4: belongs to no flag"),
        (["--data.flip", "maybe"], "--data.flip maybe: give true or false"),
        (["--optimizer.lr", "fast"], "--optimizer.lr fast: give a number"),
        (["--optimizer.clip-norm", "x"], "--optimizer.clip-norm x: give a number or none"),
        (["--model.freeze", "x"], "--model.freeze x: give a whole number, none, backbone or auto"),
        (["--data.num-workers", "x"], "--data.num-workers x: give a whole number or auto"),
        (["--data.short-side", "256"], "--data.short-side 256: give two whole numbers"),
        (["--augment.speed", "0.8"], "--augment.speed 0.8: give two numbers"),
        (["--mixed-precision", "x"], "--mixed-precision x: give auto, no, bf16 or fp16"),
        (["--config"], "--config: a value is missing"),
        (["--config", "demo"], "write it before the flags: python train.py demo ..."),
        (["demo", "original"], "original: a second preset beside demo"),
        (["finetun"], "did you mean finetune?"),
        (["configs/demo.yaml"], "write --config configs/demo.yaml"),
        (["configs"], "write --data.root configs"),
    ],
)
def test_a_mistake_is_one_line_with_a_remedy(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert message in mistake(*words)


@pytest.mark.parametrize("start", [["train.py"], ["-m", "slowfast_dist", "train"]])
def test_a_mistake_ends_the_program_with_one_line_and_code_2(start: list[str]) -> None:
    done = run(*start, "--epochs", "abc")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --epochs abc: give a whole number\n"


def test_without_videos_it_says_how_to_give_some() -> None:
    done = run("train.py")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "--data.root" in done.stderr and "python train.py demo" in done.stderr


def test_of_several_processes_rank_0_speaks_and_ends_first() -> None:
    program = "import time; time.sleep = print; from slowfast_dist.cli.main import main; main()"
    first = run("-c", program, "train", "--epocs", "3", rank=0)
    started = time.perf_counter()
    other = run("train.py", "--epocs", "3", rank=1)
    other_seconds = time.perf_counter() - started
    assert (first.returncode, other.returncode) == (2, 2)
    assert first.stdout == "" and "did you mean --epochs?" in first.stderr  # it did not sleep
    # Where a launcher has not ended it by then, it may be the only one with the mistake.
    assert other.stdout == "" and other.stderr.startswith("error: process 1: --epocs")
    assert other_seconds > 2
    help_of_other = run("train.py", "--help", rank=1)
    assert (help_of_other.returncode, help_of_other.stdout, help_of_other.stderr) == (0, "", "")


@pytest.mark.parametrize(("kind", "code"), [(UserError, 2), (RunError, 1)])
def test_errors_meant_for_the_user_show_no_traceback(
    kind: type[Exception], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, one_line_for_mistakes():
        raise kind("--data.root x: no\nvideos")
    assert ended.value.code == code
    assert capsys.readouterr().err == "error: --data.root x: no videos\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match="deep inside"), one_line_for_mistakes():
        raise ValueError("deep inside")


# Help


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from slowfast_dist.cli.main import main; main(['train', 'demo', '--help']); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    loaded = set(run("-c", code).stderr.split())
    heavy = {"torch", "accelerate", "wandb", "sklearn", "decord", "av", "cv2", "numpy"}
    assert "tyro" in loaded and not loaded & heavy
    # CPU time, against that of a part of it: the machine may be busy. It is less than 4 times.
    assert cpu_seconds("train.py", "--help") < 10 * cpu_seconds("-c", "import tyro, yaml")


def cpu_seconds(*command: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run(*command).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_shows_every_flag_with_a_text_and_the_presets() -> None:
    text = run("train.py", "--help").stdout
    assert "[PRESET] [--config FILE ...]" in text
    for name in preset_names():
        assert f"  {name} " in text
    lines = [line.strip("│ ") for line in text.splitlines()]
    for flag in flag_types(Config):
        at = next(i for i, line in enumerate(lines) if f"{line} ".startswith(f"--{flag} "))
        following = lines[at + 2] if lines[at].endswith(",") else lines[at + 1]
        assert following and not following.startswith(("(default", "--")), flag


def test_the_defaults_in_the_help_are_those_of_preset_and_files(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("seed: 4711\n")
    text = run("train.py", "original", "--config", str(tmp_path / "my.yaml"), "--help").stdout
    text = " ".join(text.replace("│", " ").split())
    assert "(default: 4711)" in text
    assert "(default: 'runs/original-{timestamp}')" in text
    assert "its aspect ratio kept, with black borders. (default: square)" in text
    assert "(default: adam)" in text


def test_help_may_be_cut_short_by_a_pipe() -> None:
    command = f"{sys.executable} train.py --help | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.startswith("usage: ") and done.stderr == ""


# Commands


def test_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    listed = capsys.readouterr().out
    main(["--help"])
    assert capsys.readouterr().out == listed
    assert "\n  train " in listed and "\n  make-demo " in listed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "error: trian: no such command: did you mean train?\n"),
        (
            ["xyz"],
            "error: xyz: no such command: give one of train, cross-validate, tune, pretrain, "
            "evaluate, predict, embed, export, adopt, report, model-card, serve, review, suggest, "
            "check-data, prepare, import, benchmark, make-demo\n",
        ),
        (["make-demo"], "error: make-demo takes the folder to make"),
        (["make-demo", "a", "b"], "error: make-demo takes the folder to make"),
    ],
)
def test_a_wrong_command_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(message)


def test_ctrl_c_behind_the_end_of_a_command_shows_no_traceback() -> None:
    """As in a destructor of torch's, which may run long after the last line was printed."""
    code = """
import atexit, os, signal
atexit.register(os.kill, os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
from slowfast_dist.cli.start import main
main(["benchmark"])
"""
    done = run("-c", code)
    assert done.returncode == -signal.SIGINT and done.stderr == ""
    assert "usage: python -m slowfast_dist benchmark" in done.stdout
