import json

import pytest

from videocrafter.evaluation.paired import differences, read_earlier

PROTOCOL = {"name": "p", "sha256": "1" * 64}


def report(**changes):
    return {"protocol": PROTOCOL, "scores": {"sharpness": {}}, "networks": {}} | changes


def lines(values, seed=0):
    return [
        {"name": f"{n}.mp4", "prompt": f"prompt {n}", "seed": seed, "values": {"sharpness": value}}
        for n, value in enumerate(values)
    ]


def jsonl(lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.fixture
def earlier(tmp_path):
    def write(values, seed=0, **changes):
        (tmp_path / "report.json").write_text(json.dumps(report(**changes)))
        (tmp_path / "measurements.jsonl").write_text(jsonl(lines(values, seed)))
        return tmp_path

    return write


def test_common_prompts_and_seeds_are_paired(earlier):
    folder = earlier(range(1, 8))
    found = differences(read_earlier(folder), report(), lines([*range(2, 9), 9]))["sharpness"]
    assert (found["value"], found["num_prompts"], found["verdict"]) == (1.0, 7, "higher")
    for other, reason in ((lines([2, 3], seed=7), "other seeds"), ([], "share no prompt")):
        assert reason in differences(read_earlier(folder), report(), other)["sharpness"]["reason"]
    # Without all seeds, prompts alone are paired.
    assert differences(read_earlier(folder), report(), lines(range(2, 9), seed=None))["sharpness"]["value"] == 1.0


def test_reports_of_different_protocols_are_never_compared(earlier):
    folder = earlier([1, 2], protocol={"name": "q", "sha256": "2" * 64})
    with pytest.raises(ValueError, match=r"follows protocol q \(222222222222\), this one p \(111111111111\)"):
        differences(read_earlier(folder), report(), lines([1, 2]))


def test_scores_of_other_weights_are_not_compared(earlier):
    changes = {"scores": {"clip_score": {}}, "networks": {"clip": "a"}}
    folder = earlier([1, 2], **changes | {"networks": {"clip": "b"}})
    assert differences(read_earlier(folder), report(**changes), lines([1, 2])) == {
        "clip_score": {"reason": "measured with other weights"}
    }


def test_a_folder_without_a_report_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"report.json is missing"):
        read_earlier(tmp_path)


def test_input_images_pair_videos_of_one_prompt(earlier):
    def of_images(first, second):
        values = ((first, "a"), (second, "b"))
        return [lines([value])[0] | {"image_sha256": image} for value, image in values]

    folder = earlier([0])
    (folder / "measurements.jsonl").write_text(jsonl(of_images(1, 5)))
    found = differences(read_earlier(folder), report(), of_images(2, 7)[:1])["sharpness"]
    assert found["value"] == 1  # the second image has no counterpart


def test_damaged_lines_are_an_error(earlier):
    folder = earlier([1])
    (folder / "measurements.jsonl").write_text('{"name": "a"}\n')
    with pytest.raises(ValueError, match="lines without a name"):
        read_earlier(folder)
