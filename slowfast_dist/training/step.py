"""One optimizer step: forward, loss, backward, clip, step. It is all in `TrainingStep.run`.

Shape letters: B clips of a micro-batch, T frames, K classes.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from slowfast_dist.config.errors import DivergedError
from slowfast_dist.data.mixing import Mixed, mix
from slowfast_dist.data.sampler import DistributedBatchSampler
from slowfast_dist.data.samples.batch import Batch, Failure
from slowfast_dist.metrics.scores import TOP_K
from slowfast_dist.model.finite import describe_broken, norms
from slowfast_dist.model.slowfast import SlowFast, live_batchnorms
from slowfast_dist.system import signals
from slowfast_dist.system.log import logger
from slowfast_dist.system.progress import Progress
from slowfast_dist.training.optim import average_and_clip, learning_rates
from slowfast_dist.training.start_weights import high_first_loss
from slowfast_dist.training.state import TrainingState


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did. Tensors are on the device, and nobody has waited for them."""

    totals: Tensor
    """float32 (6,) over all processes: the sum of the weighted losses, the sum of the weights,
    videos that failed to decode, processes that were asked to stop, those whose BatchNorm
    statistics are not finite, and, of the first step, what the sum of the losses would be if all
    logits were alike, which is guessing; else 0."""
    grad_norm: Tensor
    """float32 (), of the averaged gradients before clipping; the same on every process."""
    weight_norm: Tensor
    """float32 (), of the trained weights after the update; the same on every process."""
    skipped: bool
    """Whether the gradient scaler of fp16 skipped the update, as a gradient was infinite."""
    learning_rates: dict[str, float]
    """Of the update, as `TrainingState.rates`."""
    rows: list[Tensor]
    """One for each micro-batch of this process, as `EpochHistory.rows`."""
    failures: list[Failure]
    """Videos that did not decode on this process."""

    def values(self) -> Tensor:
        """float32 (4,), as a step in `EpochHistory.steps`."""
        skipped = self.totals.new_tensor(float(self.skipped))
        return torch.stack([self.totals[0], self.totals[1], self.grad_norm, skipped])


