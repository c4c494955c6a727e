"""Training videos that fail to decode: every process knows them all, and too many end the run."""

from collections import Counter
from collections.abc import Sequence

from accelerate import Accelerator

from slowfast_dist.config import RunError
from slowfast_dist.data.dataset import Failure
from slowfast_dist.data.guard import is_fatal
from slowfast_dist.data.loaders import Loaders
from slowfast_dist.distributed import gather_list
from slowfast_dist.recording import Recorder
from slowfast_dist.training_state import TrainingState


class BadVideos:
    """What is done about ``state.failed``."""

    def __init__(self, accelerator: Accelerator, state: TrainingState, loaders: Loaders) -> None:
        self.accelerator = accelerator
        self.state = state
        self.loaders = loaders

    def give_up(self) -> None:
        """Never try those again that took a decoding process with them."""
        failed = self.state.failed.items()
        self.loaders.give_up(video for video, reason in failed if is_fatal(reason))

    def share(self, new: Sequence[Failure], recorder: Recorder | None) -> None:
        """Collective: let every process know what the others met; ``new`` is this one's.

        Raises RunError on every process if they are more than data.max_bad_fraction of all.
        """
        failed, videos = self.state.failed, self.state.videos.train
        for failure in gather_list(self.accelerator, list(new)):
            failed.setdefault(failure.video, failure.reason)
        self.give_up()
        if recorder is not None:
            named = [(videos[video].name, reason) for video, reason in failed.items()]
            recorder.add_unreadable(named, "training")
        limit = self.state.config.data.max_bad_fraction
        if len(failed) > limit * len(videos):
            folders = Counter(str(videos[video].path.parent) for video in failed)
            folder, count = folders.most_common(1)[0]
            worst = next(v for v in failed if str(videos[v].path.parent) == folder)
            raise RunError(
                f"{len(failed)} of {len(videos)} training videos failed to decode, more than "
                f"--data.max-bad-fraction {limit:g}; most of them, {count}, in {folder} "
                f"(as {videos[worst].path.name}: {failed[worst]})"
            )
