import asyncio

import pytest

from tests.tiny_studies import make_tiny_study
from videocrafter.evaluation.study.media import Media


def test_a_changed_or_missing_video_is_named(tmp_path):
    study = make_tiny_study(tmp_path, prompts=1, checks_per_rater=0, training_per_rater=0)
    path = next((tmp_path / "study" / "media").iterdir())
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match=f"{path.name} has changed since the study was made"):
        Media(study.design, tmp_path / "study")
    path.unlink()
    with pytest.raises(ValueError, match=f"{path.name} is missing"):
        Media(study.design, tmp_path / "study")


def test_files_are_kept_in_memory_up_to_a_limit(tmp_path, monkeypatch):
    design = make_tiny_study(tmp_path).design
    files = {path.name: path.read_bytes() for path in sorted((tmp_path / "study" / "media").iterdir())}
    media = Media(design, tmp_path / "study")
    assert media.files.keys() == files.keys()
    limit = 2 * max(map(len, files.values()))
    small = Media(design, tmp_path / "study", memory=limit)
    for name in [*files, *files]:
        assert asyncio.run(small.content(name)) == files[name]
        assert sum(map(len, small._kept.values())) == small._used <= limit
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda _: pytest.fail("a file was read again"))
    assert all(asyncio.run(media.content(name)) == files[name] for name in files)
    monkeypatch.setattr("videocrafter.evaluation.study.media._LARGEST_KEPT", 10)
    assert asyncio.run(media.content(next(iter(files)))) is None
