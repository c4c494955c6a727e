"""What the trials of a study found: tune.json, best.yaml and tune.html."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from slowfast_dist.commands.tune.page import tuning_context
from slowfast_dist.commands.tune.space import flags_of, text_of, with_params
from slowfast_dist.commands.tune.study import Trials
from slowfast_dist.commands.tune.trial import ANSWERS
from slowfast_dist.config.commands.tune import Range, Searched, Tune
from slowfast_dist.config.training import Config, config_dict
from slowfast_dist.metrics.chosen import corrected_for_choice, paired_interval
from slowfast_dist.metrics.uncertainty import with_interval
from slowfast_dist.report.command import render, write_page
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.reading import read_text
from slowfast_dist.system.files import atomic_write, write_json
from slowfast_dist.system.log import logger
from slowfast_dist.system.text import option, shell

RESULT, PAGE, BEST = "tune.json", "tune.html", "best.yaml"

FEWEST_FOR_IMPORTANCE = 10
"""Complete trials from which on the importance of flags is told: of fewer it is noise."""

NOT_OF_BEST = (
    "output_dir", "resume", "resume_changed", "folds", "fold", "seeds", "learning_curve", "hours",
)
"""Settings that best.yaml leaves to the training that takes it."""

_STATES = {
    TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}  # fmt: skip


def write_result(
    config: Tune, base: Config, space: Sequence[Searched], trials: Trials, folds: int
) -> dict[str, Any]:
    """Write all three, of the trials so far, and return what is in tune.json. The caller holds the
    study's lock."""
    begun = trials.all()
    rows = [_row(one, trials) for one in begun]
    complete = [row for row in rows if row["state"] == "complete"]
    best = max(complete, key=lambda row: (row["f1_macro"], -row["number"]), default=None)
    over = not any(one.state == TrialState.RUNNING for one in begun)
    enough = len(begun) >= config.trials or trials.all_tried()
    facts: dict[str, Any] = {
        "status": "finished" if over and enough else "running",
        "trials_asked": config.trials, "folds": folds, "seed": base.seed, "epochs": base.epochs,
        "search": [str(one) for one in space], "best": best, "videos": None, "groups": None,
        "difference": None, "corrected": None, "importance": _importance(trials, begun),
        "trials": rows,
    }  # fmt: skip
    if best is not None:
        facts |= _comparison(trials, complete, best["number"])
        chosen = with_params(base, space, _params(begun, best["number"]))
        facts["flags"] = list(flags_of(_params(begun, best["number"])))
        chosen = replace(chosen, wandb=config.wandb, report=config.report)  # trials had none
        write_best(trials.folder / BEST, chosen, best, trials.folder)
        facts["command"] = _command(trials.folder)
    write_json(trials.folder / RESULT, facts)
    logs = {one.flag: one.log for one in space if isinstance(one, Range)}
    page = tuning_context(trials.folder.name, facts, logs)
    write_page(trials.folder / PAGE, render("tuning.html", page))
    return facts


def _row(one: FrozenTrial, trials: Trials) -> dict[str, Any]:
    state = _STATES[one.state]
    kept = json.loads(read_text(trials.folder_of(one.number) / "cross_validation.json", 10**8)
                      or "{}") if state == "complete" else {}  # fmt: skip
    scores = [one.intermediate_values[fold] for fold in sorted(one.intermediate_values)]
    return {
        "number": one.number, "state": state,
        "f1_macro": one.value if state == "complete" else None,
        "interval": kept.get("intervals", {}).get("f1_macro"),
        "accuracy": kept.get("metrics", {}).get("accuracy"), "after_folds": scores,
        "params": {flag: _plain(value) for flag, value in one.params.items()},
        "seconds": one.user_attrs.get("seconds"), "why": one.user_attrs.get("why"),
    }  # fmt: skip


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else float(text_of(value))


def _params(begun: Sequence[FrozenTrial], number: int) -> dict[str, Any]:
    return next(one.params for one in begun if one.number == number)


