"""From uint8 frames to logits: the network, its blocks, folding, weights."""

from typing import Any


def __getattr__(name: str) -> Any:
    """SlowFast, the name by which every best_model_architecture.pth asks for its class."""
    if name != "SlowFast":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from slowfast_dist.model.slowfast import SlowFast

    return SlowFast
