"""``--backend auto``: torch or OpenVINO, whichever answers faster and says the same, decided on a
clip of the user's own, once for these weights on this machine.

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

from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.backends.compiled_cache import is_kept, read_facts, write_facts
from slowfast_dist.inference.backends.openvino_network import (
    OpenVinoNetwork,
    open_prepared,
    prepared_key,
)
from slowfast_dist.inference.metadata import CpuPrecision, Network, has_own_weights
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.system.log import logger

if TYPE_CHECKING:
    from slowfast_dist.model.slowfast import SlowFast

WORTH_CLIPS = 64
"""Clips from which on OpenVINO is asked: the first start with new weights takes 9 CPU seconds for
slowfast_r50, of which OpenVINO saves .1 to .2 a clip."""

AGREEMENT = {"no": 1e-3, "bf16": 0.1}
"""Largest difference of a logit from torch's in the same precision, as a share of the largest logit
and at least of 1. In bf16 torch and OpenVINO are each up to .07 from float32 (slowfast_r50)."""

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

    ``worth``: whether there is so much to do that it is asked at all.
    """

    def __init__(self, best: BestModel, precision: CpuPrecision, worth: bool) -> None:
        self.best, self.precision, self.worth = best, precision, worth
        self.reason: str | None = "there is little to compute"
        self.key = ""
        if not worth:
            return  # whatever was kept: what a few clips give does not hang on what ran before
        self.reason = missing_libraries()
        if self.reason is None:
            try:
                self.key = prepared_key(best, precision)
            except FileNotFoundError:  # loading the weights says so
                self.reason = "there are no weights"

    def settled(self) -> OpenVinoNetwork | None:
        """OpenVINO's network where it was chosen before and nothing has changed since; no torch
        network is needed then."""
        facts = None if self.reason else read_facts(self.key)
        if facts is None or not is_kept(self.key) or self._why_not(facts) is not None:
            return None
        if not has_own_weights(self.best):
            return None  # loading them says what is wrong
        network = open_prepared(self.best, self.key, self.precision, self.best.load)
        say("openvino", self._in_words(facts))
        return network

    def decide(
        self, plain: Network, load: "Callable[[], SlowFast]", clip: NDArray[np.uint8]
    ) -> OpenVinoNetwork | None:
        """OpenVINO's network where it answers faster than ``plain``, torch's, and the same; else
        None, and `reason` says why. ``clip``: one, (1, T, H, W, 3)."""
        if self.reason is not None:
            return None
        try:
            network = open_prepared(self.best, self.key, self.precision, load)
        except UserError:
            raise
        except Exception as error:  # of torch.onnx or OpenVINO: nearly anything
            cause = str(error).strip().partition("\n")[0] or type(error).__name__
            self.reason = f"openvino cannot compute this model ({cause})"
            return None
        facts = read_facts(self.key)
        if facts is None:
            facts = compare(plain, network, clip)
            write_facts(self.key, facts)
        self.reason = self._why_not(facts)
        if self.reason is None:
            say("openvino", self._in_words(facts))
            return network
        return None

    def say_torch(self) -> None:
        """That torch computes, and why OpenVINO does not; not where there is little to compute."""
        if self.worth:
            say("torch", self.reason or "no video can be read to compare openvino with it")

    def _why_not(self, facts: dict[str, Any]) -> str | None:
        if not facts.get("same") or not facts["difference"] <= AGREEMENT[self.precision]:
            return f"openvino's answers differ (by {facts['difference']:.1e} of the largest logit)"
        if facts["ratio"] >= 1:
            return f"openvino takes {facts['ratio']:.2f} of its time here"
        return None

    def _in_words(self, facts: dict[str, Any]) -> str:
        computed = {"no": "float32", "bf16": "bf16"}[self.precision]
        return (
            f"{computed}, {facts['ratio']:.2f} of torch's CPU time and the same answer on one clip"
        )


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
        "difference": float(np.abs(expected - found).max()) / largest if finite else 1e9,
        "same": finite and bool((expected.argmax(axis=1) == found.argmax(axis=1)).all()),
        "ratio": statistics.median(ratios),
    }  # fmt: skip


def say(backend: str, why: str) -> None:
    """Which backend computes, beside a command's result."""
    logger.info(f"backend {backend}: {why}", extra={"stderr": True})


class AutoNetwork:
    """torch's network, or OpenVINO's, as `Choice.decide` finds on the first clip that comes."""

    def __init__(self, choice: Choice, plain: Network, load: "Callable[[], SlowFast]") -> None:
        self.choice, self.plain, self.load = choice, plain, load
        self.chosen: Network | None = None

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.chosen is None:
            found = self.choice.decide(self.plain, self.load, clips[:1])
            if found is None:
                self.choice.say_torch()
            self.chosen = found or self.plain
            del self.plain, self.load  # and the memory of torch's weights where they are not used
        return self.chosen(clips)
