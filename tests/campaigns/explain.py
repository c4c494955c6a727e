"""Where the maps of ``predict --explain`` lie on the demo, whose moving disc is known.

``python -m tests.campaigns.explain`` trains the demo (or takes ``--run`` and ``--videos``),
explains the validation videos that it gets right, and prints one JSON object: the share of the
map's mass on the disc, beside the share of the pixels that the disc takes (chance), for

- the trained network;
- the trained network with a new last layer;
- networks with random weights whose BatchNorms have seen the videos, as a training with a learning
  rate of 0 leaves them, and one whose BatchNorms have seen nothing;

each as told, with what may be chance spread evenly, and ``found`` alone, whatever its strength.
``when``: the share of the map in the second half of the clips, whose first half is held still.
``grad_cam``: what Grad-CAM says at each of the last four stages.
"""

import argparse
import copy
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast_dist.data.clips import clip_indices
from slowfast_dist.data.synthetic import (
    DEMO_FRAMES,
    DEMO_SEED,
    DEMO_SIZE,
    MOTIONS,
    covered_frames,
)
from slowfast_dist.inference.explain import Explainer, Map
from slowfast_dist.model.blocks import pathway_blocks, stage, stem
from slowfast_dist.model.inputs import pathways
from slowfast_dist.model.slowfast import STAGES, SlowFast, rebuild
from slowfast_dist.runs.best_model import BestModel, load_best
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_views
from slowfast_dist.video.views import evaluation_view

Clip = tuple[NDArray[np.uint8], int, NDArray[np.float32]]
"""Frames (T, S, S, 3), index of the class, and what the disc covers of each pixel (T, S, S)."""

Explain = Callable[[NDArray[np.uint8], int], NDArray[np.float32]]
"""From frames and class to a map (T, S, S)."""

CALIBRATED_ON = 16
"""Clips whose statistics the BatchNorms of random networks take: the demo's batch."""


CUTS = range(2, STAGES + 1)
"""Stages behind which Grad-CAM is computed: a user of it would have to choose one."""


def right_clips(run: Path, videos: Path, best: BestModel) -> list[Clip]:
    """The validation clips that the run gets right."""
    with open(run / "predictions" / "val_best.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] == row["prediction"]]
    return [read_clip(videos / row["path"], best) for row in rows]


def read_clip(path: Path, best: BestModel) -> Clip:
    name, number = path.parent.name, int(path.stem.removeprefix("clip_"))
    info = probe_file(path)
    numbers = clip_indices(info, best.data, 0.5)
    view = evaluation_view(info.height, info.width, best.data, 0, 1)
    frames = read_views(path, numbers, info, "pyav", [view])[0]
    rng = np.random.default_rng([DEMO_SEED, list(MOTIONS).index(name), number])
    made = list(covered_frames(MOTIONS[name], DEMO_SIZE, DEMO_FRAMES, rng))
    rows = slice(view.top, view.top + view.height)
    columns = slice(view.left, view.left + view.width)
    size = (view.size, view.size)
    cover = np.stack([cv2.resize(made[place][1][rows, columns], size) for place in numbers])
    return frames, best.classes.index(name), cover


def shares(clips: Sequence[Clip], explain: Explain) -> dict[str, Any]:
    """Means over clips of the map's mass on the disc, with the half width of its 95 % interval, of
    the pixels on it, the share of clips with over half of the mass there, and that of clips with
    more than the pixels' share."""
    mass, area = [], []
    for frames, label, cover in clips:
        found = explain(frames, label).astype(np.float64)
        mass.append((found * cover).sum() / max(found.sum(), 1e-12))
        area.append(float(cover.mean()))
    on, chance = np.array(mass), np.array(area)
    means = {
        "mass": on, "chance": chance, "over_half": on > 0.5, "chance_over_half": chance > 0.5,
        "above_chance": on > chance + 1e-3,
    }  # fmt: skip
    above = 1.96 * float((on - chance).std()) / max(1, len(on) - 1) ** 0.5
    told = {name: round(float(values.mean()), 3) for name, values in means.items()}
    return {"clips": len(clips), "mass_95": round(above, 3)} | told


def ours(network: SlowFast, clips: Sequence[Clip]) -> dict[str, Any]:
    """Of the maps as they are told and of ``found`` alone, with their strengths."""
    explainer = Explainer(network)
    maps = [explainer.explain(frames, label).joined for frames, label, _ in clips]

    def told(cells: Callable[[Map], NDArray[Any]]) -> dict[str, Any]:
        large = iter([_enlarged(cells(one), clips[0][0].shape[1]) for one in maps])
        return shares(clips, lambda *_: next(large))

    strengths = np.array([one.strength for one in maps])
    median = round(float(np.median(strengths)), 3)
    strength = {"with_a_map": int((strengths > 0).sum()), "median": median}
    return {
        "told": told(lambda one: one.shares),
        "found": told(lambda one: one.found),
        "strength": strength,
    }


def _enlarged(cells: NDArray[Any], size: int) -> NDArray[np.float32]:
    maps = torch.from_numpy(cells.astype(np.float32))[:, None]
    return np.asarray(F.interpolate(maps, (size, size), mode="bilinear")[:, 0].numpy())


def when(network: SlowFast, clips: Sequence[Clip]) -> dict[str, float]:
    """The share of the map in the second half of clips that stand still until then; and in how
    many it is over half."""
    explainer, late = Explainer(network), []
    for frames, label, _ in clips:
        middle = len(frames) // 2
        still = np.repeat(frames[middle : middle + 1], middle, axis=0)
        held = np.concatenate([still, frames[middle:]])
        late.append(explainer.explain(held, label).joined.when[middle:].sum())
    means = {"share": np.mean(late), "over_half": np.mean(np.array(late) > 0.5)}
    return {name: round(float(value), 3) for name, value in means.items()}


def grad_cam(network: SlowFast, cut: int, frames: NDArray[np.uint8], label: int) -> Any:
    """Grad-CAM of both pathways behind stage ``cut``, added, over all frames (T, S, S)."""
    network.requires_grad_(False)
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2)[None]
    x = pathways(clip, network.description)
    for number, block in enumerate(network.blocks[:STAGES]):
        forward = partial(stage, recompute=False) if number else stem
        x = pathway_blocks(block, x, forward)
        if number + 1 == cut:
            leaves = x = [part.detach().requires_grad_() for part in x]
    logit = network.head(network.blocks[STAGES](x))[0, label]
    maps = torch.zeros(1)
    for leaf, gradient in zip(leaves, torch.autograd.grad(logit, leaves), strict=True):
        weights = gradient.mean(dim=(2, 3, 4), keepdim=True)
        cam = (weights * leaf.detach()).sum(dim=1, keepdim=True).clamp(min=0)
        cam = cam / cam[0, 0].numel()
        size = (len(frames), *frames.shape[1:3])
        maps = maps + F.interpolate(cam, size, mode="trilinear")[0, 0]
    return maps.numpy()


