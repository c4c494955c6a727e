"""``benchmark answers``: the backends in turn, with their answers, on a model or a run."""

import json
from pathlib import Path

import pytest

from slowfast_dist.cli.main import main
from tests.helpers.model_folders import save_models, small_config


def test_both_backends_are_measured_and_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="openvino, of the extra 'cpu', is what is measured")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    save_models(tmp_path / "models", ("a", "b", "c"), small_config(tmp_path))
    words = ["benchmark", "answers", str(tmp_path), "--rounds", "2", "--batch-sizes", "1", "3"]
    main([*words, "--mixed-precision", "no", "--json"])
    *_, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    rows = result["rows"]
    assert [(row["batch"], row["backend"]) for row in rows] == [
        (1, "torch"), (1, "openvino"), (3, "torch"), (3, "openvino"),
    ]  # fmt: skip
    assert all(row["wall_ms"] > 0 and row["difference"] < 1e-4 for row in rows)
    assert result["ratio"] > 0 and result["mixed_precision"] == "no"


def test_a_runs_model_cannot_be_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", "answers", str(tmp_path), "--crop-size", "64"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: --crop-size 64: ")
