import shutil

import pytest

from videocrafter.evaluation.exam.judging import SHIPPED_JUDGE
from videocrafter.media.errors import MediaError


@pytest.fixture
def exam(monkeypatch):
    """Replace the exam, which takes minutes, and record its arguments."""
    calls = []

    def run_exam(output, t2v, i2v, *, config, judge, second_judge, overwrite, on_progress):
        on_progress(1, 2)
        calls.append(
            {"output": output, "t2v": t2v, "i2v": i2v, "config": config, "judge": judge, "second": second_judge}
        )
        return {"num_videos": 2, "seconds": 1.0, "settings": {"fps": 8.0, "seed": 3}}

    monkeypatch.setattr("videocrafter.evaluation.exam.exam.run_exam", run_exam)
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


def test_a_damaged_model_or_judge_is_one_line_and_leaves_no_folder(cli, exam, t2v_folder, tmp_path):
    for what, options in (("unet", []), ("judge", ["--judge", tmp_path / "judge"])):
        folder = shutil.copytree(SHIPPED_JUDGE if what == "judge" else t2v_folder, tmp_path / what)
        weights = next(folder.rglob("diffusion_pytorch_model.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-50])
        result = cli("evaluate", t2v_folder if options else folder, *options, "-o", tmp_path / "r")
        assert result.exit_code == 2
        assert f"{weights} is damaged" in result.stderr
        assert result.stderr.count("\n") == 1
    assert exam == []
    assert not (tmp_path / "r").exists()


def test_a_full_disk_is_one_line(cli, monkeypatch, t2v_folder, tmp_path):
    def fill(*_, **__):
        raise MediaError("cannot write r/report.json: the disk is full; free some space")

    monkeypatch.setattr("videocrafter.evaluation.exam.exam.run_exam", fill)
    result = cli("evaluate", t2v_folder, "-o", tmp_path / "r")
    assert result.exit_code == 2
    assert result.stderr == "Error: cannot write r/report.json: the disk is full; free some space\n"


def test_a_judge_of_ones_own_marks(cli, exam, t2v_folder, tmp_path):
    assert cli("evaluate", t2v_folder, "-o", tmp_path / "r", "--judge", SHIPPED_JUDGE).exit_code == 0
    assert exam[0]["judge"].config.subjects
    assert exam[0]["second"] is None


def test_a_second_judge_is_passed_on(cli, exam, t2v_folder, tmp_path):
    assert cli("evaluate", t2v_folder, "-o", tmp_path / "r", "--second-judge", SHIPPED_JUDGE).exit_code == 0
    assert exam[0]["second"].config.subjects
    result = cli("evaluate", t2v_folder, "-o", tmp_path / "s", "--second-judge", tmp_path)
    assert result.exit_code == 2
    assert "contains no judge" in result.stderr


def test_wrong_models_and_numbers_are_one_line(cli, exam, t2v_folder, i2v_folder, tmp_path):
    for arguments, word in (
        (["tinny"], "tinny"),
        ([i2v_folder], "TextToVideoPipeline is needed"),
        ([t2v_folder, "--prompts", "0"], "--prompts"),
        ([t2v_folder, "--device", "abacus"], "abacus"),
        ([t2v_folder, "--judge", tmp_path], "contains no judge"),
    ):
        result = cli("evaluate", *arguments, "-o", tmp_path / "r")
        assert result.exit_code == 2
        assert word in result.stderr
        assert result.stderr.count("\n") == 1
    assert exam == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--steps", 0, "--steps must be at least 1"),
        ("--steps", 5000, "--steps must be between 1 and 1000"),
        ("--guidance", "nan", "--guidance must be at least 0"),
        ("--batch-size", 0, "--batch-size is 0; expected at least 1"),
        ("--prompts", 0, "--prompts is 0, expected 1"),
        ("--seed", -1, "--seed is -1, expected 0"),
    ],
)
def test_a_wrong_setting_is_named_by_its_option_before_the_exam(
    cli, exam, t2v_folder, tmp_path, option, value, message
):
    result = cli("evaluate", t2v_folder, "-o", tmp_path / "r", option, value)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {message}")
    assert exam == []
