"""All that changes while training: what a checkpoint holds and a resume brings back.

Random numbers are not in it: the order, the augmentation and dropout follow from the seed and the
position alone (data/sampler.py, data/samples/, TrainingStep._dropout_seed).
"""

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.training import Config, config_dict
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.distributed.collectives import gather_list, gather_rows
from slowfast_dist.model.batchnorm import RunningStatistics
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.checkpoint import Checkpoint
from slowfast_dist.runs.run import command_words
from slowfast_dist.system.log import logger
from slowfast_dist.system.text import operand, shell
from slowfast_dist.training.weights.averaged import AveragedWeights, capture, of_average

ROOT = Path(__file__).absolute().parents[1]
"""The package's folder."""

CHANGEABLE_SETTINGS = (
    "output_dir", "resume", "resume_changed", "log_every", "log_samples", "data.root",
    "data.train_dir", "data.val_dir", "data.videos", "data.synthetic", "data.num_workers",
    "data.cache", "data.max_bad_fraction", "evaluation.", "checkpoint.", "distributed.timeout",
    "distributed.preempt_signal", "wandb.", "report.", "patience", "hours",
    "model.weights", "model.pretrained", "model.head", "model.probe",
    "model.checkpoint_activations",
)  # fmt: skip
"""Settings, or the beginnings of their names, that may differ when a run is resumed: they do not
change what the steps compute."""

AS_BEFORE = {"data.frame_rate": "video", "data.pixel_aspect": "stored"}
"""Settings that joined later with a default which changes what the steps compute, and the value
that stands for how a run was trained whose checkpoint does not name them."""


def as_it_began(config: Config, checkpoint: Checkpoint | None) -> Config:
    """``config`` with the settings of AS_BEFORE as a resumed run of an older version began, unless
    it may change (--resume-changed); says so."""
    state = checkpoint.state if checkpoint and isinstance(checkpoint.state, dict) else {}
    if config.resume_changed:
        return config
    now = _flat(config_dict(config))
    for name in _kept_as_before(state):
        value = AS_BEFORE[name]
        if now[name] != value:
            group, _, field_name = name.partition(".")
            changed = replace(getattr(config, group), **{field_name: value})
            config = replace(config, **{group: changed})
            flag = f"--{name.replace('_', '-')}"
            logger.info(
                f"resuming with {flag} {value}, as the run began under an older version; "
                f"--resume-changed takes {flag} {now[name]}"
            )
    return config


def _kept_as_before(state: Mapping[str, Any]) -> list[str]:
    """The settings of AS_BEFORE that the run of a checkpoint's state has as it began."""
    settings = state.get("config")
    if not isinstance(settings, dict):
        return []
    kept, saved = state.get("as_before", ()), _flat(settings)
    return [name for name in AS_BEFORE if name in kept or name not in saved]


@dataclass
class Position:
    """The next step to do, counted from 0."""

    epoch: int = 0
    step: int = 0
    global_step: int = 0


COLUMNS = 6
"""Columns of a row of `EpochHistory`, before the logits of several labels."""


