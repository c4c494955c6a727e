"""One optimizer step: forward, loss, backward, clip, step. It is all here.

Shape letters: B clips of a micro-batch, T frames, K classes.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from slowfast_dist.config.errors import RunError
from slowfast_dist.config.training import Config
from slowfast_dist.data.dataset import Batch, Failure
from slowfast_dist.data.sampler import DistributedBatchSampler
from slowfast_dist.metrics.scores import TOP_K
from slowfast_dist.system import signals
from slowfast_dist.system.progress import Progress
from slowfast_dist.training.optim import average_and_clip
from slowfast_dist.training.state import TrainingState


class TrainingStep:
    """Does the step at ``state.position``; ``model`` and ``optimizer`` are the prepared ones."""

    def __init__(
        self,
        config: Config,
        accelerator: Accelerator,
        sampler: DistributedBatchSampler,
        model: nn.Module,
        state: TrainingState,
        class_weights: Tensor,
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.sampler = sampler
        self.model = model
        self.state = state
        self.optimizer = state.optimizer
        self.class_weights = class_weights  # (K,)
        self.parameters = [p for p in state.network.parameters() if p.requires_grad]
        self.new_failures: list[Failure] = []
        """Videos that did not decode on this process and that the others do not know of yet."""
        self.videos_failed = False
        """Whether videos failed to decode, on any process, since `new_failures` were shared."""
        self.stop = False
        """Whether any process was asked to stop."""
        self._late: deque[LateValues] = deque()
        self._last_frames: Tensor | None = None
        self._copies = Copies(accelerator.device)

    def run(self, batches: Iterator[Batch], progress: Progress) -> None:
        """Forward, loss and backward over the step's micro-batches, clip, step."""
        accelerator, statistics = self.accelerator, self.state.statistics
        world_size, rank = accelerator.num_processes, accelerator.process_index
        step = self.state.position.step
        rounds = self.sampler.rounds(step)
        # Weighted losses, weights, videos that failed, processes that were asked to stop.
        totals = torch.zeros(4, device=accelerator.device)
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
                    loss, weight = self._forward(self._copies.to_device(batch))
                    totals[:2] += torch.stack([loss.detach(), weight])
                else:
                    loss = self._forward_nothing()
                # DistributedDataParallel divides by W; the sum of the weights divides below.
                accelerator.backward(loss * world_size)
        statistics.after_step(self.sampler.micro_batches(step))
        totals[3] += signals.received() is not None
        totals = accelerator.reduce(totals)
        accelerator.unscale_gradients(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = average_and_clip(gradients, totals[1], self.config.optimizer.clip_norm)
        self.optimizer.step()
        names = {"head": "lr", "backbone": "lr_backbone"}
        groups = self.optimizer.param_groups
        self.state.rates = {names[group["name"].partition("/")[0]]: group["lr"] for group in groups}
        self.state.schedule.step()
        skipped = totals.new_tensor(float(self.optimizer.step_was_skipped))
        self.state.sums.steps.append(torch.stack([totals[0], totals[1], norm, skipped]))
        values = torch.stack([*totals, norm])
        self._late.append(LateValues(self.state.position.global_step + 1, values))

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
        row.append(torch.full_like(batch.samples, self.state.position.global_step + 1))
        self.state.sums.rows.append(torch.stack(row, dim=1))
        self._last_frames = batch.frames
        return (losses * weights).sum(), weights.sum()

    def _forward_nothing(self) -> Tensor:
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

    def _dropout_seed(self, micro_batch: int) -> int:
        """The same for a micro-batch whichever process takes it, before and after a resume."""
        entropy = [self.config.seed, self.state.position.global_step, micro_batch]
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])

    def check(self, leave: int = 0) -> None:
        """Raise RunError, on every process, if a step went wrong; look at all but ``leave`` steps.

        Left to the next call, the newest step never makes a GPU wait for its answer. All must be
        looked at before anything is saved. Sets `videos_failed` and `stop`, alike everywhere.
        """
        while len(self._late) > leave:
            late = self._late.popleft()
            losses, _, failed, stops, norm = late.read()
            self.videos_failed |= failed > 0
            self.stop |= stops > 0
            fp16 = self.accelerator.mixed_precision == "fp16"  # its scaler skips infinite gradients
            if not np.isfinite(losses) or not (fp16 or np.isfinite(norm)):
                what = "loss" if not np.isfinite(losses) else "gradient"
                raise RunError(
                    f"step {late.global_step}: the {what} is not a finite number: lower "
                    f"--optimizer.lr ({self.config.optimizer.lr:g}), set --optimizer.clip-norm, or "
                    "use --mixed-precision no; what was saved before is from good steps"
                )


class Copies:
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
