import sys
import types

import pytest


@pytest.fixture
def exam(monkeypatch):
    """A stand-in for the exam, which takes minutes; returns what it was called with."""
    calls = []

    def run_exam(output, t2v, i2v, *, config, overwrite, on_progress):
        on_progress(1, 2)
        calls.append({"output": output, "t2v": t2v, "i2v": i2v, "config": config, "overwrite": overwrite})
        return {"num_videos": 2, "seconds": 1.0, "settings": {"fps": 8.0, "seed": 3}}

    def exam_config(**settings):
        if settings["num_prompts"] < 1:
            raise ValueError("num_prompts is 0; the exam needs at least 1")
        return settings

    monkeypatch.setitem(
        sys.modules,
        "videocrafter.evaluation.exam",
        types.SimpleNamespace(run_exam=run_exam, ExamConfig=exam_config),
    )
    return calls


def test_models_and_settings_reach_the_exam(cli, exam, t2v_folder, i2v_folder, tmp_path):
    result = cli("evaluate", t2v_folder, "-o", tmp_path / "r", "--i2v", i2v_folder, "--prompts", 5, "--seed", 3)
    assert result.exit_code == 0, result.output
    (call,) = exam
    assert type(call["t2v"]).__name__ == "TextToVideoPipeline"
    assert type(call["i2v"]).__name__ == "ImageToVideoPipeline"
    assert call["config"]["num_prompts"] == 5
    assert call["config"]["seed"] == 3
    assert "report.json" in result.stdout.replace("\n", "")


def test_wrong_models_and_numbers_are_one_line(cli, exam, t2v_folder, i2v_folder, tmp_path):
    for arguments, word in (
        (["tinny"], "tinny"),
        ([i2v_folder], "TextToVideoPipeline is needed"),
        ([t2v_folder, "--prompts", "0"], "num_prompts"),
        ([t2v_folder, "--device", "abacus"], "abacus"),
    ):
        result = cli("evaluate", *arguments, "-o", tmp_path / "r")
        assert result.exit_code == 2
        assert word in result.stderr
        assert result.stderr.count("\n") == 1
    assert exam == []
