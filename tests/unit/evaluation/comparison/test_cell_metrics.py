import json

import pytest

from videocrafter.evaluation.comparison.cell_metrics import find_metrics, read_metrics


def test_values_are_found_next_to_the_videos_or_above_if_the_report_is_about_them(tmp_path):
    line = '{"name": "0.mp4", "prompt": "a cat", "seed": 3, "values": {"sharpness": 2, "note": "x", "bad": NaN}}'
    path = tmp_path / "measurements.jsonl"
    path.write_text(f"{line}\n\n")
    for folder, found in (("videos", (path, None)), ("other", (None, None)), (".", (None, path))):
        (tmp_path / "report.json").write_text(json.dumps({"videos": {"folder": folder}}))
        assert (find_metrics(tmp_path / "videos"), find_metrics(tmp_path)) == found
    (tmp_path / "report.json").unlink()
    assert find_metrics(tmp_path) is None
    assert read_metrics(path) == {("0.mp4", "a cat", 3): {"sharpness": 2.0}}


@pytest.mark.parametrize("line", ["{", '{"name": 1}', '{"name": "a", "prompt": "b", "seed": null, "values": 3}'])
def test_damaged_lines_are_named(tmp_path, line):
    (tmp_path / "measurements.jsonl").write_text(line)
    with pytest.raises(ValueError, match="line 1"):
        read_metrics(tmp_path / "measurements.jsonl")
