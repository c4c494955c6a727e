"""What the main process does with an epoch: metrics, logs, the best model, the checkpoint."""

import atexit
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.split import write_split
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.metrics import scores as metrics
from slowfast_dist.metrics.summary import HardVideo, Predictions, hardest_videos
from slowfast_dist.metrics.task import SeveralLabels, Task, task_of
from slowfast_dist.metrics.unknown import UNKNOWN
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.report.card import card_body
from slowfast_dist.report.command import write_report
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.runs.checkpoint import Checkpoint, save_checkpoint
from slowfast_dist.runs.logs import SampleLog, TrainingLog
from slowfast_dist.runs.metrics_file import AT_END, MetricsFile, read_metrics
from slowfast_dist.system.files import sync_file
from slowfast_dist.system.log import logger
from slowfast_dist.tracking.console import epoch_table
from slowfast_dist.tracking.wandb_late import remember
from slowfast_dist.tracking.wandb_media import hardest_table
from slowfast_dist.tracking.wandb_run import open_wandb
from slowfast_dist.tracking.wandb_upload import run_facts
from slowfast_dist.training.at_end.answers import prepare_answers
from slowfast_dist.training.at_end.closing import closing_message, preempted_message
from slowfast_dist.training.at_end.maps import maps_of
from slowfast_dist.training.at_end.panels import show_panels
from slowfast_dist.training.at_end.test_rows import (
    test_facts,
    test_line,
    write_test_predictions,
)
from slowfast_dist.training.best.divergence import Divergence
from slowfast_dist.training.best.tracker import BestModelTracker, Run
from slowfast_dist.training.evaluation import Scores
from slowfast_dist.training.state import COLUMNS


@dataclass(frozen=True)
class EpochResult:
    """One epoch over all processes. ``rows`` int64 (N, width) as in `EpochHistory`."""

    epoch: int
    global_step: int
    train_loss: float
    rows: NDArray[np.int64]
    scores: Scores | None
    values: dict[str, Any]