@dataclass
class EpochHistory:
    """What one process did in the running epoch, on its device until the epoch ends.

    ``rows`` int64 (B, 6) a micro-batch: sample asked for, video read, label, prediction, whether
    the label is among the five highest logits, and the optimizer step, counted from 1 over all
    epochs. With several labels a clip they are int64 (B, 6 + K): how many labels the video has in
    place of its label, whether they are those of its mirror image for the prediction, 0 for the
    hit, and the float32 logits' bits.

    ``steps`` float32 (4,) an optimizer step, the same on every process: sum of the weighted losses,
    sum of the weights, gradient norm, and 1 where fp16 skipped it.
    """

    rows: list[Tensor] = field(default_factory=list)
    steps: list[Tensor] = field(default_factory=list)
    width: int = COLUMNS
    """Columns of ``rows``."""

    def all_rows(self, accelerator: Accelerator) -> Tensor:
        """Collective: the rows of all processes, (N, width) on the CPU."""
        empty = torch.empty(0, self.width, dtype=torch.int64, device=accelerator.device)
        return gather_rows(accelerator, torch.cat([empty, *self.rows])).cpu()

    def all_steps(self) -> Tensor:
        """(S, 4) on the CPU."""
        return torch.stack(self.steps).cpu() if self.steps else torch.empty(0, 4)

    def loss(self) -> float:
        """Mean over the epoch's samples so far, each by its weight."""
        losses, weights = self.all_steps().double()[:, :2].unbind(dim=1)
        return float(losses.sum() / weights.sum().clamp(min=1e-12))

    def recent_loss(self, steps: int = 10) -> float:
        """As `loss`, over the last optimizer steps alone."""
        losses, weights = torch.stack(self.steps[-steps:]).sum(dim=0).tolist()[:2]
        return losses / max(weights, 1e-12)

    def last_step(self) -> dict[str, float]:
        """Loss and gradient norm, by their names in metrics.jsonl."""
        return {"step/loss": self.recent_loss(1), "step/grad_norm": self.steps[-1][2].item()}

    def gradient_summary(self) -> dict[str, Any]:
        """Over the epoch's steps so far, by the names in metrics.jsonl."""
        steps = self.all_steps().double()
        norms = steps[:, 2][steps[:, 2].isfinite()]
        return {
            "grad_norm": float(norms.mean()),  # of none it is NaN
            "grad_norm_max": float(norms.max()) if len(norms) else float("nan"),
            "skipped_steps": int(steps[:, 3].sum()),
        }


