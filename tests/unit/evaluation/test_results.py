import numpy as np

from videocrafter.evaluation.metrics.inception_score import ClassSums
from videocrafter.evaluation.results import MeasuredVideos, VideoResult, read_result, result_path, write_result


def test_results_survive_the_disk_unless_something_changed(tmp_path):
    result = VideoResult(
        name="a/b.mp4",
        prompt="",
        seed=None,
        image_sha256=None,
        fingerprint="f",
        num_frames=3,
        height=4,
        width=5,
        fps=8.0,
        values={"sharpness": 0.1},
        reasons={"clip_score": "the video has no prompt"},
        features={"dino": np.array([1, 2.5], np.float32)},
        classes={"inception_classes": ClassSums.of(np.array([[0.25, 0.75]]))},
    )
    write_result(tmp_path, result)
    found = read_result(tmp_path, "a/b.mp4", "f")
    assert found.summary() == result.summary()
    assert list(MeasuredVideos(tmp_path, ["a/b.mp4"])) == [result.summary()]
    assert found.features["dino"].tolist() == [1, 2.5]
    assert found.classes["inception_classes"].probabilities.tolist() == [0.25, 0.75]
    assert found.group == "a/b.mp4"
    assert read_result(tmp_path, "a/b.mp4", "changed") is None
    assert read_result(tmp_path, "c.mp4", "f") is None
    path = result_path(tmp_path, "a/b.mp4")
    for damage in ('{"fingerprint": "f"}', "[]", path.read_text()[:-9]):
        path.write_text(damage)
        assert read_result(tmp_path, "a/b.mp4", "f") is None
