"""What a run's page shows that costs time to find out; the same for a training and for ``report``.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

MOST_EXPLAINED = 12
"""Videos explained for one page: as many strips as it has room for."""

MOST_EXPLAIN_SECONDS = 86_400
"""Seconds for the maps of one page at most, a day: more is a slip."""

Explain = Annotated[int, Interval(ge=0, le=MOST_EXPLAINED)]
ExplainSeconds = Annotated[float, Interval(ge=0, le=MOST_EXPLAIN_SECONDS)]

EXPLAIN = 6
"""Videos explained where nothing else is asked for: what one looks at."""

EXPLAIN_SECONDS = 30.0
"""Seconds for that: on a GPU enough for any model, on a CPU for small ones."""

ENOUGH_SECONDS = 600
"""Seconds in the command that is named for maps that are missing: for six of the R50 on 8 CPU cores
there are enough, and it ends when it is done."""

EXPLAIN_SHARE = 0.05
"""Of the time that a training took, what the maps at its end take at most, so that nobody waits
noticeably longer for it."""


@dataclass(frozen=True)
class ReportConfig:
    explain: Explain = EXPLAIN
    """Draw where and when the best model saw its class in so many of the validation videos that it
    got most wrong, once, at the training's end, for report.html; 0: in none."""
    explain_seconds: ExplainSeconds = EXPLAIN_SECONDS
    """Seconds that these maps may take, and never more than a twentieth of the training's time;
    'report RUN --explain-seconds' draws those for which there was none left."""
