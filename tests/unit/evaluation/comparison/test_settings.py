from pathlib import Path

from videocrafter.evaluation.comparison.settings import setting_table
from videocrafter.evaluation.video_set import VideoEntry


def entry(**metadata):
    return VideoEntry(path=Path("a.mp4"), prompt="p", seed=0, name="a.mp4", metadata=metadata)


def test_only_settings_that_differ_are_listed():
    table = setting_table(
        {
            "old": [entry(scheduler="ddim", fps=8, seed=1, prompt="a"), entry(scheduler="ddim", fps=4.0, seed=2)],
            "new": [entry(scheduler="euler", fps=8, num_inference_steps=4)],
        }
    )
    assert table == {
        "scheduler": {"old": "ddim", "new": "euler"},
        "fps": {"old": "several", "new": "8"},
        "num_inference_steps": {"old": "", "new": "4"},
    }


def test_sets_without_recordings_have_no_settings():
    assert setting_table({"a": [entry()], "b": []}) == {}
