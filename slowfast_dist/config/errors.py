"""The kinds of failure that end a command with one line instead of a traceback."""


class UserError(ValueError):
    """The user's mistake: one line that names flag, value and remedy; shown without a traceback."""


class RunError(RuntimeError):
    """What ends a run through no bug of ours, as a full disk: one line without a traceback."""


class WorkerError(RunError):
    """A process that reads videos for this one could not start, died or is stuck: its cause."""


class DivergedError(RunError):
    """A training whose numbers are not finite any more, or absurd: its settings are bad ones."""
