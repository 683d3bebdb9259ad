import asyncio
import json

import pytest

from tests.tiny_studies import make_tiny_study
from videocrafter.evaluation.study import design as design_module
from videocrafter.evaluation.study.design import Media, read_design


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
    monkeypatch.setattr(design_module, "_LARGEST_KEPT", 10)
    assert asyncio.run(media.content(next(iter(files)))) is None


def test_designs_made_before_sources_were_recorded_keep_their_hash(tmp_path):
    content = json.loads(make_tiny_study(tmp_path, prompts=2).design.to_json())
    for clip in content["clips"].values():
        clip.pop("source", None)
    older = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (tmp_path / "study" / "design.json").write_text(older, encoding="utf-8")
    assert read_design(tmp_path / "study").to_json() == older
