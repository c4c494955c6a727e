"""What a page takes from metrics.jsonl of an average of epochs."""

from pathlib import Path

from slowfast_dist.report.command import write_report
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.history import read_history
from slowfast_dist.runs.metrics_file import MetricsFile
from slowfast_dist.runs.run import read_run
from tests.helpers.made_runs import made_run


def test_an_average_of_epochs_may_be_the_best(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", ["jump", "run"])
    file = MetricsFile(run / "metrics.jsonl")
    rows = read_history(file.path)
    best, last = rows.best, rows.epochs[-1]
    assert best is not None and best["epoch"] < last["epoch"] == 6
    values = {"val/loss": 0.123, "val/accuracy": 0.987, "averaged_epochs": 3}
    file.write("average", epoch=6, global_step=last["global_step"], **values, best=False)
    assert read_history(file.path).best == best
    file.write("average", epoch=6, global_step=last["global_step"], **values, best=True)
    averaged = read_history(file.path).best
    assert averaged is not None and averaged["train/loss"] == last["train/loss"]
    assert {name: averaged[name] for name in values} == values
    assert read_run(run).best_epoch == 6
    write_report(run)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "the average of the weights of the last 3 epochs" in page and "98.7" in page
    # A run that is trained further, to a better epoch.
    later = {**last, "epoch": 7, "global_step": last["global_step"] + 3, "best": True}
    file.write(**{**later, "kind": "epoch"})
    assert read_history(file.path).best == {**later, "kind": "epoch"}
    # One that goes on from before the end writes both anew.
    file.truncate_after(last["global_step"], 5)
    assert read_history(file.path).average is None
    assert RunFolder(run).metrics == file.path
