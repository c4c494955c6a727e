"""wandb, from the main process only: the rows of metrics.jsonl under the same names.

Nothing here may stop or hold up training. The mode is decided before wandb.init is called, as that
would ask for a key on a terminal and wait minutes for a missing network.
"""

import atexit
import glob
import json
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from tqdm import tqdm

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import WandbConfig
from slowfast_dist.tracking.wandb_media import confusion_chart, per_class_table
from slowfast_dist.tracking.wandb_panels import Panels
from slowfast_dist.tracking.wandb_upload import (
    ERROR_REPORTS,
    PRIVATE,
    Destination,
    contents,
    destination,
)

INIT_SECONDS = 15.0
"""Seconds that wandb.init may look for its server; WANDB_INIT_TIMEOUT overrides it."""
FINISH_SECONDS = 600.0
"""Seconds that the end of a run may take to upload; what is left stays on disk for wandb sync."""
HARDEST_SHARE = 0.02
"""Share of the run's time that the clips of its hardest videos may take, so that nobody feels them;
those of the end come in any case."""
CARD_CHARACTERS = 20_000
"""First characters of a model card, which become the description of the artifact."""

_FOLDERS = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_ARTIFACT_DIR": "artifacts"}
_FLAG = {True: "--wandb.mode", False: "--wandb-mode"}
"""Of a training, and of a command that adds to its run."""
_METADATA = (
    "model", "classes", "loss", "thresholds", "clip", "monitor", "mode", "value", "epoch",
    "global_step", "metrics", "intervals", "ece", "data", "training",
)  # fmt: skip


class NullRun:
    """In place of a WandbRun where wandb is off; keeps the id of a run that is resumed without."""

    def __init__(self, run_id: str | None) -> None:
        self.id = run_id

    def log_panels(self, draw: Callable[[], Panels]) -> bool:
        """Log nothing: False."""
        return False

    def __getattr__(self, name: str) -> Callable[..., bool]:
        """Whatever a WandbRun does: here it does nothing, and nothing has to wait."""
        return lambda *values, **options: True


