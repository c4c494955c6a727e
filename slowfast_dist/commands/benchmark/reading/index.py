"""The command ``benchmark index``: how start-up and memory grow with the number of videos.

The files are made and empty, and so is what the probe would have found of them, but for one real
video, from which the rate of a real probe is taken. All else is what a training does: the same
listing, cache, split, sampler and loader, in processes of their own.
"""

import os
import pickle
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from slowfast_dist.commands.benchmark.output import Meter, print_json
from slowfast_dist.commands.benchmark.processes import in_own_process
from slowfast_dist.config.benchmark import BenchmarkIndex
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError
from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.split import write_split
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.probe_cache import ProbeCache, Segment
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.data.sampler import DistributedBatchSampler
from slowfast_dist.data.samples.batch import collate
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.synthetic import MOTIONS, moving_disc
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.data.workers import worker_context
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.files import share_socket_folder
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.views import SpatialView
from slowfast_dist.video.writer import write_video

PROBED = 400
"""Links to the real video, from whose probe the rate is taken: some seconds of it."""

WORKERS = 2
"""Workers of the loader whose memory is measured."""

BATCH = 256
"""Videos of a batch, of which a worker remembers nothing."""

BATCHES = 100
"""Batches that the workers read before their memory is looked at: 25,600 random videos, so that
what grew with each would be seen."""


def run_benchmark(command: BenchmarkIndex) -> None:
    """Print a table, a line for each number of files; with ``json`` the last line is an object."""
    with tempfile.TemporaryDirectory(prefix="slowfast_dist_index_") as folder:
        probe = _probe_rate(Path(folder))
        print(
            f"probe: {probe['cpu_ms_per_file']:.1f} CPU ms a file, {probe['files_per_second']:.0f} "
            f"files a second on {probe['workers']} CPUs ({probe['video']}; {PROBED} links to it)"
        )
        print("seconds (CPU seconds in brackets); memory in MB; empty files, made probe results")
        print("\n" + "".join(f"{title:>15}" for title in _COLUMNS))
        rows = []
        fewer = [count for count in (10_000, 100_000) if count < command.files]  # how it grows
        for made, count in pairwise((0, *fewer, command.files)):
            try:
                _make_files(Path(folder, "videos"), made, count, command.files)
            except OSError as error:
                raise RunError(
                    f"{folder}: cannot make {count} files ({error.strerror}): let TMPDIR name a "
                    "folder with room for them"
                ) from error
            row = _measure(Path(folder), count, probe)
            shown = (column.format(**row) for column in _COLUMNS.values())
            print("".join(f"{cell:>15}" for cell in shown), flush=True)
            rows.append(row)
        print(
            "\nlisting, index: of the first start, which probes besides: extrapolated, "
            f"{rows[-1]['first_start_probe_cpu_hours_extrapolated']:.2f} CPU hours for "
            f"{command.files:,} files\n"
            "2nd start: list, look the cache up, split, fingerprint, split.csv, pickle for the "
            "other processes\nmain: the most memory that took, beside the imports; "
            "rank: what another process holds after unpickling\n"
            f"worker: memory of a loader's worker alone (USS) after {BATCH * BATCHES} random videos"
        )
    if command.json:
        print_json({"benchmark": "index", "probe": probe, "rows": rows})


_COLUMNS = {
    "files": "{files:,}",
    "listing": "{listing_seconds:.2f} ({listing_cpu_seconds:.2f})",
    "index": "{index_seconds:.2f} ({index_cpu_seconds:.2f})",
    "2nd start": "{second_start_seconds:.2f} ({second_start_cpu_seconds:.2f})",
    "unpickling": "{unpickling_seconds:.2f} ({unpickling_cpu_seconds:.2f})",
    "an epoch": "{epoch_seconds:.2f} ({epoch_cpu_seconds:.2f})",
    "main MB": "{main_peak_mb:.0f}",
    "rank MB": "{rank_mb:.0f}",
    "worker MB": "{worker_uss_mb:.1f}",
}


def _measure(folder: Path, count: int, probe: dict[str, Any]) -> dict[str, Any]:
    """One row of the table; the names of its values say what they are of."""
    row: dict[str, Any] = {"files": count}
    with _timed(row, "listing"):
        videos = list_videos(folder / "videos", "data.root").videos
    assert len(videos) == count and videos.stamps is not None
    infos = InfoColumns.empty(count)
    cache = folder / "cache" / "slowfast_dist" / "probe"
    memory = ProbeCache(cache, videos.root, Segment(videos.names, videos.stamps, infos))
    rows = np.flatnonzero(~memory.known)
    infos.put(rows, _made_infos(folder), rows % 1000)
    for place in rows.tolist():
        memory.add(place)
    with _timed(row, "index"):
        memory.save()
    memory.merge()
    row["index_mb"] = sum(file.stat().st_size for file in cache.glob("*/*")) / 1e6
    row["first_start_probe_cpu_hours_extrapolated"] = count * probe["cpu_ms_per_file"] / 3.6e6
    del videos, infos, memory
    row |= in_own_process(second_start, folder)
    return row | in_own_process(other_rank, folder)


