"""The page about a search in a real browser, on a telephone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowfast_dist.commands.tune.page import tuning_context
from slowfast_dist.report.command import render
from tests.helpers.browser import new_context, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIDTH = 390
"""Pixels of a usual telephone."""

FLAGS = ("optimizer.lr", "optimizer.backbone-lr-scale", "loss.label-smoothing",
         "augment.crop-scale", "augment.rand-augment", "optimizer.ema")  # fmt: skip


def trial(number: int, state: str = "complete", why: str | None = None) -> dict[str, Any]:
    done = state == "complete"
    values = (0.001 * (number + 1), 0.1, 0.05 * number, "0.3 1.0" if number else "none", 9.0, 0.99)
    return {
        "number": number, "state": state, "f1_macro": 0.5 + 0.01 * number if done else None,
        "interval": [0.4, 0.8] if done else None, "accuracy": 0.6, "after_folds": [0.5, 0.55],
        "params": dict(zip(FLAGS, values, strict=True)), "seconds": 4000.0, "why": why,
    }  # fmt: skip


def facts() -> dict[str, Any]:
    """Of the usual flags, with all that the page can show."""
    trials = [trial(number) for number in range(12)]
    why = "CUDA out of memory; give a smaller --micro-batch-size/" + "with_a_long_path/" * 8
    command = "python train.py --config runs/" + "a-long-name-of-a-study" * 4 + "/best.yaml"
    return {
        "status": "running", "trials_asked": 30, "folds": 5, "seed": 0, "epochs": 30,
        "best": trials[-1], "videos": 120, "groups": 40,
        "difference": {"f1_macro": 0.1, "interval": [-0.02, 0.2]},
        "corrected": {"f1_macro": 0.55, "interval": [0.4, 0.7], "trials": 12},
        "importance": {flag: 1 / len(FLAGS) for flag in FLAGS}, "command": command,
        "flags": [f"--{flag}=1" for flag in FLAGS],
        "trials": [*trials, trial(12, "failed", why), trial(13, "pruned", "diverged")],
    }  # fmt: skip


def test_on_a_telephone_only_the_table_goes_sideways_also_by_keys(
    browser: "Browser", tmp_path: Path
) -> None:
    name = "a-long-name-of-a-study" * 4
    page = tmp_path / "tune.html"
    page.write_bytes(render("tuning.html", tuning_context(name, facts(), {"optimizer.lr": True})))
    context = new_context(browser, WIDTH)
    seen = context.new_page()
    seen.goto(page.as_uri())
    assert seen.evaluate("document.documentElement.scrollWidth") <= WIDTH
    box = "document.querySelector('#trials .scroll')"
    assert seen.evaluate(f"{box}.scrollWidth - {box}.clientWidth") > 100
    seen.locator("#trials-title").click()
    seen.keyboard.press("Tab")
    assert seen.evaluate(f"document.activeElement === {box}")
    assert seen.evaluate(f"{box}.getAttribute('aria-label')") == "Trials"
    seen.keyboard.press("ArrowRight")
    wait_until(seen, f"{box}.scrollLeft > 0")
    context.close()
