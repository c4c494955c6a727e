"""The training loop: `run_training` is the table of contents, `Trainer` the loop itself.

Shape letters: B clips of a micro-batch, T frames, K classes.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional

from slowfast_dist.batchnorm import RunningStatistics
from slowfast_dist.checkpoint import load_checkpoint
from slowfast_dist.config import Config, RunError, UserError, validate
from slowfast_dist.data.dataset import Batch, Failure
from slowfast_dist.data.loaders import VideoSet, find_videos, make_loaders
from slowfast_dist.distributed import (
    gather_list,
    local_processes,
    make_accelerator,
    on_main,
    only_main,
)
from slowfast_dist.evaluation import Scores, evaluate
from slowfast_dist.metrics import TOP_K
from slowfast_dist.model import (
    SlowFast,
    build_model,
    freeze,
    live_batchnorms,
    resolve_norm,
    set_norm,
    starts_pretrained,
)
from slowfast_dist.optim import build_optimizer, build_schedule
from slowfast_dist.progress import Progress
from slowfast_dist.recording import EpochResult, Recorder
from slowfast_dist.run_folder import describe_environment, open_run
from slowfast_dist.sanity import check_gradients
from slowfast_dist.training_state import EpochSums, TrainingState
from slowfast_dist.weights import hub_file

T = TypeVar("T")


def run_training(config: Config) -> dict[str, Any]:
    """Train as ``config`` says and leave the run folder; returns its place and its best epoch.

    Collective: every process calls it with the same config. Raises UserError for mistakes of the
    user's and RunError for what ends a run from outside; the run's status file then says failed.
    """
    validate(config)
    accelerator = make_accelerator(config.mixed_precision, config.distributed.timeout)
    start = on_main(accelerator, lambda: open_run(config.output_dir, config.resume))
    for message in start.messages:
        accelerator.print(message)
    if start.finished:
        return {"output_dir": str(start.folder.root), "status": "finished"}
    config = replace(config, output_dir=start.folder.root)
    videos = on_main(accelerator, lambda: find_videos(config.data, config.seed))
    for warning in videos.warnings:
        accelerator.print(f"warning: {warning}")
    checkpoint = load_checkpoint(start.checkpoint) if start.checkpoint else None
    trainer = Trainer(config, accelerator, videos)
    if checkpoint is not None:
        trainer.state.restore(checkpoint, accelerator)
    state = checkpoint.state if checkpoint else None
    environment = describe_environment(
        str(accelerator.device), accelerator.mixed_precision, accelerator.num_processes
    )
    recorder = only_main(
        accelerator, lambda: Recorder(config, start.folder, videos, environment, state)
    )
    try:
        return trainer.fit(recorder)
    except BaseException:
        if recorder is not None:
            recorder.fail()
        raise


class Trainer:
    """The loop over a `TrainingState`."""

    def __init__(self, config: Config, accelerator: Accelerator, videos: VideoSet) -> None:
        self.config = config
        self.accelerator = accelerator
        self.videos = videos
        self.loaders = make_loaders(
            config,
            videos,
            accelerator.process_index,
            accelerator.num_processes,
            local_processes(),
            pin=accelerator.device.type == "cuda",
        )
        self.sampler = self.loaders.sampler
        torch.manual_seed(config.seed)
        network = self._build_network()
        # Accelerate does not notice when a fused optimizer skips a step for fp16's scaler.
        fused = accelerator.mixed_precision != "fp16"
        optimizer = build_optimizer(network, config.optimizer, fused)
        schedule = build_schedule(
            optimizer, config.schedule, self.sampler.steps_per_epoch, config.epochs
        )
        # Loaders and schedule stay out: prepared, they would be sharded again and step W times.
        self.model, self.optimizer = accelerator.prepare(network, optimizer)
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.class_weights = self._class_weights()
        layers = list(live_batchnorms(network)) if self.norm == "local" else []
        statistics = RunningStatistics(layers, accelerator.process_index, accelerator.num_processes)
        self.state = TrainingState(config, videos, network, self.optimizer, schedule, statistics)
        self.new_failures: list[Failure] = []  # not yet known to every process
        self.last_step: LateValues | None = None
        self.last_frames: Tensor | None = None
        self.recorder: Recorder | None = None
        self.rates: dict[str, float] = {}  # of the last step

    def _build_network(self) -> SlowFast:
        config, accelerator = self.config.model, self.accelerator
        if starts_pretrained(config) and config.weights is None:
            on_main(accelerator, lambda: str(hub_file(config.name)))  # one download, not W
        network, report = build_model(config, len(self.videos.classes))
        for line in report:
            accelerator.print(line)
        self.norm = resolve_norm(config, starts_pretrained(config))
        if self.norm == "sync" and accelerator.device.type != "cuda":
            raise UserError("--model.norm sync needs GPUs: use local or frozen on a CPU")
        # All of it before prepare(): DistributedDataParallel would not notice the change later.
        set_norm(network, self.norm)
        freeze(network, config.freeze)
        network.to(accelerator.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        if config.compile:
            network.compile()
        return network.train()

    def _class_weights(self) -> Tensor:
        """float32 (K,)."""
        classes = len(self.videos.classes)
        if self.config.loss.class_weights == "none":
            return torch.ones(classes, device=self.accelerator.device)
        weights = self.videos.balanced_weights()
        return torch.tensor(weights, dtype=torch.float32, device=self.accelerator.device)

    def fit(self, recorder: Recorder | None) -> dict[str, Any]:
        """Train to the last epoch; only the main process has a ``recorder``."""
        self.recorder = recorder
        while self.state.position.epoch < self.config.epochs:
            progress = self._train_epoch()
            self._end_epoch(progress)
        return self._record(lambda recorder: recorder.finish())

    def _record(self, work: Callable[[Recorder], T]) -> T:
        """Collective: do ``work`` on the main process while the others wait."""

        def with_recorder() -> T:
            assert self.recorder is not None
            return work(self.recorder)

        return on_main(self.accelerator, with_recorder)

    def _train_epoch(self) -> Progress:
        position, sampler, config = self.state.position, self.sampler, self.config
        sampler.set_epoch(position.epoch, position.step)
        batches: Iterator[Batch] = iter(self.loaders.train)
        if position.global_step == 0:
            first = next(batches)
            self._check_sanity(first)
            batches = chain([first], batches)
        progress = Progress(
            f"epoch {position.epoch + 1}/{config.epochs}",
            sampler.steps_per_epoch,
            start=position.step,
            loss=self._recent_loss,
            memory=torch.cuda.max_memory_allocated if torch.cuda.is_available() else None,
            silent=self.recorder is None,
        )
        with progress:
            while position.step < sampler.steps_per_epoch:
                self._train_step(batches, progress)
                progress.update(sampler.samples(position.step))
                position.step += 1
                position.global_step += 1
                if self.recorder is not None and position.global_step % config.log_every == 0:
                    self.recorder.step(position.epoch + 1, position.global_step, self._step_row())
                if position.step < sampler.steps_per_epoch and self._save_step_is_due():
                    self._save_checkpoint()
        return progress

    def _train_step(self, batches: Iterator[Batch], progress: Progress) -> None:
        """One optimizer step: forward, loss, backward over its micro-batches, clip, step."""
        accelerator, statistics = self.accelerator, self.state.statistics
        world_size, rank = accelerator.num_processes, accelerator.process_index
        step = self.state.position.step
        rounds = self.sampler.rounds(step)
        totals = torch.zeros(3, device=accelerator.device)  # weighted losses, weights, failures
        self.optimizer.zero_grad()
        for round_ in range(rounds):
            with progress.waiting():
                batch = next(batches)
            self.new_failures += batch.failures
            totals[2] += len(batch.failures)
            micro_batch = round_ * world_size + rank
            torch.manual_seed(self._dropout_seed(micro_batch))
            with nullcontext() if round_ == rounds - 1 else accelerator.no_sync(self.model):
                if len(batch):
                    statistics.before_own(micro_batch)
                    loss, weight = self._forward(batch.to(accelerator.device))
                    totals[:2] += torch.stack([loss.detach(), weight])
                else:
                    loss = self._forward_nothing()
                # DistributedDataParallel divides by W; the sum of the weights divides below.
                accelerator.backward(loss * world_size)
        statistics.after_step(self.sampler.micro_batches(step))
        totals = accelerator.reduce(totals)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        torch._foreach_mul_(gradients, 1 / totals[1].clamp(min=1e-12))
        clip_norm = self.config.optimizer.clip_norm or float("inf")
        norm = accelerator.clip_grad_norm_(self.parameters, clip_norm)
        self.optimizer.step()
        self.rates = self._rates()
        self.state.schedule.step()
        assert norm is not None
        skipped = totals.new_tensor(float(self.optimizer.step_was_skipped))
        self.state.sums.steps.append(torch.stack([totals[0], totals[1], norm, skipped]))
        self._check_last_step()
        self.last_step = LateValues(
            self.state.position.global_step + 1, torch.stack([*totals, norm])
        )

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum of the weighted losses, and of the weights; notes what the epoch's metrics need."""
        logits = self.model(batch.frames).float()
        smoothing = self.config.loss.label_smoothing
        losses = functional.cross_entropy(
            logits, batch.labels, reduction="none", label_smoothing=smoothing
        )
        weights = self.class_weights[batch.labels]
        top = logits.topk(min(TOP_K, logits.shape[1])).indices
        hits = (top == batch.labels[:, None]).any(dim=1)
        row = [batch.samples, batch.videos, batch.labels, logits.argmax(dim=1), hits.long()]
        self.state.sums.rows.append(torch.stack(row, dim=1))
        self.last_frames = batch.frames
        return (losses * weights).sum(), weights.sum()

    def _forward_nothing(self) -> Tensor:
        """A loss of 0 for a process without a micro-batch, so that it joins the others' reductions.

        It forwards the frames of its last micro-batch again, at weight 0 and without a trace in
        BatchNorm; none at all with SyncBatchNorm, whose statistics would count them.
        """
        frames = self.last_frames
        if frames is None:
            data = self.config.data
            shape = (1, data.num_frames, 3, data.crop_size, data.crop_size)
            frames = torch.zeros(shape, dtype=torch.uint8, device=self.accelerator.device)
        if self.norm == "sync":
            frames = frames[:0]
        with self.state.statistics.unchanged():
            return self.model(frames).float().sum() * 0

    def _dropout_seed(self, micro_batch: int) -> int:
        """The same for a micro-batch whichever process takes it, before and after a resume."""
        entropy = [self.config.seed, self.state.position.global_step, micro_batch]
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])

    def _check_last_step(self) -> None:
        """Stop every process where the step before went wrong.

        One step late, so that a GPU never waits for the answer, and at the same step everywhere,
        as the values are those of all processes. Nothing is saved before the check.
        """
        if self.last_step is None:
            return
        last, self.last_step = self.last_step, None
        losses, _, failures, norm = last.read()
        fp16 = self.accelerator.mixed_precision == "fp16"  # its scaler skips infinite gradients
        if not np.isfinite(losses) or not (fp16 or np.isfinite(norm)):
            what = "loss" if not np.isfinite(losses) else "gradient"
            raise RunError(
                f"step {last.global_step}: the {what} is not a finite number: lower "
                f"--optimizer.lr ({self.config.optimizer.lr:g}), set --optimizer.clip-norm, or use "
                "--mixed-precision no; what was saved before is from good steps"
            )
        if failures:
            self._share_failures()

    def _share_failures(self) -> None:
        """Collective: let every process know all training videos that failed to decode."""
        for failure in gather_list(self.accelerator, self.new_failures):
            self.state.failed.setdefault(failure.video, failure.reason)
        self.new_failures = []
        if self.recorder is not None:
            named = [(self.videos.train[v].name, why) for v, why in self.state.failed.items()]
            self.recorder.add_unreadable(named, "training")
        failed, videos = self.state.failed, self.videos.train
        limit = self.config.data.max_bad_fraction
        if len(failed) > limit * len(videos):
            folders = Counter(str(videos[video].path.parent) for video in failed)
            folder, count = folders.most_common(1)[0]
            worst = next(v for v in failed if str(videos[v].path.parent) == folder)
            raise RunError(
                f"{len(failed)} of {len(videos)} training videos failed to decode, more than "
                f"--data.max-bad-fraction {limit:g}; most of them, {count}, in {folder} "
                f"(as {videos[worst].path.name}: {failed[worst]})"
            )

    def _check_sanity(self, batch: Batch) -> None:
        """One forward and backward on the first micro-batch, on the main process alone."""

        def check() -> None:
            if len(batch):
                first, network = batch.to(self.accelerator.device), self.state.network
                found = check_gradients(
                    network, first.frames, first.labels, self.accelerator.autocast
                )
                print(
                    f"sanity check: loss {found['loss']:.4f}, "
                    f"gradient norm of the head {found['head_grad_norm']:.4g}"
                )

        on_main(self.accelerator, check)

    def _end_epoch(self, progress: Progress) -> None:
        """Validate, record, and save where that is due; then move to the next epoch."""
        self._check_last_step()
        state, config = self.state, self.config
        position, accelerator = state.position, self.accelerator
        epoch = position.epoch + 1
        rows, steps = state.sums.all_rows(accelerator).numpy(), state.sums.all_steps().double()
        norms = steps[:, 2][steps[:, 2].isfinite()]
        with state.statistics.whole():
            scores = self._validate() if self._is_due(config.evaluation.every) else None
            result = EpochResult(
                epoch=epoch,
                global_step=position.global_step,
                train_loss=float(steps[:, 0].sum() / steps[:, 1].sum().clamp(min=1e-12)),
                rows=rows,
                scores=scores,
                values={
                    "grad_norm": float(norms.mean()) if len(norms) else float("nan"),
                    "grad_norm_max": float(norms.max()) if len(norms) else float("nan"),
                    "skipped_steps": int(steps[:, 3].sum()),
                    "lr": self.rates.get("lr", float("nan")),
                    "clips_per_second": progress.clips_per_second,
                    "data_wait_fraction": progress.data_wait_fraction,
                    "epoch_seconds": time.perf_counter() - progress.started,
                },
            )
            self._record(lambda recorder: recorder.epoch(result, state.network))
        save = self._is_due(config.checkpoint.every_epochs) or self._save_step_is_due()
        position.epoch, position.step = epoch, 0
        state.sums = EpochSums()
        if save:
            self._save_checkpoint()

    def _validate(self) -> Scores:
        return evaluate(
            self.state.network,
            self.loaders.val,
            self.accelerator,
            len(self.videos.val),
            self.loaders.views,
            len(self.videos.classes),
        )

    def _is_due(self, every: int) -> bool:
        """Whether the running epoch, counted from 1, is the last or one of every ``every``."""
        epoch = self.state.position.epoch + 1
        return epoch % every == 0 or epoch == self.config.epochs

    def _save_step_is_due(self) -> bool:
        every = self.config.checkpoint.every_steps
        return every is not None and self.state.position.global_step % every == 0

    def _save_checkpoint(self) -> None:
        self._check_last_step()
        checkpoint = self.state.capture(self.accelerator)
        self._record(lambda recorder: recorder.checkpoint(checkpoint))

    def _recent_loss(self) -> float:
        """Mean loss of the last optimizer steps, at most 10."""
        steps = torch.stack(self.state.sums.steps[-10:]).sum(dim=0).tolist()
        return steps[0] / max(steps[1], 1e-12)

    def _step_row(self) -> dict[str, float]:
        losses, weights, norm, _ = self.state.sums.steps[-1].tolist()
        return {
            "step/loss": losses / max(weights, 1e-12),
            "step/grad_norm": norm,
            **{f"step/{name}": rate for name, rate in self.rates.items()},
        }

    def _rates(self) -> dict[str, float]:
        """The learning rates now: "lr", the head's, and "lr_backbone" if that trains."""
        names = {"head": "lr", "backbone": "lr_backbone"}
        groups = self.optimizer.param_groups
        return {names[group["name"].partition("/")[0]]: group["lr"] for group in groups}


class LateValues:
    """A step's values (n,) on their way from the device to the CPU."""

    def __init__(self, global_step: int, values: Tensor) -> None:
        self.global_step = global_step
        self._values = values.detach().to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event() if values.is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def read(self) -> list[float]:
        if self._copied is not None:
            self._copied.synchronize()
        return self._values.tolist()
