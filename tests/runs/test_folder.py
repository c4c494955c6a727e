"""Who may start in a run's folder, and from where."""

import pickle
from pathlib import Path

import pytest
import torch

from slowfast_dist.config.errors import UserError
from slowfast_dist.runs.checkpoint import Checkpoint, save_checkpoint
from slowfast_dist.runs.folder import Length, RunFolder, open_run


def save(folder: Path, step: int) -> Path:
    state = {"global_step": step}
    return save_checkpoint(folder, Checkpoint({"w": torch.zeros(2)}, {}, {}, state), keep=9)


def test_a_folder_that_holds_a_run_is_refused_with_both_ways_on(tmp_path: Path) -> None:
    RunFolder(tmp_path).set_status("failed")
    with pytest.raises(UserError) as error:
        open_run(tmp_path, "never")
    assert str(tmp_path) in str(error.value)
    assert "--resume auto" in str(error.value) and "new --output-dir" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["status"]


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_a_folder_in_use_is_refused(tmp_path: Path, resume: str) -> None:
    first = open_run(tmp_path / "run", resume)
    with pytest.raises(UserError, match="--output-dir .*run is in use by a run on .*: stop it, or"):
        open_run(tmp_path / "run", resume)
    pickle.loads(pickle.dumps(first)).release()  # as another process gets it: not its own
    with pytest.raises(UserError, match="in use"):
        open_run(tmp_path / "run", resume)
    first.release()
    open_run(tmp_path / "run", resume).release()


