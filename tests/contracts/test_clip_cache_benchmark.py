"""The benchmark of the clip cache runs at toy size."""

from pathlib import Path

import pytest
from benchmarks import clip_cache

from tests.tiny_models import save_tiny_pipeline

ROOT = Path(__file__).parents[2]


def test_training_is_measured_with_and_without_a_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(clip_cache, "available_cores", lambda: 1)
    model = save_tiny_pipeline(tmp_path / "model", image=False)
    sizes = ["--height", "16", "--width", "16", "--frames", "4"]
    clip_cache.main(["--smoke", "--repeats", "1", "--model", str(model), *sizes])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("|") for line in lines if line.startswith(("| no cache", "| filling", "| cached"))]
    assert [row[1].strip() for row in rows] == ["no cache", "filling", "cached", "no cache again"]
    assert all(float(row[3]) > 0 for row in rows)
    assert "`clip_cache.py`" in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")


def test_too_few_clips_for_different_samples_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        clip_cache.arguments(["--clips", "10", "--samples", "32"])
    assert "pass more --clips" in capsys.readouterr().err
