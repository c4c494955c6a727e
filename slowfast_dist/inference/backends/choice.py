"""``--backend auto``: torch or OpenVINO, whichever answers faster and says the same, decided once
for these weights on this machine, on a clip of the user's own, or on a made one where none is there
yet, as at the start of a server.

Files for onnxruntime and torch.export are no candidates: they compute in float32, and never in less
time than torch's own path.
"""

import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.inference.backends.kept_models import is_kept, read_facts, write_facts
from slowfast_dist.inference.backends.openvino_network import (
    OpenVinoNetwork,
    open_kept,
    open_prepared,
    prepared_key,
)
from slowfast_dist.inference.metadata import CpuPrecision, Network, has_own_weights
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.system.log import logger
from slowfast_dist.system.memory import give_back_free_memory

if TYPE_CHECKING:
    from slowfast_dist.model.slowfast import SlowFast

WORTH_CLIPS = 64
"""Clips from which on OpenVINO is prepared: the first start with new weights takes 9 CPU seconds
for slowfast_r50, of which OpenVINO saves .1 to .2 a clip. For fewer it computes where it was
prepared and chosen before."""

LITTLE = "there is little to compute"

AGREEMENT = {"no": 1e-3, "bf16": 0.1}
"""Largest difference of a logit from torch's in the same precision, as a share of the largest logit
and at least of 1. In bf16 torch and OpenVINO are each up to .07 from float32 (slowfast_r50)."""

NOT_FINITE = 1e9
"""What counts as the difference where a logit is no finite number: JSON has no infinity."""

BLOCK = 16
"""Pixels of a side of the blocks of a made clip: a few in each direction, so that there are edges
and areas, as in pictures."""

TIMED = 3
"""Times that both compute a clip, in turn, for the median of their CPU times."""


def missing_libraries() -> str | None:
    """As "openvino is not installed: pip install '.[cpu]'"; None where nothing is missing."""
    for library in ("openvino", "onnx", "onnxscript"):
        if find_spec(library) is None:
            return f"{library} is not installed: pip install '.[cpu]'"
    return None


class Choice:
    """What is known of OpenVINO for the best model in one precision, on the CPU.

    ``worth``: whether there is so much to do that it is prepared where it is not yet; ``made``:
    whether they are compared on a made clip, whose class means nothing: the logits alone must agree
    then.
    """

    def __init__(
        self, best: BestModel, precision: CpuPrecision, worth: bool, made: bool = False
    ) -> None:
        self.best, self.precision, self.worth, self.made = best, precision, worth, made
        self.reason: str | None = missing_libraries()
        self.key = ""
        self.facts: dict[str, Any] | None = None
        if self.reason is not None:
            return
        try:
            self.key = prepared_key(best)
        except FileNotFoundError:  # loading the weights says so
            self.reason = "there are no weights"
            return
        if not worth and not is_kept(self.key):
            self.reason = LITTLE

    def settled(self) -> OpenVinoNetwork | None:
        """OpenVINO's network where it was chosen before and nothing has changed since; no torch
        network is needed then."""
        if self.reason is not None:
            return None
        found = None
        try:
            self.facts = self._known()
            chosen = self.facts is not None and self._why_not(self.facts) is None
            if chosen and is_kept(self.key) and has_own_weights(self.best):
                found = open_kept(self.key, self.precision)
        except UserError:
            raise
        except Exception as error:  # of OpenVINO: nearly anything
            self.reason = _cannot(error)
        if found is None and not self.worth:
            self.reason = LITTLE
        return found

    def decide(
        self, plain: "Callable[[], Network]", load: "Callable[[], SlowFast]",
        clip: NDArray[np.uint8],
    ) -> OpenVinoNetwork | None:  # fmt: skip
        """OpenVINO's network where it answers faster than torch's, and the same; else None, and
        `reason` says why. ``plain`` makes torch's of its own copy of the weights: it is called once
        OpenVINO's is there, whose making takes the most memory. ``clip``: one, (1, T, H, W, 3)."""
        if self.reason is not None:
            return None
        if not has_own_weights(self.best):
            load()  # which says what is wrong, though their graph may be kept
        try:
            network = open_prepared(self.best, self.key, self.precision, load)
        except (UserError, RunError):
            raise
        except Exception as error:  # of torch.onnx or OpenVINO: nearly anything
            self.reason = _cannot(error)
            return None
        self.facts = self._known()
        if self.facts is None:
            facts = compare(plain(), network, clip)
            if self.made:
                facts = {**facts, "made": True, "same": facts["difference"] < NOT_FINITE}
            write_facts(self.key, self.precision, facts)
            self.facts = facts
        self.reason = self._why_not(self.facts)
        return network if self.reason is None else None

    def say(self, chosen: Network | None) -> None:
        """Beside a command's result, which backend computes and why: OpenVINO where it was
        ``chosen``, else torch, of which nothing is said where there is little to compute."""
        if chosen is not None:
            _say(f"backend openvino: {self.in_words()}")
        elif self.worth:
            why = self.reason or "no video can be read to compare openvino with it"
            _say(f"backend torch: {why}")

    def _known(self) -> dict[str, Any] | None:
        """What was measured before. What a made clip told does for those alone who have no other.
        """
        facts = read_facts(self.key, self.precision)
        return None if facts is not None and facts.get("made") and not self.made else facts

    def _why_not(self, facts: dict[str, Any]) -> str | None:
        if not facts.get("same") or not facts["difference"] <= AGREEMENT[self.precision]:
            return f"openvino's answers differ (by {facts['difference']:.1e} of the largest logit)"
        if facts["ratio"] >= 1:
            return f"openvino takes {facts['ratio']:.2f} of its time here"
        return None

    def in_words(self) -> str:
        """What OpenVINO was chosen for."""
        facts = self.facts or {}
        computed = {"no": "float32", "bf16": "bf16"}[self.precision]
        clip = "a made clip" if facts.get("made") else "one clip"
        return f"{computed}, {facts['ratio']:.2f} of torch's CPU time and the same answer on {clip}"


