"""The settings of ``serve`` and ``review``, which show pages to a browser: field names are the
flags, the text below is their help.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Interval, Predicate

from slowfast_dist.config import fields
from slowfast_dist.config.checks import Remedy

_TOKEN_REMEDY = "give auto, or 16 to 256 of A to Z, a to z, 0 to 9, - and _ that nobody guesses"


def _is_token(token: str | None) -> bool:
    return token in (None, "auto") or re.fullmatch(r"[\w-]{16,256}", token or "", re.A) is not None


@dataclass(frozen=True)
class Serve:
    """Show a run's best model in the browser: drop a video, see what it says.

    RUN is a run's folder, or its models folder alone. Needs pip install '.[demo]'.
    """

    port: Annotated[int, Interval(ge=0, le=65535)] = 7860
    """Port to listen on; 0: any free one."""
    host: str = "127.0.0.1"
    """Address to listen on: this machine alone. Another one asks for --token, or for --no-token;
    nothing is encrypted."""
    token: Annotated[str | None, Predicate(_is_token), Remedy(_TOKEN_REMEDY)] = None
    """What visitors have to show, once in a browser, or as Authorization: Bearer. auto: a new one,
    printed with the address; give that, as other users of this machine see command lines."""
    no_token: bool = False
    """Let in whoever reaches --host."""
    max_megabytes: fields.PositiveFloat = 200.0
    """Largest video taken."""
    max_seconds: fields.PositiveFloat = 600.0
    """Longest video taken, in seconds of its playing time."""
    time_limit: fields.PositiveFloat = 120.0
    """Seconds that the work on one video may take."""
    backend: fields.Backend = "auto"
    """As --backend of predict."""
    mixed_precision: fields.BackendPrecision = "auto"


@dataclass(frozen=True)
class Review:
    """Mend labels in the browser: videos play one after the other, keys set the label and cut.

    RUN is a run's folder, that of a cross-validation, a list of path,label,start,end, or a folder
    of videos. Nothing of it is changed. Needs pip install '.[demo]'.
    """

    list: Path | None = None
    """What is reviewed in place of the run's own videos, with the run's classes: a list of
    path,label and perhaps start, end, suggested, probability and reason, the lines that predict
    --json printed, or a folder of videos."""
    videos: Path | None = None
    """Folder from which relative paths start; none: the list's own, and of a run that of its
    videos."""
    order: fields.ReviewOrder | None = None
    """hardest: the least probable labels first; wrong: those alone of which the model says another
    class, the surest first; suggested: as the list has them; path; none: what the list or run
    tells most of."""
    output: Path = Path("annotations.csv")
    """The list to write, for --data.root of a training; each answer is in it at once. Beside it
    annotations.journal.jsonl keeps all answers: the same command goes on where it ended."""
    class_folders: bool = False
    """A folder of videos is one of class folders, as for a training; else its videos have no
    label yet."""
    port: Annotated[int, Interval(ge=0, le=65535)] = 7861
    """Port to listen on; 0: any free one."""
    host: str = "127.0.0.1"
    """Address to listen on: this machine alone. Another one, as for a phone, asks for --token;
    nothing is encrypted."""
    token: Annotated[str | None, Predicate(_is_token), Remedy(_TOKEN_REMEDY)] = None
    """As --token of serve."""
