"""What a validation's predictions say beyond their summary: calibration with the model's
temperature, and labels that are probably wrong."""

from dataclasses import dataclass

from slowfast_dist.data.pretext.ways import WAYS
from slowfast_dist.metrics.calibration import tempered
from slowfast_dist.metrics.summary import Predictions
from slowfast_dist.metrics.uncertainty import Bin, reliability
from slowfast_dist.metrics.wrong_labels import Doubt, doubts_of

MOST_DOUBTS = 100
"""Labels in doubt that a page names at most, the surest first: more are looked at by ``review``."""

MANY_DOUBTS = 0.2
"""Share of the videos from which the list says that it is rather the model that is wrong: people
label about a tenth wrong where it is hard, and a model that knows little doubts everything."""


@dataclass(frozen=True)
class Judged:
    """``calibrated``: the bins of confidence with ``temperature``, empty where that is 1;
    ``doubts``: the first of ``doubted`` labels that are probably wrong."""

    temperature: float
    calibrated: list[Bin]
    doubts: list[Doubt]
    doubted: int


def doubts_in(found: Predictions) -> list[Doubt]:
    """As `doubts_of`; none of a pretraining, whose labels nobody gave."""
    return [] if tuple(found.classes) == WAYS else doubts_of(found)


def judge(found: Predictions, temperature: float) -> Judged:
    """Of predictions of videos that their models never saw. The bins are of one temperature for
    all of them, which was fitted on them: figures that are cross-fitted come from elsewhere."""
    doubts = doubts_in(found)
    bins: list[Bin] = []
    if temperature != 1 and found.decided is None:
        bins = reliability(found.labels, tempered(found.probabilities, temperature))
    return Judged(temperature, bins, doubts[:MOST_DOUBTS], len(doubts))
