"""Whether a training diverged: its validation's loss is that of no model."""

from collections.abc import Mapping
from typing import Any

from slowfast_dist.config.errors import DivergedError
from slowfast_dist.metrics.scores import is_sound_loss
from slowfast_dist.metrics.task import task_of
from slowfast_dist.system.log import logger
from slowfast_dist.training.best.tracker import Run


class Divergence:
    """Whether the validation's loss is that of no model; ``state``, JSON for checkpoints: epoch and
    loss (text) of the last validation where it was, else None."""

    def __init__(self, run: Run, state: dict[str, Any] | None) -> None:
        self.run, self.state = run, state

    def judge(self, epoch: int, loss: float) -> None:
        """Note a validation's loss; what is absurd or no number is said once in a row."""
        before, self.state = self.state, None
        if is_sound_loss(loss):
            return
        self.state = {"epoch": epoch, "loss": f"{loss:.4g}"}
        if before is None:
            logger.warning(
                f"epoch {epoch}: val/loss is {loss:.4g}, that of a training that diverged: while "
                f"it is so no epoch is the best. {self._remedy}"
            )

    def raise_if_diverged(self, best: Mapping[str, Any] | None) -> None:
        """At the end: raise DivergedError where the last validation was so; ``best`` as the
        tracker's state."""
        if self.state is None:
            return
        kept = "no best model was written, as no epoch had a sound val/loss"
        if best is not None:
            kept = f"models/ holds the model of epoch {best['epoch']}, from before"
        guess = task_of(self.run.config.loss.name).guess(len(self.run.videos.classes))
        raise DivergedError(
            f"{self.run.folder.shown}: the training diverged: val/loss of epoch "
            f"{self.state['epoch']}, the last, is {self.state['loss']}, where guessing gives "
            f"{guess:.2f}; {kept}. {self._remedy}, in a new --output-dir"
        )

    @property
    def _remedy(self) -> str:
        rate = self.run.config.optimizer.lr
        return f"Train with a smaller --optimizer.lr than {rate:g}, or with --optimizer.clip-norm"
