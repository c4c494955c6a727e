"""What a run was trained on, and how: as facts in words, and as commands to do it again."""

from collections.abc import Mapping
from typing import Any

from slowfast_dist.report.format import ABSENT, count
from slowfast_dist.runs.run import Run, command_words, versions
from slowfast_dist.runs.settings import default_settings, same_setting
from slowfast_dist.system.text import shell

FIRST_UNREADABLE = 10
"""Unreadable videos listed at once; the others are shown on a click."""
ONE_LINE = 88
"""Characters up to which a command stands on one line of the page; of a longer one each flag has
its own."""


def video_counts(run: Run) -> tuple[int | None, int | None]:
    """Training and validation videos: of the split, else as counted in an epoch."""
    if run.split.train or run.split.val:
        return sum(run.split.train.values()), sum(run.split.val.values())
    names = ("once", "more", "never")
    counts = [run.history.value(f"train/samples_{name}") for name in names]
    train = None if None in counts else round(sum(value or 0 for value in counts))
    val = run.history.value("val/videos")
    failed = run.history.value("val/unreadable") or 0
    return train, None if val is None else round(val + failed)


def data_facts(run: Run) -> dict[str, Any]:
    settings, split = run.settings, run.split
    train, val = video_counts(run)
    facts = [("Training videos", ABSENT if train is None else f"{train:,}")]
    facts.append(("Validation videos", ABSENT if val is None else f"{val:,}"))
    root, folder = settings.get("data.root", "none"), settings.get("data.train-dir", "none")
    if root != "none":
        facts.append(("From", root))
        pattern = settings.get("data.group-pattern", "none")
        by = f"groups of {pattern}" if pattern != "none" else "class by class, at random"
        fraction, seed = settings.get("data.val-fraction", ""), settings.get("seed", "")
        facts.append(("Split", f"{by}; {fraction} for validation, seed {seed}"))
    elif folder != "none":
        facts += [("Training from", folder), ("Validation from", settings.get("data.val-dir", ""))]
    names = run.classes or sorted({*split.train, *split.val})
    known = split.train or split.val
    rows = [(name, split.train.get(name, 0), split.val.get(name, 0)) for name in names]
    bad = len(run.unreadable)
    more = f"; the first {FIRST_UNREADABLE}:" if bad > FIRST_UNREADABLE else ":"
    return {
        "data_facts": facts,
        "split_rows": rows if known else [],
        "unreadable": run.unreadable,
        "unreadable_first": FIRST_UNREADABLE,
        "unreadable_text": f"{count(bad, 'video')} could not be read{more}",
    }


def how_facts(run: Run) -> dict[str, Any]:
    settings, environment = run.settings, run.environment

    def get(flag: str) -> str:
        return settings.get(flag, "?")

    how: list[tuple[str, str]] = []
    if settings:
        start = get("model.weights")
        if start == "none":
            start = "Kinetics-400" if get("model.pretrained") == "true" else "from scratch"
        sampling = get("data.sampling")
        rate = f" at rate {get('data.sampling-rate')}" if sampling == "dense" else ""
        processes = environment.get("processes")
        times = f" × {processes} processes" if processes not in (None, 1) else ""
        how = [
            ("Model", f"{get('model.name')}, dropout {get('model.dropout')}"),
            ("Weights at the start", start),
            ("Clip", f"{get('data.num-frames')} frames, {sampling}{rate}, crop "
                     f"{get('data.crop-size')} px, short side {_range(get('data.short-side'))} px"),
            ("Validation views", f"{get('evaluation.temporal-views')} × "
                                 f"{get('evaluation.spatial-crops')} crops a video"),
            ("Batch", f"{get('global-batch-size')} videos a step, {get('micro-batch-size')} at "
                      f"once{times}"),
            ("Optimizer", f"{get('optimizer.name')}, lr {get('optimizer.lr')}, weight decay "
                          f"{get('optimizer.weight-decay')}"),
            ("Schedule", f"{get('schedule.name')}, warm-up "
                         f"{_epochs(get('schedule.warmup-epochs'))}"),
            ("Loss", f"cross-entropy, label smoothing {get('loss.label-smoothing')}, class weights "
                     f"{get('loss.class-weights')}"),
        ]  # fmt: skip
    for title, name in (("Device", "device"), ("Precision", "mixed_precision")):
        if name in environment:
            how.append((title, str(environment[name])))
    defaults = default_settings()
    changed = [
        (f"--{flag}", value, defaults.get(flag, ABSENT))
        for flag, value in settings.items()
        if flag != "output-dir" and not same_setting(value, defaults.get(flag))
    ]
    facts = [
        (title, str(environment[name]))
        for title, name in (("Host", "host"), ("CPUs", "cpus"), ("System", "platform"),
                            ("Python", "python"), ("Commit", "git_commit"))
        if environment.get(name) is not None
    ]  # fmt: skip
    folder = str(run.folder)
    return {
        "how": how,
        "changed": changed,
        "settings": [(f"--{flag}", value) for flag, value in settings.items()],
        "environment": [*facts, *versions(environment).items()],
        "command": _command(command_words(environment)),
        "launcher": _launcher(environment),
        "from_config": shell(["python", "-m", "slowfast_dist", "train", "--config",
                              f"{folder}/config.yaml"]) + " --output-dir NEW",
    }  # fmt: skip


def _range(text: str) -> str:
    """``256 320`` as 256 to 320; two equal ones as one."""
    return " to ".join(dict.fromkeys(text.split()))


def _epochs(text: str) -> str:
    """``2.0`` as 2 epochs."""
    try:
        shown = f"{float(text):g}"
    except ValueError:
        shown = text
    return f"{shown} {'epoch' if shown == '1' else 'epochs'}"


def _launcher(environment: Mapping[str, Any]) -> str:
    processes = environment.get("processes")
    if not isinstance(processes, int) or processes < 2:
        return ""
    return f" to each of {processes} processes by their launcher"


def _command(words: list[str]) -> list[str]:
    """The words as they are typed; of a long line each flag on one of its own."""
    line = shell(words)
    if len(line) <= ONE_LINE:
        return [line] if line else []
    lines = [[words[0]]] if words else []
    for word in words[1:]:
        if word.startswith("--"):
            lines.append([])
        lines[-1].append(word)
    return [shell(one) for one in lines]
