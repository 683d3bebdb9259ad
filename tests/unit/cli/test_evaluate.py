import pytest


@pytest.fixture
def exam(monkeypatch):
    """A stand-in for the exam, which takes minutes; returns what it was called with."""
    calls = []

    def run_exam(output, t2v, i2v, *, config, judge, overwrite, on_progress):
        on_progress(1, 2)
        calls.append({"output": output, "t2v": t2v, "i2v": i2v, "config": config, "overwrite": overwrite})
        return {"num_videos": 2, "seconds": 1.0, "settings": {"fps": 8.0, "seed": 3}}

    monkeypatch.setattr("videocrafter.evaluation.exam.run_exam", run_exam)
    return calls


def test_models_and_settings_reach_the_exam(cli, exam, t2v_folder, i2v_folder, tmp_path):
    result = cli("evaluate", t2v_folder, "-o", tmp_path / "r", "--i2v", i2v_folder, "--prompts", 5, "--seed", 3)
    assert result.exit_code == 0, result.output
    (call,) = exam
    assert type(call["t2v"]).__name__ == "TextToVideoPipeline"
    assert type(call["i2v"]).__name__ == "ImageToVideoPipeline"
    assert call["config"].num_prompts == 5
    assert call["config"].seed == 3
    assert "report.json" in result.stdout.replace("\n", "")


def test_a_quick_exam_asks_less(cli, exam, t2v_folder, tmp_path):
    assert cli("evaluate", t2v_folder, "-o", tmp_path / "r", "--quick").exit_code == 0
    assert cli("evaluate", t2v_folder, "-o", tmp_path / "s").exit_code == 0
    quick, full = (call["config"] for call in exam)
    assert quick.num_videos(t2v=True, i2v=True) < full.num_videos(t2v=True, i2v=True) / 5


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