@dataclass
class TrainingState:
    """The parts of a training that a checkpoint must hold.

    ``network`` is the model outside any wrapper, ``optimizer`` the prepared one; ``failed``:
    training videos that did not decode, and why; ``rates``: the learning rates of the last step,
    "lr", the head's, and "lr_backbone" if that trains.
    """

    config: Config
    videos: VideoSet
    network: SlowFast
    optimizer: Any
    schedule: LambdaLR
    statistics: RunningStatistics
    position: Position = field(default_factory=Position)
    history: EpochHistory = field(default_factory=EpochHistory)
    failed: dict[int, str] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    as_before: list[str] = field(default_factory=list)
    """Settings of AS_BEFORE that a run of an older version still has as it began."""
    averages: dict[str, AveragedWeights] = field(default_factory=dict)
    """Averages of the weights: "ema" over steps, "last" over epochs, where they are asked for."""

    @contextmanager
    def evaluated(self, name: str = "ema") -> Iterator[SlowFast]:
        """Collective. In here the network is what is scored and saved as a model: with the average
        of that ``name``, where there is one, else with the weights that train."""
        average = self.averages.get(name)
        with self.statistics.merged():
            if average is None:
                yield self.network
                return
            with average.in_network():
                yield self.network

    def capture(self, accelerator: Accelerator) -> Checkpoint:
        """Collective: the state of all processes, the same on every one."""
        statistics = self.statistics
        parts = torch.empty(accelerator.num_processes, 0)  # of BatchNorm's statistics, (W, n)
        if statistics.layers:
            parts = gather_rows(accelerator, statistics.part()[None])
        rows, steps = self.history.all_rows(accelerator), self.history.all_steps()
        counted = gather_list(accelerator, [statistics.decayed])
        with statistics.merged():
            model = {name: value.clone() for name, value in self.network.state_dict().items()}
        averaged, updates = capture(self.averages)
        state = {
            **asdict(self.position),
            "processes": accelerator.num_processes,
            "videos": self.videos.fingerprint(),
            "config": config_dict(self.config),
            "as_before": self.as_before,
            "norm": self.network.norm,
            "network": self.network.description.as_json(),
            "schedule": self.schedule.last_epoch,
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
            "statistics": {
                "tracked": statistics.tracked, "happened": statistics.batches, "counted": counted,
            },
            "averages": updates,
            "rates": self.rates,
            "failed": {str(video): reason for video, reason in self.failed.items()},
        }  # fmt: skip
        tensors = {"rows": rows, "steps": steps, "statistics": parts, **averaged}
        return Checkpoint(model, self.optimizer.state_dict(), tensors, state)

    def restore(
        self, checkpoint: Checkpoint, accelerator: Accelerator, free: Collection[str] = ()
    ) -> None:
        """Continue from ``checkpoint``, also one of another number of processes.

        Raises UserError where videos or settings that alter the result are not the checkpoint's;
        those in ``free`` may differ. Raises RunError for a state that no training of this version
        left, though its files are as they were written.
        """
        try:
            self._restore(checkpoint, accelerator, free)
        except (UserError, RunError, torch.OutOfMemoryError):
            raise
        # What values of the wrong type or size raise, wherever they are used first.
        except (
            AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError,
        ) as error:  # fmt: skip
            state = checkpoint.state if isinstance(checkpoint.state, dict) else {}
            step = f"{state.get('global_step', '?')!s:.20}"
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise RunError(
                f"--resume {self.config.resume}: the checkpoint of step {step} is not one of this "
                f"version ({why:.200}): remove it to go on from the one before, or start over in a "
                "new --output-dir"
            ) from error

    def _restore(
        self, checkpoint: Checkpoint, accelerator: Accelerator, free: Collection[str]
    ) -> None:
        state, tensors = checkpoint.state, checkpoint.tensors
        if (changes := self._refuse_changes(state, free)) is not None:
            logger.info(changes)
        self.network.load_state_dict(checkpoint.model)
        self._restore_optimizer(checkpoint)
        if accelerator.scaler is not None and state["scaler"]:
            accelerator.scaler.load_state_dict(state["scaler"])
        self.position = Position(*(_read_count(state, name) for name in vars(Position())))
        rank, world_size = accelerator.process_index, accelerator.num_processes
        self.statistics = RunningStatistics(self.statistics.layers, rank, world_size)
        if world_size == state["processes"] and self.statistics.layers:
            saved = state["statistics"]
            tracked, happened = _read_count(saved, "tracked"), _read_count(saved, "happened")
            counted = _read_count(saved["counted"], rank)
            self.statistics.restore(tensors["statistics"][rank], tracked, happened, counted)
        self._restore_averages(checkpoint)
        device, width = accelerator.device, self.history.width
        self.history = EpochHistory(
            rows=[tensors["rows"].reshape(-1, width).long().to(device)] if rank == 0 else [],
            steps=list(tensors["steps"].reshape(-1, 4).float().to(device)),
            width=width,
        )
        self.rates = {name: float(rate) for name, rate in state["rates"].items()}
        self.failed = {int(video): str(reason) for video, reason in state["failed"].items()}

    def _restore_averages(self, checkpoint: Checkpoint) -> None:
        """Older versions had none. One over what were the last epochs, before more were asked for,
        begins anew."""
        updates = checkpoint.state.get("averages", {})
        epochs, last = self.config.epochs, self.config.optimizer.average_last
        due = self.position.epoch - (epochs - last)
        for name, average in self.averages.items():
            count = _read_count(updates, name) if name in updates else 0
            if count and (name != "last" or count == due):
                average.restore(of_average(checkpoint.tensors, name), count)

    def _restore_optimizer(self, checkpoint: Checkpoint) -> None:
        """The moments are the checkpoint's; rates, decay and so on follow from the settings."""
        settings = [
            {name: value for name, value in group.items() if name not in ("params", "lr")}
            for group in self.optimizer.param_groups
        ]
        self.optimizer.load_state_dict(checkpoint.optimizer)
        schedule, groups = self.schedule, self.optimizer.param_groups
        schedule.last_epoch = _read_count(checkpoint.state, "schedule")
        rates = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        for group, own, (base, factor) in zip(groups, settings, rates, strict=True):
            group.update(own, lr=base * factor(schedule.last_epoch))
        schedule._last_lr = [group["lr"] for group in groups]

    def _refuse_changes(self, state: Mapping[str, Any], free: Collection[str]) -> str | None:
        """Raise UserError for what must not differ; returns what differs and was allowed to."""
        self.as_before = [] if self.config.resume_changed else _kept_as_before(state)
        # What a checkpoint of an older version does not name was then as it is by default now, but
        # for some settings.
        before = _flat(config_dict(Config())) | AS_BEFORE | _flat(state["config"])
        now = _flat(config_dict(self.config))
        changes = {
            name: f"--{name.replace('_', '-')} {value} (was {before[name]})"
            for name, value in now.items()
            if not name.startswith((*CHANGEABLE_SETTINGS, *free)) and before[name] != value
        }
        resume = f"--resume {self.config.resume}"
        if state["videos"] != self.videos.fingerprint():
            decide = (
                "seed", "data.val_fraction", "data.group_pattern", "data.background",
                "data.background_share", "data.margin",
            )  # fmt: skip
            if splitting := [changes[name] for name in decide if name in changes]:
                raise UserError(
                    f"{resume}: the split depends on {', '.join(splitting)}: set it back, or start "
                    "over in a new --output-dir"
                )
            raise UserError(
                f"{resume}: the videos, their classes or their split are not those of the "
                "checkpoint. Files came or went, or this version reads some that an older one did "
                f"not: {self._own_videos()}restore them, or start over in a new --output-dir"
            )
        # Of the checkpoint's tensors.
        shaping = (
            "model.name", "model.freeze", "optimizer.name", "optimizer.layer_decay", "loss.name",
        )  # fmt: skip
        if reshaped := [changes[name] for name in shaping if name in changes]:
            raise UserError(
                f"{resume}: {reshaped[0]}, which a checkpoint cannot change: set it back, or "
                "start a new run with --model.weights of the old one"
            )
        if not changes:
            return None
        listed = ", ".join(changes.values())
        constant = self.config.schedule.name == "constant"
        # More epochs at a constant rate are what the same training with more of them would do.
        if not self.config.resume_changed and not (constant and changes.keys() == {"epochs"}):
            if changes.keys() == {"epochs"}:
                flags = ["--resume-changed"]
                for name in self.as_before:  # which that would change, too
                    flags += [f"--{name.replace('_', '-')}", AS_BEFORE[name]]
                raise UserError(
                    f"{resume}: {listed} changes the learning rates, as those of --schedule.name "
                    f"{self.config.schedule.name} follow the number of epochs; set it back, or go "
                    f"on with the new rates: {_command_with(*flags)}"
                )
            raise UserError(
                f"{resume}: settings that alter the result have changed: {listed}; set them back, "
                "or add --resume-changed to go on all the same"
            )
        return f"resuming with changed settings: {listed}"

    def _own_videos(self) -> str:
        """How to go on with the videos that the run had, for an error's line, or nothing."""
        given, root = self.config.resume, self.config.data.root
        run = self.config.output_dir if given == "auto" else Path(given)
        # Of RUN, RUN/checkpoints or RUN/checkpoints/step_00000120.
        places = [Path(os.path.abspath(run / up / "split.csv")) for up in ("", "..", "../..")]
        table = next((place for place in places if place.is_file()), None)
        if root is None or table is None or (root.exists() and root.samefile(table)):
            return ""
        return f"go on with those that the run had (--data.root {operand(table)}), "


def _command_with(*flags: str) -> str:
    """The command line of this process with more flags, for a shell; of a process that was
    started in another way, how to go on in words."""
    program = Path(sys.argv[0]).absolute()
    # Not a script of the user's own that is called so.
    ours = program in (ROOT.parent / "train.py", ROOT / "__main__.py")
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 or not ours:
        return f"the same with {' '.join(flags)}"
    return shell([*command_words({"command": sys.argv}), *flags])


def _read_count(state: Any, name: str | int) -> int:
    """A number that counts something. Raises ValueError for anything else, as odd values do."""
    value = state[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise ValueError(f"{name} {value!r}")
    return value


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"data.num_frames": 32, ...}."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