@contextmanager
def _timed(row: dict[str, Any], name: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    row[f"{name}_cpu_seconds"] = time.process_time() - cpu
    row[f"{name}_seconds"] = time.perf_counter() - wall


def second_start(folder: Path) -> dict[str, Any]:
    """All that the main process of a training does with the videos before its first step."""
    os.environ["SLOWFAST_DIST_CACHE"] = str(folder / "cache")
    row: dict[str, Any] = {}
    before = _memory().rss
    with _timed(row, "second_start"):
        with _timed(row, "find_videos"):
            videos = find_videos(DataConfig(root=folder / "videos"), seed=0)
        with _timed(row, "fingerprint"):
            videos.fingerprint()
        with _timed(row, "split_csv"):
            write_split(folder / "split.csv", videos.classes, videos.train, videos.val)
        with _timed(row, "pickling"):
            content = pickle.dumps(videos)
    row["main_peak_mb"] = (_peak() - before) / 1e6
    row["main_mb"] = (_memory().rss - before) / 1e6
    row["broadcast_mb"] = len(content) / 1e6
    (folder / "videos.pickle").write_bytes(content)
    return row


def other_rank(folder: Path) -> dict[str, Any]:
    """What another process of the training gets, an epoch's order, and its loader's workers."""
    row: dict[str, Any] = {}
    content = (folder / "videos.pickle").read_bytes()
    before = _memory().uss
    with _timed(row, "unpickling"):
        videos: VideoSet = pickle.loads(content)
    row["rank_mb"] = (_memory().uss - before) / 1e6
    sampler = DistributedBatchSampler(len(videos.train), BATCH, BATCH, seed=0)
    with _timed(row, "epoch"):
        keys = iter(sampler)
        next(keys)
        row["sampler_mb"] = (_memory().uss - before) / 1e6 - row["rank_mb"]
        assert sum(1 for _ in keys) == len(sampler) - 1
    del keys
    return row | _worker_memory(videos.train, sampler)


def _worker_memory(videos: VideoTable, sampler: DistributedBatchSampler) -> dict[str, Any]:
    share_socket_folder()
    loader: Any = DataLoader(
        _Undecoded(videos, DataConfig(), seed=0), batch_sampler=sampler, num_workers=WORKERS,
        collate_fn=collate, persistent_workers=True, multiprocessing_context=worker_context(),
    )  # fmt: skip
    read = 0
    while read < BATCHES:
        sampler.set_epoch(read)
        for _ in loader:
            read += 1
            if read == BATCHES:
                break
    used = [psutil.Process(w.pid).memory_full_info() for w in loader._iterator._workers]
    return {
        "worker_uss_mb": max(memory.uss for memory in used) / 1e6,
        "worker_rss_mb": max(memory.rss for memory in used) / 1e6,
        "worker_videos_read": BATCH * BATCHES // WORKERS,
    }


class _Undecoded(TrainingClips):
    """Clips up to where the file would be opened: it is empty."""

    def _read(
        self, video: int, indices: NDArray[np.int64], views: Sequence[SpatialView], *_: object
    ) -> NDArray[np.uint8]:
        value = (len(str(self.videos.path(video))) + int(indices[-1])) % 256
        return np.full((len(views), 1, 1, 1, 3), value, np.uint8)


def _memory() -> Any:
    return psutil.Process().memory_full_info()


def _peak() -> int:
    """Bytes of memory that this process had at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _make_files(root: Path, first: int, last: int, total: int) -> None:
    """Empty files ``first`` to ``last`` of ``total``, in class folders."""
    per_class = min(1000, total // 10)  # as in the larger public datasets
    for number in range(first, last):
        label, clip = divmod(number, per_class)
        path = f"{root}/class_{label:05d}/clip_{clip:07d}_of_a_dataset.mp4"
        if clip == 0:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def _made_infos(folder: Path) -> InfoColumns:
    """(1000,): what the probe found of the real video, with other numbers of frames and sizes."""
    real, rng = probe_file(folder / "real" / "0.mp4"), np.random.default_rng(0)
    sizes = ((340, 256), (1280, 720), (1920, 1080))
    infos = []
    for frames in rng.integers(30, 900, 1000).tolist():
        width, height = sizes[frames % 3]
        infos.append(replace(real, frames=frames, width=width, height=height))
    return InfoColumns.of(infos)


def _probe_rate(folder: Path) -> dict[str, Any]:
    """Files a second that the probe really gets through, on links to one small video."""
    root, (size, frames) = folder / "real", (192, 60)
    root.mkdir()
    clip = moving_disc(MOTIONS["moves left"], size, frames, np.random.default_rng(0))
    write_video(root / "0.mp4", clip, fps=30)
    for number in range(1, PROBED):
        os.link(root / "0.mp4", root / f"{number}.mp4")
    videos = VideoTable.of_paths([root / f"{number}.mp4" for number in range(PROBED)])
    meter = Meter()
    found = probe_videos(videos, available_cpus(), None, show_progress=False)
    cost = meter.cost()
    assert found.readable.all(), found.reasons
    return {
        "files_per_second": PROBED / cost.wall,
        "cpu_ms_per_file": 1000 * cost.cpu / PROBED,
        "workers": available_cpus(),
        "video": f"H.264, {size} x {size} px, {frames} frames",
    }
