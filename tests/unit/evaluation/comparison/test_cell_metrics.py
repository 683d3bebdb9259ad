import pytest

from videocrafter.evaluation.comparison.cell_metrics import find_metrics, read_metrics


def test_values_are_found_next_to_the_videos_or_above(tmp_path):
    line = '{"name": "0.mp4", "prompt": "a cat", "seed": 3, "values": {"sharpness": 2, "note": "x", "bad": NaN}}'
    (tmp_path / "videos.jsonl").write_text(f"{line}\n\n")
    (tmp_path / "videos").mkdir()
    assert find_metrics(tmp_path) == find_metrics(tmp_path / "videos") == tmp_path / "videos.jsonl"
    assert find_metrics(tmp_path / "videos" / "none") is None
    assert read_metrics(tmp_path / "videos.jsonl") == {("0.mp4", "a cat", 3): {"sharpness": 2.0}}


@pytest.mark.parametrize("line", ["{", '{"name": 1}', '{"name": "a", "prompt": "b", "seed": null, "values": 3}'])
def test_damaged_lines_are_named(tmp_path, line):
    (tmp_path / "videos.jsonl").write_text(line)
    with pytest.raises(ValueError, match="line 1"):
        read_metrics(tmp_path / "videos.jsonl")
