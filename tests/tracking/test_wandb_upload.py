"""Where a run goes on wandb, and what of it: flags first, then wandb's own variables."""

import os
from pathlib import Path

import pytest

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import Config, WandbConfig
from slowfast_dist.runs.folder import describe_environment
from slowfast_dist.tracking.wandb_run import NullRun, WandbRun, open_wandb
from slowfast_dist.tracking.wandb_upload import contents, destination, run_facts

RUN = Path("/runs/first")


@pytest.mark.parametrize(
    ("environ", "mode", "asked"),
    [
        ({}, "auto", "--wandb.mode auto"),
        ({"WANDB_MODE": "offline"}, "offline", "WANDB_MODE=offline"),
        ({"WANDB_MODE": "dryrun"}, "offline", "WANDB_MODE=dryrun"),
        ({"WANDB_DISABLED": "true"}, "disabled", "WANDB_DISABLED=true"),
        ({"WANDB_DISABLED": "1", "WANDB_MODE": "online"}, "disabled", "WANDB_DISABLED=1"),
        ({"WANDB_DISABLED": "false"}, "auto", "--wandb.mode auto"),
        ({"WANDB_DISABLED": "", "WANDB_MODE": "online"}, "online", "WANDB_MODE=online"),
    ],
)
def test_variables_choose_the_mode_where_no_flag_does(
    environ: dict[str, str], mode: str, asked: str
) -> None:
    to = destination(WandbConfig(), RUN, environ)
    assert (to.mode, to.asked) == (mode, asked)
    given = destination(WandbConfig(mode="online"), RUN, environ)
    assert (given.mode, given.asked) == ("online", "--wandb.mode online")


def test_variables_choose_project_name_and_folder_where_no_flag_does(tmp_path: Path) -> None:
    to = destination(WandbConfig(), RUN, {})
    assert (to.project, to.name, to.folder) == ("slowfast_dist", "first", RUN)
    assert to.described() == "project slowfast_dist, run first"
    environ = {"WANDB_PROJECT": "team", "WANDB_NAME": "blue", "WANDB_DIR": str(tmp_path)}
    to = destination(WandbConfig(), RUN, environ)
    assert (to.project, to.name, to.folder) == ("team", "blue", tmp_path)
    assert to.described() == "project team (WANDB_PROJECT), run blue (WANDB_NAME)"
    to = destination(WandbConfig(project="own", name="red"), RUN, environ)
    assert to.described() == "project own, run red"
    empty = dict.fromkeys(environ, "")
    assert destination(WandbConfig(), RUN, empty) == destination(WandbConfig(), RUN, {})


def test_an_offline_run_obeys_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "team")
    monkeypatch.setenv("WANDB_NAME", "blue")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    run = open_wandb(WandbConfig(), tmp_path / "run", {}, None)
    assert isinstance(run, WandbRun)
    try:
        assert (run._run.project, run._run.name) == ("team", "blue")
    finally:
        run.finish()
    (folder,) = (tmp_path / "elsewhere" / "wandb").glob("offline-run-*")
    assert not (tmp_path / "run").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "wandb: offline (WANDB_MODE=offline); project team (WANDB_PROJECT), run blue (WANDB_NAME); "
    )
    assert line.endswith(f"wandb sync {folder}")


def test_a_variable_that_switches_it_off_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert isinstance(open_wandb(WandbConfig(), tmp_path / "run", {}, "abc"), NullRun)
    assert capsys.readouterr().err == "wandb: off (WANDB_DISABLED=true)\n"


def test_the_line_says_what_goes_and_what_stays() -> None:
    usual = "settings, metrics, class names, versions, load of CPU and GPU"
    assert contents(WandbConfig()) == (
        f"{usual}; no videos, no host name, paths or command line"
    )
    assert contents(WandbConfig(hardest=4, log_model=True)) == (
        f"{usual}, names and excerpts of 4 validation videos, and of as many whose label is in "
        "doubt, models/ with the weights; no host name, paths or command line"
    )
    everything = contents(WandbConfig(hardest=4, metadata=True))
    assert "git remote, installed packages, names and excerpts of 4 validation" in everything
    assert everything.endswith("videos, and of as many whose label is in doubt")


def test_settings_go_up_without_the_places_of_files() -> None:
    config = Config(
        output_dir=Path("/home/ann/runs/first"),
        resume="/home/ann/runs/before/checkpoints/step_00000120",
        data=DataConfig(root=Path("/data/secret/gestures")),
        model=ModelConfig(weights=Path("../ann/best.pth")),
    )
    environment = describe_environment("cpu", "no", 1)
    facts = run_facts(config, environment)
    assert facts["output_dir"] == "first" and facts["resume"] == "step_00000120"
    assert facts["data"]["root"] == "gestures" and facts["model"]["weights"] == "best.pth"
    assert facts["data"]["train_dir"] is None and facts["optimizer"]["lr"] == config.optimizer.lr
    assert facts["environment"]["versions"] == environment["versions"]
    text = repr(facts)
    for secret in ("ann/", "secret", "/home", environment["command"][0]):
        assert secret not in text
    assert not {"host", "command"} & facts["environment"].keys()
    asked = run_facts(Config(wandb=WandbConfig(metadata=True)), environment)
    assert asked["environment"] == environment and asked["output_dir"].startswith("runs/")
