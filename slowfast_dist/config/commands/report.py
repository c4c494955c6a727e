"""The settings of ``report``: field names are the flags, the text below is their help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from slowfast_dist.config.report import EXPLAIN, EXPLAIN_SECONDS, Explain, ExplainSeconds


@dataclass(frozen=True)
class Report:
    """Write one HTML page about a run, or one that compares several.

    A RUN is a run's folder. The page needs no network: it can be mailed as it is.
    """

    output: Path | None = None
    """The file to write; none: report.html in the run's folder, or comparison.html in the current
    one for several runs."""
    hardest: Annotated[int, Interval(ge=0, le=1000)] = 12
    """Videos shown among those that the model got most wrong; 0: of none a picture."""
    explain: Explain = EXPLAIN
    """Of the first so many of them, draw where and when the best model saw its class, where that is
    not done yet; 0: of none."""
    explain_seconds: ExplainSeconds = EXPLAIN_SECONDS
    """Seconds that these maps may take; the next report draws more of them."""
    videos: Path | None = None
    """Folder of the videos of which stills are shown, as for a run whose data has moved, or whose
    CSV names files elsewhere; none: the one that the run names. No other file is opened."""