class TrainingStep:
    """Does the step at ``state.position`` with ``model``, the prepared ``state.network``."""

    def __init__(
        self, accelerator: Accelerator, sampler: DistributedBatchSampler, model: nn.Module,
        state: TrainingState, class_weights: Tensor, video_weights: Tensor | None = None,
        logit_shift: Tensor | None = None,
    ) -> None:  # fmt: skip
        """``class_weights``: float32 (K,), on the device, as `VideoSet.balanced_weights`;
        ``video_weights``: float32 (N,) there, of the training videos; None: all are 1;
        ``logit_shift``: float32 (K,) there, added to the logits in the loss alone."""
        self.accelerator, self.sampler, self.model = accelerator, sampler, model
        self.state, self.config, self.class_weights = state, state.config, class_weights
        self.video_weights, self.logit_shift = video_weights, logit_shift
        self.parameters: list[Tensor] = [p for p in state.network.parameters() if p.requires_grad]
        self.buffers = [
            buffer
            for layer in live_batchnorms(state.network)
            for buffer in (layer.running_mean, layer.running_var)
            if buffer is not None
        ]
        self._copies = DeviceCopies(accelerator.device)
        self._last_frames: Tensor | None = None

    def run(self, batches: Iterator[Batch], progress: Progress) -> StepResult:
        """Forward, loss and backward over the step's micro-batches, clip, step."""
        accelerator, optimizer = self.accelerator, self.state.optimizer
        statistics, position = self.state.statistics, self.state.position
        rounds = self.sampler.rounds(position.step)
        totals = torch.zeros(6, device=accelerator.device)
        rows: list[Tensor] = []
        failures: list[Failure] = []
        optimizer.zero_grad()
        for round_ in range(rounds):
            with progress.waiting():
                batch = next(batches)
            failures += batch.failures
            totals[2] += len(batch.failures)
            micro_batch = round_ * accelerator.num_processes + accelerator.process_index
            torch.manual_seed(self._dropout_seed(micro_batch))
            with nullcontext() if round_ == rounds - 1 else accelerator.no_sync(self.model):
                if len(batch):
                    statistics.before_own(micro_batch)
                    batch = self._copies.to_device(batch)
                    mixed = mix(batch, self.config.augment, self._entropy(micro_batch))
                    batch = batch if mixed is None else mixed.batch
                    self._last_frames = batch.frames
                    logits = self.model(batch.frames).float()
                    loss, weight = self._loss(logits, batch, mixed)
                    totals[:2] += torch.stack([loss.detach(), weight])
                    if not position.global_step:
                        totals[5] += self._loss(torch.zeros_like(logits), batch, mixed)[0]
                    rows.append(self._rows(logits, batch))
                else:
                    loss = self._zero_loss()
                # DistributedDataParallel divides by W; the sum of the weights divides below.
                accelerator.backward(loss * accelerator.num_processes)
        statistics.after_step(self.sampler.micro_batches(position.step))
        totals[3] += signals.received() is not None
        if self.buffers:
            totals[4] += ~norms(self.buffers).isfinite().all()
        totals = accelerator.reduce(totals)
        accelerator.unscale_gradients(optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = average_and_clip(gradients, totals[1], self.config.optimizer.clip_norm)
        optimizer.step()
        rates = learning_rates(optimizer)
        self.state.schedule.step()
        # A NaN that the update made would not show in the losses to come: fused convolutions turn
        # it into numbers.
        with torch.no_grad():
            weight_norm = norms(self.parameters).norm()
        skipped = optimizer.step_was_skipped
        if (average := self.state.averages.get("ema")) and not skipped:
            average.update()
        return StepResult(totals, norm, weight_norm, skipped, rates, rows, failures)

    def _loss(
        self, logits: Tensor, batch: Batch, mixed: Mixed | None
    ) -> tuple[Tensor, Tensor]:
        """The sum of the weighted losses () and of the weights () of logits (B, K). Of mixed clips
        both labels count, by their shares, each with the weights of its class and video: as the
        loss is linear in its target, this is that of the mixed labels."""
        loss, weight = self._loss_of(logits, batch.labels, batch.videos)
        if mixed is None:
            return loss, weight
        other, other_weight = self._loss_of(logits, mixed.partner.labels, mixed.partner.videos)
        share, rest = mixed.share, 1 - mixed.share
        return share * loss + rest * other, share * weight + rest * other_weight

    def _loss_of(self, logits: Tensor, labels: Tensor, videos: Tensor) -> tuple[Tensor, Tensor]:
        """The same of labels (B,), or (B, K) of several a clip, and ``videos`` (B,), the rows of
        the table that were read."""
        smoothing = self.config.loss.label_smoothing
        if self.logit_shift is not None:
            logits = logits + self.logit_shift
        if self.config.loss.name == "bce":
            losses = binary_losses(logits, labels, smoothing, self.class_weights)
            weights = torch.ones_like(losses)
        else:
            losses = functional.cross_entropy(
                logits, labels, reduction="none", label_smoothing=smoothing
            )
            weights = self.class_weights[labels]
        if self.video_weights is not None:
            weights = weights * self.video_weights[videos]
        return (losses * weights).sum(), weights.sum()

    def _rows(self, logits: Tensor, batch: Batch) -> Tensor:
        """int64 (B, 6), or (B, 6 + K), as in `EpochHistory`, from logits (B, K)."""
        steps = torch.full_like(batch.samples, self.state.position.global_step + 1)
        if self.config.loss.name == "bce":
            count, none = batch.labels.sum(dim=1), torch.zeros_like(steps)
            columns = [batch.samples, batch.videos, count, batch.views, none, steps]
            bits = logits.detach().view(torch.int32).long()
            return torch.cat([torch.stack(columns, dim=1), bits], dim=1)
        top = logits.topk(min(TOP_K, logits.shape[1])).indices
        hits = (top == batch.labels[:, None]).any(dim=1).long()
        columns = [batch.samples, batch.videos, batch.labels, logits.argmax(dim=1), hits, steps]
        return torch.stack(columns, dim=1)

    def _zero_loss(self) -> Tensor:
        """A loss of 0 for a process without a micro-batch, so that it joins the others' reductions.

        It forwards the frames of its last micro-batch again, at weight 0 and without a trace in
        BatchNorm; none at all with SyncBatchNorm, whose statistics would count them.
        """
        frames = self._last_frames
        if frames is None:
            data = self.config.data
            shape = (1, data.num_frames, 3, data.crop_size, data.crop_size)
            frames = torch.zeros(shape, dtype=torch.uint8, device=self.accelerator.device)
        if self.state.network.norm == "sync":
            frames = frames[:0]
        with self.state.statistics.unchanged():
            return self.model(frames).float().sum() * 0

    def _entropy(self, micro_batch: int) -> list[int]:
        """The same for a micro-batch whichever process takes it, before and after a resume."""
        return [self.config.seed, self.state.position.global_step, micro_batch]

    def _dropout_seed(self, micro_batch: int) -> int:
        entropy = self._entropy(micro_batch)
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


def binary_losses(
    logits: Tensor, labels: Tensor, smoothing: float, positive_weights: Tensor
) -> Tensor:
    """Binary cross-entropy (B,), the mean over the classes, of logits (B, K) and labels bool
    (B, K).

    ``smoothing``: how far a label is from 0 or 1 on the way to 1/2, times 2. ``positive_weights``
    (K,): factors of the part where a class is there, torch's pos_weight.
    """
    targets = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    losses = functional.binary_cross_entropy_with_logits(
        logits, targets, reduction="none", pos_weight=positive_weights
    )
    return losses.mean(dim=1)


class StepChecks:
    """Reads what steps did a step later, so that no GPU waits until the CPU has its answer."""

    def __init__(
        self, network: SlowFast, learning_rate: float, mixed_precision: str, first_videos: int
    ) -> None:
        """``learning_rate``: the setting that a message names; ``first_videos``: how many the first
        step has, over all processes."""
        self.network, self.first_videos = network, first_videos
        self.learning_rate, self.mixed_precision = learning_rate, mixed_precision
        self.stop = False
        """Whether any process was asked to stop, in the steps that were read."""
        self._unread: deque[tuple[int, AsyncValues]] = deque()

    def add(self, global_step: int, result: StepResult) -> None:
        """``global_step`` counts from 1."""
        values = torch.stack([*result.totals, result.grad_norm, result.weight_norm])
        self._unread.append((global_step, AsyncValues(values)))

    def read(self, newest: int = 0) -> bool:
        """Whether videos failed to decode, on any process, in the steps not read before.

        Reads all but the ``newest`` last steps; all must be read before anything is saved. Raises
        DivergedError, on every process, if a loss, a gradient, a weight or BatchNorm's statistics
        are not finite. Warns of a first loss far above that of guessing.
        """
        videos_failed = False
        fp16 = self.mixed_precision == "fp16"  # its scaler skips infinite gradients
        while len(self._unread) > newest:
            global_step, values = self._unread.popleft()
            losses, weights, failed, stops, broken_statistics, guess, norm, weight_norm = (
                values.read()
            )
            videos_failed |= failed > 0
            self.stop |= stops > 0
            what = None
            if not isfinite(losses):
                what = "the loss is not a finite number"
            elif not (fp16 or isfinite(norm)):
                what = "the gradient is not a finite number"
            elif broken_statistics or not isfinite(weight_norm):
                what = describe_broken(self.network.state_dict())
                what = what or "the norm of the weights or BatchNorm's statistics is not finite"
            if what is not None:
                raise DivergedError(
                    f"step {global_step}: {what}: lower "
                    f"--optimizer.lr ({self.learning_rate:g}) or --optimizer.clip-norm, or use "
                    "--mixed-precision no, in a new --output-dir; what was saved before is from "
                    "good steps"
                )
            if global_step == 1:
                weight = max(weights, 1e-12)
                if warning := high_first_loss(losses / weight, guess / weight, self.first_videos):
                    logger.warning(warning)
        return videos_failed


class DeviceCopies:
    """Micro-batches on their way to the device, on a GPU while that still computes.

    The CPU is ahead of a GPU by most of a step, so that in a stream of its own a copy starts as
    soon as it is asked for; in the computing one it would wait for all that is queued.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def to_device(self, batch: Batch) -> Batch:
        """The batch for what is queued from here on."""
        if self._stream is None:
            return batch.to(self.device)
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            moved = batch.to(self.device)
        computing.wait_stream(self._stream)
        for value in vars(moved).values():
            if isinstance(value, Tensor):
                value.record_stream(computing)  # or its memory could be reused too early
        return moved


class AsyncValues:
    """Values (n,) on their way from the device to the CPU."""

    def __init__(self, values: Tensor) -> None:
        self._values = values.detach().to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event() if values.is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def read(self) -> list[float]:
        if self._copied is not None:
            self._copied.synchronize()
        return self._values.tolist()