def _cannot(error: Exception) -> str:
    cause = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"openvino cannot compute this model ({cause})"


def compare(plain: Network, network: Network, clip: NDArray[np.uint8]) -> dict[str, Any]:
    """"difference" of the logits, as a share of the largest; "same": whether all are finite and the
    most probable class is one; "ratio": of CPU times, ``network``'s over ``plain``'s."""
    expected, found = plain(clip), network(clip)
    largest = max(1.0, float(np.abs(expected).max()))
    finite = bool(np.isfinite(expected).all() and np.isfinite(found).all())
    ratios = []
    for _ in range(TIMED):
        begin = time.process_time()
        plain(clip)
        middle = time.process_time()
        network(clip)
        ratios.append((time.process_time() - middle) / max(middle - begin, 1e-9))
    return {
        "difference": float(np.abs(expected - found).max()) / largest if finite else NOT_FINITE,
        "same": finite and bool((expected.argmax(axis=1) == found.argmax(axis=1)).all()),
        "ratio": statistics.median(ratios),
    }  # fmt: skip


def _say(line: str) -> None:
    logger.info(line, extra={"stderr": True})


class AutoNetwork:
    """torch's network, or OpenVINO's, as `Choice.decide` finds on the first clip that comes."""

    def __init__(
        self, choice: Choice, plain: "Callable[[], Network]", load: "Callable[[], SlowFast]"
    ) -> None:
        self.choice, self.plain, self.load = choice, plain, load
        self.chosen: Network | None = None

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        chosen = self.chosen or self.choose(clips[:1])
        return chosen(clips)

    def choose(self, clip: NDArray[np.uint8]) -> Network:
        """Decide on that clip, (1, T, H, W, 3), and say what computes."""
        found = self.choice.decide(self.plain, self.load, clip)
        self.choice.say(found)
        self.chosen = found or self.plain()
        del self.plain, self.load  # and the memory of torch's weights where they are not used
        give_back_free_memory()
        return self.chosen


def made_clip(data: DataConfig) -> NDArray[np.uint8]:
    """A clip (1, T, S, S, 3) of the size ``data`` says: blocks of random colours that move by a
    pixel a frame both ways, always the same."""
    frames, side = data.num_frames, data.crop_size
    blocks = -(-(side + frames) // BLOCK)
    colours = np.random.default_rng(0).integers(0, 256, (blocks, blocks, 3), np.uint8)
    picture = colours.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
    return np.stack([picture[t : t + side, t : t + side] for t in range(frames)])[None]