class WandbRun:
    """A run of wandb in which a failure costs a warning, once, and never the training.

    There is no ``step=``: after a resume it would go back, and wandb drops such rows. Instead each
    metric has "epoch" or "global_step", which every row carries, as its axis.
    """

    def __init__(
        self, run: Any, log_model: bool, environment: Sequence[str] = (), mode: str = "offline"
    ) -> None:
        self.id: str | None = run.id
        self._mode = mode
        self._run, self._wants_model, self._environment = run, log_model, environment
        self._axes: dict[str, str] = {}
        self._warned = False
        self._begun, self._spent = time.monotonic(), 0.0

    @property
    def place(self) -> dict[str, str | None]:
        """Where it is: "id", "project", "name", "entity" (None: offline nobody knows) and "mode".
        """
        run = self._run
        entity = run.entity if self._mode == "online" else None
        return {
            "id": self.id, "project": run.project, "name": run.name, "entity": entity or None,
            "mode": self._mode,
        }  # fmt: skip

    def log_step(self, values: Mapping[str, Any]) -> None:
        """Log a step's row of metrics.jsonl; it has "global_step"."""
        self._log(values, "global_step")

    def log_epoch(self, values: Mapping[str, Any]) -> None:
        """Log an epoch's row of metrics.jsonl; it has "epoch" and "global_step"."""
        self._log(values, "epoch")

    def log_confusion(self, matrix: NDArray[Any], classes: Sequence[str]) -> None:
        """Log a confusion matrix of counts (K, K), rows = true, under "val/confusion_matrix"."""
        with self._guarded("the confusion matrix"):
            # A chart asks the server: 19 s, measured, where the network went away. Not twice.
            chart = confusion_chart(matrix, classes, offline=self._warned)
            self._run.log({"val/confusion_matrix": chart})

    def summarise_best(self, values: Mapping[str, Any]) -> None:
        """Put the best epoch's row of metrics.jsonl into the run's summary, as best/NAME."""
        names = [name for name in values if name.startswith(("train/", "val/", "test/"))]
        best = {f"best/{name}": values[name] for name in ("epoch", "global_step", *names)}
        with self._guarded("the best epoch"):
            self._run.summary.update({k: v for k, v in best.items() if v is not None})

    def log_per_class(self, epoch: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the best epoch's rows of `metrics.per_class`, under "best/per_class"."""
        with self._guarded("the table of classes"):
            self._run.log({"epoch": epoch, "best/per_class": per_class_table(rows)})

    def log_hardest(self, epoch: int, draw: Callable[[], Any], at_end: bool = False) -> bool:
        """Log the table that ``draw`` makes, under "best/hardest"; False where that has to wait.

        It waits while such tables have taken more than HARDEST_SHARE of the run's time.
        """
        begun = time.monotonic()
        if self._warned:  # wandb is broken: nobody would see them
            return True
        if not at_end and self._spent > HARDEST_SHARE * (begun - self._begun):
            return False
        with self._guarded("the hardest videos"):
            self._run.log({"epoch": epoch, "best/hardest": draw()})
        self._spent += time.monotonic() - begun
        return True

    def log_panels(self, draw: Callable[[], Panels]) -> bool:
        """Log what ``draw`` makes of the run's end: curves over axes of their own, and tables.
        False where that failed, or wandb did before."""
        if self._warned:
            return False
        with self._guarded("the panels of the end"):
            panels = draw()
            for axis, rows in panels.curves.items():
                self._run.define_metric(axis, hidden=True)
                for name in dict.fromkeys(name for row in rows for name in row if name != axis):
                    self._run.define_metric(name, step_metric=axis)
                for row in rows:
                    self._run.log(row)
            if panels.tables:
                self._run.log(dict(panels.tables))
        return not self._warned

    def log_model(self, models_dir: Path, card: str) -> None:
        """Upload the folder as an artifact if --wandb.log-model asks for it; once, at the end.

        Its metadata are best_model.json's, its description is ``card``, the model card's text.
        """
        if not self._wants_model:
            return
        with self._guarded("the model"):
            import wandb

            facts = json.loads((models_dir / "best_model.json").read_text(encoding="utf-8"))
            metadata = {name: facts[name] for name in _METADATA if name in facts}
            text = card[:CARD_CHARACTERS]
            artifact = wandb.Artifact(f"model-{self.id}", "model", text, metadata)
            artifact.add_dir(str(models_dir), skip_cache=True)
            self._run.log_artifact(artifact, aliases=["best", f"epoch-{facts['epoch']}"])

    def finish(self, exit_code: int = 0, seconds: float | None = None) -> None:
        """Write or upload what is left; ``exit_code`` other than 0 marks the run as failed.

        Where that takes longer than ``seconds``, the rest stays on disk, and this process ends
        later on without waiting for it.
        """
        if seconds is not None:
            thread = threading.Thread(target=self.finish, args=(exit_code,), daemon=True)
            thread.start()
            thread.join(seconds)
            if thread.is_alive():
                atexit.register(_end_process, exit_code)  # it runs before wandb's own
            return
        with self._guarded("the end of the run"):
            self._run.finish(exit_code=exit_code)
        for name in self._environment:
            os.environ.pop(name, None)

    def _log(self, values: Mapping[str, Any], axis: str) -> None:
        row = {key: value for key, value in values.items() if key != "kind" and value is not None}
        with self._guarded("metrics"):
            for name in row.keys() - {"epoch", "global_step"}:
                # A name in rows of both kinds, as lr, is drawn against the finer axis.
                if self._axes.get(name) not in (axis, "global_step"):
                    self._run.define_metric(name, step_metric=axis)
                    self._axes[name] = axis
            self._run.log(row)

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # wandb raises many kinds
            if not self._warned:
                self._warned = True
                print_line(f"wandb: could not log {what} ({_reason(error)}); training goes on")


def open_wandb(
    config: WandbConfig, run_dir: Path, settings: dict[str, Any], run_id: str | None,
    holds: str | None = None, entity: str | None = None,
) -> WandbRun | NullRun:  # fmt: skip
    """Open the run: ``settings`` become its config, ``run_id`` is that of the run resumed, if any.
    ``holds``: in words what goes up, where that is something else than of a training; then wandb
    does not watch CPU and GPU. ``entity``: whose the run is, where it is not the usual one.

    auto is online where there is a key and the server answers within INIT_SECONDS, offline
    otherwise, and nothing where wandb cannot start at all; `destination` says what wandb's own
    variables decide. Never asks for a key. Before anything goes up a line says what and where; then
    comes the run's address, or how to sync. Its files lie in ``run_dir``/wandb. Raises UserError
    where a mode was asked for that cannot be had.
    """
    to = destination(config, run_dir, os.environ)
    if to.mode == "disabled":
        if to.asked != f"--wandb.mode {config.mode}":
            print_line(f"wandb: off ({to.asked})")
        return NullRun(run_id)
    was_there = (to.folder / "wandb").exists()
    environment = _keep_files_in(to.folder / "wandb") + _keep_errors_here(config)
    reasons = []
    for attempt in ("online", "offline") if to.mode == "auto" else (to.mode,):
        try:
            run = _init(attempt, config, to, settings, run_id, holds, entity)
        except Exception as error:  # wandb raises many kinds, and may itself fail to import
            reasons.append(_reason(error))
            continue
        if attempt == "online":
            print_line(f"wandb: {run.url}")
        else:
            place = Path(run.settings.sync_dir)
            segments = _segments(place.parent, place.name, run.id)
            why = [to.asked] if to.asked.startswith("WANDB") else reasons[:1]
            sync = " ".join(["wandb sync", *(shlex.quote(str(folder)) for folder in segments)])
            print_line(
                f"wandb: offline{''.join(f' ({one})' for one in why)}; {to.described()}; holds "
                f"{holds or contents(config)}; to upload it: {sync}"
            )
        return WandbRun(run, config.log_model, environment, attempt)
    for name in environment:
        os.environ.pop(name, None)
    if to.mode == "auto":
        print_line(f"wandb: off ({reasons[-1]})")
        return NullRun(run_id)
    if not was_there:  # wandb's logs of the attempt
        shutil.rmtree(to.folder / "wandb", ignore_errors=True)
    other = "offline" if to.mode == "online" else "disabled"
    raise UserError(f"{to.asked}: {reasons[0]}; or use --wandb.mode {other}")


def _segments(folder: Path, newest: str, run_id: str) -> list[Path]:
    """The offline folders of a run, in the order of their times: one for each start of it. Those
    that were uploaded already, which wandb marks with a .synced file, are left out.

    wandb uploads those of one run one after the other, in this order, where one command names them.
    """
    earlier = [
        path
        for path in folder.glob(f"offline-run-*-{glob.escape(run_id)}")
        if path.name != newest and not any(path.glob("*.synced"))
    ]
    return [*sorted(earlier), folder / newest]


def _init(
    mode: str, config: WandbConfig, to: Destination, settings: dict[str, Any], run_id: str | None,
    holds: str | None, entity: str | None,
) -> Any:  # fmt: skip
    """wandb.init without a prompt and without wandb's own lines on the console."""
    import wandb

    own = wandb.setup(settings=wandb.Settings(silent=True, mode=mode))  # type: ignore[arg-type]
    if mode == "online":
        if not wandb.login(prompt=False, verify=False):
            raise RuntimeError("no API key: run 'wandb login' or set WANDB_API_KEY")
        print_line(
            f"wandb: sends to {own.settings.base_url}, {to.described()}: "
            f"{holds or contents(config)} ({_FLAG[holds is None]} disabled: nothing)"
        )
    to.folder.mkdir(parents=True, exist_ok=True)  # else wandb takes a temporary folder
    options = wandb.Settings(
        silent=True, console="off", finish_timeout=FINISH_SECONDS, finish_timeout_raises=True,
        x_disable_stats=holds is not None,
        **({} if config.metadata else PRIVATE),
    )  # fmt: skip
    if "WANDB_INIT_TIMEOUT" not in os.environ:
        options.init_timeout = INIT_SECONDS
    run = wandb.init(
        entity=entity,
        project=to.project,
        name=to.name,
        tags=config.tags or None,
        config=settings,
        dir=to.folder,
        id=run_id,
        resume="allow",
        mode=mode,  # type: ignore[arg-type]
        settings=options,
    )
    for axis in ("global_step", "epoch"):
        run.define_metric(axis, hidden=True)  # an axis of others needs no chart of its own
    return run


def _keep_errors_here(config: WandbConfig) -> list[str]:
    """Unless metadata may go up, wandb keeps its errors for itself; returns the variables set."""
    if config.metadata or ERROR_REPORTS in os.environ:
        return []
    os.environ[ERROR_REPORTS] = "false"
    return [ERROR_REPORTS]


def _keep_files_in(folder: Path) -> list[str]:
    """Point wandb's own data, cache and artifacts below ``folder``; returns the variables set."""
    names = [name for name in _FOLDERS if name not in os.environ]
    for name in names:
        os.environ[name] = str(folder.absolute() / _FOLDERS[name])
    return names


def _reason(error: Exception) -> str:
    """The error on one line, however long wandb's text is."""
    return (" ".join(str(error).split()) or type(error).__name__)[:240]


def print_line(line: str) -> None:
    """On standard error, above a progress bar that is there."""
    tqdm.write(line, file=sys.stderr)


def _end_process(exit_code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
