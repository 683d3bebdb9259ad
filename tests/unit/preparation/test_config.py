"""Settings that no run can use are refused before any work, by name."""

import pytest

from videocrafter.preparation.config import PrepareConfig, with_absolute_paths
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


def test_paths_do_not_depend_on_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = with_absolute_paths(apply_overrides(PrepareConfig(), ["caption.model=seer", "score.weights=networks"]))
    assert (found.caption.model, found.score.weights) == (str(tmp_path / "seer"), str(tmp_path / "networks"))
    served = apply_overrides(PrepareConfig(), ["caption.model=seer", "caption.url=http://localhost"])
    assert with_absolute_paths(served) == served