class Recorder:
    """Writes the run folder; only the main process has one."""

    def __init__(self, run: Run, state: Mapping[str, Any] | None) -> None:
        """``state``: that of the checkpoint from which the run goes on, if it does.

        Raises UserError for a metric to monitor that this number of classes does not have.
        """
        config, folder, videos, environment = run.config, run.folder, run.videos, run.environment
        classes, monitor = videos.classes, config.checkpoint.monitor
        if monitor.endswith("top5_accuracy") and len(classes) <= metrics.TOP_K:
            raise UserError(
                f"--checkpoint.monitor {monitor}: there are only {len(classes)} classes; use "
                f"{monitor.replace('top5_', '')}"
            )
        if config.evaluation.unknown_recall is not None and UNKNOWN in classes:
            raise UserError(
                f"--evaluation.unknown-recall {config.evaluation.unknown_recall}: there is a class "
                f"{UNKNOWN!r}, which is what predict would say: rename it"
            )
        self.config, self.folder, self.videos = config, folder, videos
        self.task = task_of(config.loss.name)
        # A new run is one that goes on from before its first step.
        earlier = state["recorder"] if state else {}
        epoch, step, global_step = (
            (state["epoch"], state["step"], state["global_step"]) if state else (0, 0, 0)
        )
        self.divergence = Divergence(run, earlier.get("diverged"))
        self.earlier_seconds: float = earlier.get("seconds", 0.0)
        self.started = time.monotonic()
        self.saved_at: int | None = global_step if state else None
        # Before anything is written: it may refuse what was asked for.
        self.wandb = open_wandb(
            config.wandb, folder.root, run_facts(config, environment), earlier.get("wandb_id")
        )
        remember(folder.root, config.wandb, self.wandb)
        folder.describe(config, classes, environment)
        if videos.was_split:
            train, val = videos.train, videos.val
            if videos.ways:  # none of which is a class of a video
                train, val, classes = train.per_file(), val.per_file(), ("",) * len(classes)
            write_split(folder.root / "split.csv", classes, train, val)
        self.unreadable = list(videos.rejected) + (folder.read_unreadable() if state else [])
        folder.list_unreadable(self.unreadable)
        self.metrics = MetricsFile(folder.metrics)
        self.metrics.truncate_after(global_step, epoch)
        self.best = BestModelTracker(run, earlier.get("best"))
        # Epochs up to here do not count where what was the best of them does no more.
        forgotten = bool(earlier.get("best")) and self.best.state is None
        self.patience_from: int = epoch if forgotten else earlier.get("patience_from", 0)
        self.log = TrainingLog(folder.training_log)
        self.samples = SampleLog(folder.samples, videos.train.sample)
        # Its rows come an epoch at a time: those of the running one are in the checkpoint.
        self.samples.truncate_after(global_step - step)
        self.hardest: tuple[int, list[HardVideo]] | None = None  # to be shown on wandb
        self.report_failed = False
        folder.set_status("running")

    def step(self, epoch: int, global_step: int, values: dict[str, float]) -> None:
        """Write a step row; ``values`` by their names in metrics.jsonl."""
        row = self.metrics.write("step", epoch=epoch, global_step=global_step, **values)
        self.wandb.log_step(row)

    def epoch(self, result: EpochResult, network: SlowFast) -> None:
        """Write the epoch's row, table and log, and the best model if it is that."""
        scores = result.scores
        row: dict[str, Any] = {"epoch": result.epoch, "global_step": result.global_step}
        task = self.task
        if scores is not None:
            task = task.fitted(scores.logits, scores.labels)
        row |= self._train_metrics(result, task)
        if scores is not None:
            row |= {f"val/{name}": value for name, value in scores.metrics(task).items()}
        row |= result.values
        row["best"] = self.best.is_worse_than(row)
        if row["best"]:
            self.best.save(row, scores, network, task)
        if self.config.log_samples:
            self.samples.epoch(result.rows)
        written = self.metrics.write("epoch", **row)
        saved = self.folder.models / "best_model_weights.pth" if row["best"] else None
        epochs, classes = self.config.epochs, len(self.videos.classes)
        self.log.epoch(written, epochs, classes, saved)
        logger.info(epoch_table(written, epochs, classes))
        self.wandb.log_epoch(written)
        if row["best"]:
            self.wandb.summarise_best(written)
        if scores is not None:
            self.divergence.judge(result.epoch, row["val/loss"])
            self._record_classes(result.epoch, result.global_step, scores, row["best"], task)
        self._draw_report()

    def has_average(self, global_step: int) -> bool:
        """Whether the average of the last epochs was recorded already, by a run that was killed
        before it said that it had ended."""
        known = [row for row in read_metrics(self.metrics.path) if row["kind"] == "average"]
        if not known or known[-1]["global_step"] != global_step:
            return False
        return not known[-1].get("best") or "averaged_epochs" in (self.best.state or {})

    def average(
        self, epochs: int, epoch: int, global_step: int, scores: Scores, network: SlowFast
    ) -> bool:
        """Write the row of the average over the last ``epochs`` up to ``epoch``, and the best model
        if it is that; returns whether it is."""
        task = self.task.fitted(scores.logits, scores.labels)
        row: dict[str, Any] = {"epoch": epoch, "global_step": global_step}
        row["averaged_epochs"] = epochs
        row |= {f"val/{name}": value for name, value in scores.metrics(task).items()}
        row["best"] = self.best.is_worse_than(row)
        if row["best"]:
            self.best.save(row, scores, network, task)
        written = self.metrics.write("average", **row)
        title = f"last {epochs} epochs"
        logger.info(epoch_table(written, epoch, len(self.videos.classes), title))
        if row["best"]:
            self.wandb.summarise_best(written)
            self._record_classes(epoch, global_step, scores, True, task)
        return bool(row["best"])

    def _draw_report(self) -> None:
        """Once all is written; a page that cannot be written costs a line, once."""
        failed_before, self.report_failed = self.report_failed, False
        try:
            write_report(self.folder.root, videos=self.videos.val)
        except Exception as error:  # whatever is wrong with the page, the training is worth more
            self.report_failed = True
            if not failed_before:
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                logger.info(f"report.html: cannot be written ({reason})")

    def _train_metrics(self, result: EpochResult, task: Task) -> dict[str, Any]:
        """Those of several labels that need thresholds, which a validation chooses, are there in
        epochs that have one."""
        samples, videos, labels, predictions, hits, _ = result.rows[:, :COLUMNS].T
        if isinstance(task, SeveralLabels):
            logits = result.rows[:, COLUMNS:].astype(np.int32).view(np.float32)
            of_classes = task.scores(logits, train_targets(result.rows, self.videos))
        else:
            of_classes = metrics.classification_metrics(
                labels, predictions, len(self.videos.classes), int(hits.sum())
            )
        # Gaps are drawn by chance: some more often, some not at all.
        background = self.videos.background
        fixed = len(self.videos.train) if background is None else background.first
        seen = np.bincount(samples, minlength=fixed)[:fixed]
        return {
            "train/loss": result.train_loss,
            **{f"train/{name}": value for name, value in of_classes.items()},
            "train/samples_once": int(np.sum(seen == 1)),
            "train/samples_more": int(np.sum(seen > 1)),
            "train/samples_never": int(np.sum(seen == 0)),
            "train/samples_replaced": int(np.sum(samples != videos)),
        }

    def _record_classes(
        self, epoch: int, global_step: int, scores: Scores, best: bool, task: Task
    ) -> None:
        classes, val, labels = self.videos.classes, self.videos.val, scores.labels
        of_classes = task.per_class(scores.logits, labels, classes)
        told: dict[str, Any] = {"per_class": of_classes}
        if not task.several:  # of several labels none stands for another
            matrix = metrics.confusion(labels, task.decisions(scores.logits), len(classes))
            told["confusion"] = matrix.tolist()
            self.wandb.log_confusion(matrix, classes)
        self.metrics.write("classes", epoch=epoch, global_step=global_step, **told)
        if best:
            self.wandb.log_per_class(epoch, of_classes)
            names = [val.sample(video) for video in scores.videos]
            scored = Predictions.from_logits(names, labels, scores.logits, classes, task)
            self.hardest = epoch, hardest_videos(scored, self.config.wandb.hardest)
            self._show_hardest()
        if scores.unreadable:
            videos = [(val.sample(failure.video), failure.reason) for failure in scores.unreadable]
            self.add_unreadable(videos, "validation")
            kind = "videos" if val.segments is None else "segments"
            logger.info(
                f"validation: {len(scores.unreadable)} {kind} could not be read: "
                f"{self.folder.root / 'unreadable_videos.csv'} lists them"
            )

    def _show_hardest(self, at_end: bool = False) -> None:
        """On wandb, unless that would take too large a share of the run's time."""
        if self.hardest is None or not self.config.wandb.hardest:
            return
        epoch, hardest = self.hardest
        videos, data = self.videos.val, self.config.data
        if self.wandb.log_hardest(epoch, lambda: hardest_table(hardest, videos, data), at_end):
            self.hardest = None

    def add_unreadable(self, videos: list[tuple[str, str]], where: str) -> None:
        """Add (path below the root, reason) of videos to unreadable_videos.csv."""
        known = len(self.unreadable)
        listed = {path for path, _, _ in self.unreadable}
        self.unreadable += [(*video, where) for video in videos if video[0] not in listed]
        if len(self.unreadable) > known:
            self.folder.list_unreadable(self.unreadable)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Save a resumable checkpoint, with what this recorder needs to go on in its state."""
        state = checkpoint.state
        state["recorder"] = {
            "best": self.best.state, "wandb_id": self.wandb.id, "seconds": self.seconds,
            "head": self.best.run.head, "diverged": self.divergence.state,
            "patience_from": self.patience_from,
        }  # fmt: skip
        # A resume from it drops what is later and writes nothing of what is earlier again.
        for file in (self.folder.metrics, self.folder.training_log, self.folder.samples):
            sync_file(file)
        path = save_checkpoint(self.folder.checkpoints, checkpoint, self.config.checkpoint.keep)
        self.saved_at = state["global_step"]
        self.metrics.write(
            "checkpoint", epoch=state["epoch"], global_step=state["global_step"],
            path=str(path.relative_to(self.folder.root)),
        )  # fmt: skip

    def time_is_up(self, epoch: int, seconds: float) -> bool:
        """Whether what is still to come with another epoch after ``epoch``, which is expected to
        take so long, would go beyond --hours."""
        hours = self.config.hours
        if hours is None or epoch == self.config.epochs:
            return False
        up = self.seconds + seconds > 3600 * hours
        if up:
            logger.info(
                f"epoch {epoch} of {self.config.epochs} is the last: another one would go beyond "
                f"--hours {hours:g}"
            )
        return up

    def patience_is_over(self, epoch: int) -> bool:
        """Whether ``epoch``, which is written, is too long after the best one; without one, after
        the run's begin, or the resume that took another metric to monitor."""
        patience, best = self.config.patience, self.best.state
        if patience is None or epoch == self.config.epochs or epoch % self.config.evaluation.every:
            return False
        since = epoch - (best["epoch"] if best else self.patience_from)
        if since >= patience:
            logger.info(
                f"epoch {epoch} of {self.config.epochs} is the last: no better "
                f"{self.best.monitor} for {since} epochs (--patience {patience})"
            )
        return since >= patience

    @property
    def seconds(self) -> float:
        """Spent on this run so far, also before a resume."""
        return self.earlier_seconds + time.monotonic() - self.started

    def has_sound_best(self) -> bool:
        """Whether there is a best model, and the training did not diverge after it."""
        return self.best.state is not None and self.divergence.state is None

    def test(self, best: BestModel, test: VideoTable, scores: Scores) -> None:
        """Write what the ``best`` model says of the rows of split test, whose ``scores`` they are:
        once, behind the last epoch."""
        if not len(scores.videos):
            logger.warning(f"none of the {len(test)} videos of split test can be read")
            return
        facts = test_facts(best, test, scores)
        write_test_predictions(self.folder, best, test, scores)
        row = {"epoch": best.epoch, "global_step": self.saved_at or 0, **facts}
        self.wandb.summarise_best(self.metrics.write(AT_END, **row))
        self.best.add_test(facts)
        self.add_unreadable(
            [(test.sample(one.video), one.reason) for one in scores.unreadable], "test"
        )
        logger.info(test_line(facts))

    def finish(self) -> dict[str, Any]:
        """Close everything; returns where the run is and its best epoch.

        Raises RunError where the training diverged: such a run is none that finished.
        """
        self.log.finish(self.seconds)
        self.divergence.raise_if_diverged(self.best.state)
        self.folder.set_status("finished")
        self._draw_report()
        if self.best.state is not None:
            self._explain_hardest()
            prepare_answers(self.best.run, self.seconds)
        logger.info(
            closing_message(self.best.run, self.best.state, self.seconds, not self.report_failed)
        )
        if self.best.state is not None:
            self._show_hardest(at_end=True)
            show_panels(self.best.run, self.best.state, self.metrics, self.wandb)
            self.wandb.log_model(self.folder.models, card_body(self.folder.models))
        self.wandb.finish(0)  # may take minutes to upload: everything else is done by now
        return self._summary("finished")

    def _explain_hardest(self) -> None:
        """Maps for the page, which is there without them: a signal, too, now costs them alone."""
        if self.config.report.explain:
            line, changed = maps_of(self.best.run, self.seconds)
            if line is not None:
                logger.info(line)
            if changed:
                self._draw_report()

    def preempt(self) -> dict[str, Any]:
        """The run was asked to stop; its checkpoint is saved."""
        self.folder.set_status("preempted")
        self._draw_report()
        logger.info(preempted_message(self.folder, self.saved_at))
        # Launchers kill what takes longer than 30 s, and the checkpoint came first.
        self.wandb.finish(0, 20.0)
        return self._summary("preempted")

    def _summary(self, status: str) -> dict[str, Any]:
        root = str(self.folder.root)
        return {"output_dir": root, "status": status, "best": self.best.state}

    def fail(self) -> None:
        """The run ends by an error, perhaps that of a full disk."""
        with suppress(OSError):
            self.folder.set_status("failed")
        with suppress(Exception):
            write_report(self.folder.root, videos=self.videos.val)
        # It may take minutes without a network: after the error was said and the others were ended.
        atexit.register(self.wandb.finish, 1)


def train_targets(rows: NDArray[np.int64], videos: VideoSet) -> NDArray[np.bool_]:
    """(N, K): which of several labels each clip had, of rows as in `EpochHistory`."""
    targets = videos.train.targets(rows[:, 1])
    if videos.swaps is not None:
        mirrored = rows[:, 3] == 1
        targets[mirrored] = targets[mirrored][:, videos.swaps]
    return targets
