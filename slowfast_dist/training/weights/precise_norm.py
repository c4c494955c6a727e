"""BatchNorm's statistics measured for the weights that are validated, not collected on the way.

Running statistics are an average over some 20 micro-batches, of weights that changed meanwhile; for
an average of epochs they are those of other weights. Wu and Johnson (Rethinking "Batch" in
BatchNorm, 2021) measure them anew before each validation, as torch's update_bn does at the end.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.data.loaders import Loaders
from slowfast_dist.distributed.collectives import any_process, barrier, gather_rows
from slowfast_dist.model.slowfast import SlowFast, live_batchnorms
from slowfast_dist.system import signals

USUAL_CLIPS = 128
"""Training clips over which the statistics are measured where the flag says auto: more than the 76
that count in running ones (momentum .1, micro-batches of 4), and less than half a minute of a
slowfast_r50 on 2 CPU cores."""


def clips_measured(config: EvaluationConfig, averaged_epochs: bool = False) -> int:
    """How many training clips a measurement takes at least, for the network of an epoch or for an
    average of several; 0: there is none."""
    if config.precise_norm == "auto":
        return USUAL_CLIPS if averaged_epochs else 0
    return config.precise_norm


class PreciseStatistics:
    """Measures over the first optimizer steps of the epoch that was trained, as many as have
    ``clips`` clips, at most all: the same micro-batches at any number of processes."""

    def __init__(
        self, network: SlowFast, loaders: Loaders, accelerator: Accelerator, data: DataConfig,
        clips: int,
    ) -> None:  # fmt: skip
        """``data`` cuts the clips; ``clips`` 0: nothing is measured."""
        self.network, self.loaders, self.accelerator = network, loaders, accelerator
        self.layers = list(live_batchnorms(network)) if clips else []
        self.shape = (data.num_frames, 3, data.crop_size, data.crop_size)
        sampler = loaders.sampler
        self.steps = min(-(-clips // sampler.global_batch), sampler.steps_per_epoch)

    @property
    def told(self) -> str:
        """For the user, behind what is validated; "" where nothing is measured."""
        if not self.layers:
            return ""
        sampler = self.loaders.sampler
        clips = min(self.steps * sampler.global_batch, sampler.num_samples)
        return f" with BatchNorm statistics measured on {clips} training clips"

    @contextmanager
    def in_network(self, epoch: int) -> Iterator[bool]:
        """Collective. In here the live BatchNorms have the statistics of the network's weights on
        clips of ``epoch`` (from 0), then their own again. False where a process was asked to stop
        meanwhile."""
        if not self.layers:
            yield True
            return
        buffers = self._buffers()
        counters = [counter for layer in self.layers
                    if (counter := layer.num_batches_tracked) is not None]  # fmt: skip
        kept = [tensor.clone() for tensor in buffers + counters]
        momenta = [layer.momentum for layer in self.layers]
        try:
            for layer in self.layers:
                layer.momentum = 1.0  # the buffers become those of the last micro-batch
            yield self._measure(epoch, buffers)
        finally:
            torch._foreach_copy_(buffers + counters, kept)
            for layer, momentum in zip(self.layers, momenta, strict=True):
                layer.momentum = momentum

    def _buffers(self) -> list[Tensor]:
        pairs = [(layer.running_mean, layer.running_var) for layer in self.layers]
        return [buffer for pair in pairs for buffer in pair if buffer is not None]

    @torch.no_grad()
    def _measure(self, epoch: int, buffers: list[Tensor]) -> bool:
        """Fill the buffers with the mean over the micro-batches; False where asked to stop."""
        assert self.network.training
        accelerator, sampler = self.accelerator, self.loaders.sampler
        synchronised = self.network.norm == "sync"  # all forward together, or wait forever
        sampler.set_epoch(epoch, end_step=self.steps)
        device, width = accelerator.device, sum(buffer.numel() for buffer in buffers)
        places: list[int] = []
        found = [torch.empty(0, width, device=device)]
        batches = iter(self.loaders.train)
        for place in sampler.places():
            if signals.received() is not None and not synchronised:
                break
            batch = next(batches)
            if not len(batch) and not synchronised:
                continue
            frames = batch.to(device).frames
            if not len(batch):
                frames = torch.empty((0, *self.shape), dtype=torch.uint8, device=device)
            with accelerator.autocast():
                self.network.forward(frames)  # past torch.compile, for a few forward passes
            if len(batch):
                places.append(place)
                found.append(torch.cat([buffer.flatten() for buffer in buffers])[None])
        barrier(accelerator)
        if any_process(accelerator, signals.received() is not None):
            return False
        numbers = torch.tensor(places, dtype=torch.int64, device=device)[:, None]
        order = gather_rows(accelerator, numbers)[:, 0].argsort()
        rows = gather_rows(accelerator, torch.cat(found))[order]
        if len(rows):  # else no clip could be read
            # In the order of the micro-batches, so that the processes' number changes no rounding.
            parts = rows.double().mean(dim=0).float().split([buffer.numel() for buffer in buffers])
            for buffer, part in zip(buffers, parts, strict=True):
                buffer.copy_(part.view_as(buffer))
        return True
