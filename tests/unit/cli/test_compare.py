import json
import re

from tests.tiny_studies import PROMPTS, SYSTEMS, write_systems


def test_folders_and_models_stand_side_by_side(cli, t2v_folder, tmp_path):
    old = write_systems(tmp_path, prompts=1)[SYSTEMS[0]]
    (tmp_path / "prompts.txt").write_text(PROMPTS[0])
    arguments = ["compare", f"old={old}", f"tiny={t2v_folder}@steps=1", "--prompts", tmp_path / "prompts.txt"]
    result = cli(*arguments, "-o", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "rows: 1, columns: 2" in result.stdout
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert data["columns"] == ["old", "tiny"]
    assert all(cell["frames"] for cell in data["rows"][0]["cells"])
    again = cli(*arguments, "-o", tmp_path / "out", "--device", "cpu")
    assert again.exit_code == 2
    assert "already exists" in again.stderr


def test_wrong_comparisons_are_one_line(cli, t2v_folder, tmp_path):
    folders = write_systems(tmp_path, prompts=1)
    old = folders[SYSTEMS[0]]
    (tmp_path / "other.txt").write_text("something else")
    for arguments, word in (
        ([old, t2v_folder], "needs prompts"),
        ([f"{old}@steps=3"], "settings after @ are for models"),
        ([old, "--versions"], "is not a training run"),
        ([old, old], "two video sets"),
        ([old, tmp_path / "none"], "none"),
        ([old, "--size", 1], "size is 1"),
        ([f"x={t2v_folder}@speed=3", "--prompts", tmp_path / "other.txt"], "is not a setting"),
    ):
        result = cli("compare", *arguments, "-o", tmp_path / "out")
        assert result.exit_code == 2, result.output
        assert word in result.stderr.splitlines()[-1]
