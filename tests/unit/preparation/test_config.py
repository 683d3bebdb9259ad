"""Settings that no run can use are refused before any work, by name."""

import pytest

from videocrafter.preparation.config import PrepareConfig
from videocrafter.training.recipes.overrides import apply_overrides


@pytest.mark.parametrize(
    "setting",
    [
        "scan.sample_fps=0",
        "scan.cut_window=0",
        "limits.attempts=0",
        "limits.base_s=nan",
        "caption.tries=0",
        "clip.crf=52",
        "clip.preset=quick",
        "clip.max_short_side=0",
        "shard.max_clips=0",
        "sources.max_fps=1",
        "select.validation=1",
        "workers=-1",
    ],
)
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValueError, match=setting.partition("=")[0]):
        apply_overrides(PrepareConfig(), [setting])