def test_a_mistake_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint there"):
        open_run(tmp_path / "run", str(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []
    start = open_run(tmp_path / "run", "never")
    start.release()
    start.folder.remove_if_empty()
    assert list(tmp_path.iterdir()) == []


def test_any_other_folder_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    start = open_run(tmp_path, "never")
    assert start.checkpoint is None
    start.release()


def test_the_time_of_the_start_names_a_new_folder(tmp_path: Path) -> None:
    start = open_run(tmp_path / "demo-{timestamp}", "never")
    assert start.folder.root.is_dir() and start.folder.root.name.startswith("demo-20")
    start.release()
    with pytest.raises(UserError, match="--output-dir of the run"):
        open_run(tmp_path / "demo-{timestamp}", "auto")


def test_auto_starts_where_nothing_was_saved_yet(tmp_path: Path) -> None:
    for folder in (tmp_path / "new", tmp_path):
        RunFolder(tmp_path).set_status("failed")
        start = open_run(folder, "auto")
        assert start.checkpoint is None and not start.finished
        assert "step 0" in start.messages[-1]
        start.release()


def test_auto_takes_the_newest_valid_checkpoint_and_says_what_it_skips(tmp_path: Path) -> None:
    good, damaged = (save(tmp_path / "checkpoints", step) for step in (3, 5))
    (damaged / "model.safetensors").write_bytes(b"cut")
    start = open_run(tmp_path, "auto")
    assert start.checkpoint == good
    assert "step_00000005" in start.messages[0] and "damaged" in start.messages[0]
    start.release()


def test_auto_never_starts_over_silently(tmp_path: Path) -> None:
    damaged = save(tmp_path / "checkpoints", 5)
    (damaged / "manifest.json").unlink()
    with pytest.raises(UserError, match="no checkpoint .* is valid"):
        open_run(tmp_path, "auto")
    recorded = tmp_path / "recorded"
    recorded.mkdir()
    (recorded / "metrics.jsonl").write_text('{"kind": "checkpoint", "global_step": 5}\n')
    with pytest.raises(UserError, match="are gone"):
        open_run(recorded, "auto")


def test_a_finished_run_is_finished(tmp_path: Path) -> None:
    RunFolder(tmp_path).set_status("finished")
    for _ in range(2):  # which needs no lock
        assert open_run(tmp_path, "auto").finished
    assert [path.name for path in tmp_path.iterdir()] == ["status"]


def test_a_finished_run_goes_on_where_more_epochs_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("epochs: 2\n")
    RunFolder(tmp_path).set_status("finished")
    for epochs in (1, 2, None):
        assert open_run(tmp_path, "auto", Length(epochs)).finished
    with pytest.raises(UserError, match=r"--epochs 4: .* checkpoints.* are gone.*--model.weights"):
        open_run(tmp_path, "auto", Length(4))  # and never begun anew over what is there
    path = save(tmp_path / "checkpoints", 5)
    start = open_run(tmp_path, "auto", Length(4))
    assert (start.checkpoint, start.finished) == (path, False)
    start.release()
    (tmp_path / "config.yaml").write_text("epochs: [2\n")  # says nothing
    assert open_run(tmp_path, "auto", Length(4)).finished


def test_a_run_that_ended_early_goes_on_where_what_ended_it_is_more(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("epochs: 9\nhours: 0.5\npatience: 2\n")
    row = '{"kind": "epoch", "epoch": %d, "global_step": 5}\n'
    (tmp_path / "metrics.jsonl").write_text(row % 4)
    RunFolder(tmp_path).set_status("finished")
    save(tmp_path / "checkpoints", 5)
    for same in (Length(9, 0.5, 2), Length(9, 0.4, 1)):
        over = open_run(tmp_path, "auto", same)
        assert over.finished
        assert "after epoch 4 of 9, by --hours 0.5 and --patience 2: with more" in over.messages[0]
    for more in (Length(9, 1.0, 2), Length(9, 0.5, 3), Length(9, None, 2), Length(9, 0.5, None)):
        start = open_run(tmp_path, "auto", more)
        assert start.checkpoint is not None and not start.finished
        start.release()
    (tmp_path / "metrics.jsonl").write_text(row % 9)  # all of its epochs
    assert open_run(tmp_path, "auto", Length(9, 1.0, 3)).finished
    (tmp_path / "metrics.jsonl").write_text("")
    assert open_run(tmp_path, "auto", Length(9, 1.0, 3)).finished


def test_a_folder_whose_run_was_stopped_before_its_first_step_is_used_again(
    tmp_path: Path,
) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    path = save(other / "checkpoints", 5)
    for resume in ("never", "auto", str(path)):
        RunFolder(run).set_status("preempted")
        (run / "config.yaml").write_text("epochs: 2\n")
        start = open_run(run, resume)
        assert start.checkpoint == (path if resume == str(path) else None)
        assert any(word in start.messages[0] for word in ("begun anew", "starting at step 0"))
        start.release()
    (run / "metrics.jsonl").write_text("")
    open_run(run, "never").release()
    (run / "metrics.jsonl").write_text('{"kind": "step", "epoch": 1, "global_step": 1}\n')
    with pytest.raises(UserError, match="holds a run already"):
        open_run(run, "never")
    (run / "metrics.jsonl").unlink()
    save(run / "checkpoints", 1)
    with pytest.raises(UserError, match="holds a run already"):
        open_run(run, "never")


def test_a_checkpoint_may_be_continued_in_its_run_or_a_new_folder(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    path = save(run / "checkpoints", 5)
    for folder in (run, other):
        RunFolder(run).set_status("failed")
        start = open_run(folder, str(path))
        assert start.checkpoint == path
        start.release()
    RunFolder(other).set_status("failed")
    with pytest.raises(UserError, match="holds another run"):
        open_run(other, str(path))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--output-dir .*cannot create it"):
        open_run(tmp_path / "file" / "run", "never")


def test_unreadable_videos_are_listed_once_with_the_first_reason(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    rows = [("b/x.mp4", "empty file", "probe"), ("a/ü, y.mp4", "cut", "training")]
    folder.list_unreadable([*rows, ("b/x.mp4", "again", "validation")])
    assert folder.read_unreadable() == sorted(rows)