def _importance(trials: Trials, begun: Sequence[FrozenTrial]) -> dict[str, float] | None:
    """Of each flag, by fANOVA (Hutter et al. 2014): the share of the scores' variance among
    complete trials that it explains; None where they are few, or all alike."""
    values = {one.value for one in begun if one.state == TrialState.COMPLETE}
    count = sum(one.state == TrialState.COMPLETE for one in begun)
    if count < FEWEST_FOR_IMPORTANCE or len(values) < 2:
        return None
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(trials.study, evaluator=evaluator)


def _comparison(
    trials: Trials, complete: Sequence[dict[str, Any]], best: int
) -> dict[str, Any]:
    """What the predictions of complete trials say together: the best one against the settings as
    given, and its score without the flattery of the choice."""
    answers = {}
    for row in complete:
        path = trials.folder_of(row["number"]) / ANSWERS
        if path.exists():
            with np.load(path) as found:
                answers[row["number"]] = {name: found[name] for name in found.files}
    if best not in answers:
        return {}
    own = answers[best]
    labels, groups, classes = own["labels"], own["groups"], int(own["classes"])
    same = {number: one["predicted"] for number, one in answers.items()
            if np.array_equal(one["labels"], labels)}  # fmt: skip
    count = int(groups.max()) + 1
    facts: dict[str, Any] = {
        "videos": len(labels), "groups": count if count < len(labels) else None,
    }
    if best != 0 and 0 in same:
        value = {row["number"]: row["f1_macro"] for row in complete}
        facts["difference"] = {
            "f1_macro": value[best] - value[0],
            "interval": paired_interval(labels, same[best], same[0], groups, classes),
        }
    found = corrected_for_choice(labels, np.stack(list(same.values())), groups, classes)
    if found is not None:
        facts["corrected"] = {
            "f1_macro": found.f1_macro, "interval": found.interval, "trials": found.models,
        }
    return facts


def write_best(path: Path, config: Config, best: dict[str, Any], folder: Path) -> None:
    """All settings of the best trial, for --config of train and cross-validate."""
    settings = {
        name: value for name, value in config_dict(config).items() if name not in NOT_OF_BEST
    }
    changed = ", ".join(f"{flag} {text_of(value)}" for flag, value in best["params"].items())
    with atomic_write(path, "w") as file:
        file.write(
            f"# The best settings of the search in {folder.name}, of {time.strftime('%Y-%m-%d')}\n"
            "#\n"
            f"# Command   {_command(folder)}\n"
            f"# Result    macro-F1 {best['f1_macro']:.4f} out of fold, trial {best['number']}; "
            f"chosen on these folds, so read {PAGE}\n"
            f"# Searched  {changed}\n\n"
        )
        yaml.safe_dump(settings, file, sort_keys=False, allow_unicode=True)


def _command(folder: Path) -> str:
    shown = RunFolder(folder).shown
    return " ".join([
        "python train.py", option("--config", shown / BEST),
        option("--output-dir", shown.with_name(f"{shown.name}-best")),
    ])  # fmt: skip


def say_result(shown: Path, facts: dict[str, Any]) -> None:
    """In a few lines, where a trial is complete."""
    if (best := facts["best"]) is None:
        return
    over = "groups" if facts["groups"] else "videos"
    logger.info(
        f"best of {len(facts['trials'])}: trial {best['number']}, macro-F1 "
        f"{with_interval(best['f1_macro'], best['interval'], over)}"
    )
    if best["number"] == 0:
        logger.info("no complete trial was better than the settings as given")
    elif (more := facts["difference"]) is not None:
        logger.info(
            "above the settings as given by "
            f"{with_interval(more['f1_macro'], more['interval'], over)}"
        )
    if (fair := facts["corrected"]) is not None:
        logger.info(
            f"that score was chosen by, so it flatters: to expect of the best of "
            f"{fair['trials']} is {with_interval(fair['f1_macro'], fair['interval'], over)}; rows "
            "of split test tell it on videos that chose nothing"
        )
    logger.info(f"{shown / PAGE}: all of it; {RESULT}: for programs")
    logger.info(f"train with the best: {facts['command']}")
    logger.info(f"or add to your own command: {shell(facts['flags'])}")