def normalise_on(network: SlowFast, frames: torch.Tensor) -> None:
    """Make the statistics of all BatchNorms those of these frames (B, T, 3, S, S) alone."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.training, norm.momentum = True, 1.0
    with torch.no_grad():
        network(frames)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.training, norm.momentum = False, momentum


def random_networks(
    best: BestModel, trained: SlowFast, count: int, clips: Sequence[Clip]
) -> Iterator[tuple[str, SlowFast]]:
    torch.manual_seed(0)
    other = copy.deepcopy(trained)
    other.head.proj.reset_parameters()
    yield "new_head", other
    yield "random_unseen", rebuild(best.model)
    frames = np.stack([clip[0] for clip in clips[:: max(1, len(clips) // CALIBRATED_ON)]])
    for seed in range(count):
        torch.manual_seed(seed)
        network = rebuild(best.model)
        normalise_on(network, torch.from_numpy(frames).permute(0, 1, 4, 2, 3))
        yield f"random_{seed}", network


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a trained demo; none: it is trained")
    parser.add_argument("--videos", type=Path, help="the demo's videos, with --run")
    parser.add_argument("--random", type=int, default=2, help="networks with random weights")
    parser.add_argument("--clips", type=int, default=0, help="clips explained; 0: all right ones")
    parser.add_argument("--fewer", type=int, default=3, help="all but the trained: each such clip")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run, videos = options.run or folder / "run", options.videos or folder / "videos"
        if options.run is None:
            subprocess.run(
                [sys.executable, "train.py", "demo", "--data.root", videos, "--output-dir", run,
                 "--wandb.mode", "disabled"],
                check=True, stdout=sys.stderr,
            )  # fmt: skip
        best, network = load_best(run)
        clips = right_clips(run, videos, best)
        clips = clips[:: max(1, len(clips) // options.clips) if options.clips else 1]
        fewer = clips[:: options.fewer]
        result: dict[str, Any] = {}

        def tell(name: str, found: Any) -> None:
            result[name] = found
            print(name, found, file=sys.stderr, flush=True)  # what takes minutes, at once

        start = time.process_time()
        tell("trained", ours(network, clips))
        tell("cpu_seconds_a_clip", round((time.process_time() - start) / len(clips), 2))
        tell("when", when(network, fewer))
        for name, other in random_networks(best, network, options.random, fewer):
            tell(name, ours(other, fewer))
        cams = {f"stage_{cut}": shares(fewer, partial(grad_cam, network, cut)) for cut in CUTS}
        tell("grad_cam", cams)
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
