"""Results are found again unless something changes that they depend on."""

from dataclasses import replace

import pytest

from videocrafter.preparation.config import CaptionConfig, PrepareConfig
from videocrafter.preparation.units import ChosenClip, Job, Unit, is_done


@pytest.fixture
def job(tmp_path):
    return Job(out=tmp_path, config=PrepareConfig())


@pytest.mark.parametrize(
    ("before", "now", "is_same"),
    [
        ({"text": "a"}, {"text": "b"}, True),
        ({"url": "http://one", "model": "seer"}, {"url": "http://two", "model": "seer"}, True),
        ({"url": "http://one"}, {"url": "http://two"}, False),
        ({"url": "http://one", "model": "seer"}, {"model": "seer"}, False),
        ({"url": "http://one", "model": "seer"}, {"url": "http://one", "model": "other"}, False),
        ({"prompt_short": "one"}, {"prompt_short": "two"}, False),
    ],
)
def test_captions_depend_on_the_model_and_its_instructions(job, before, now, is_same):
    one, other = (
        replace(job, config=replace(job.config, caption=CaptionConfig(**settings))).files("caption")
        for settings in (before, now)
    )
    assert (one == other) == is_same


def test_a_unit_is_done_when_all_its_clips_are(job):
    clips = tuple(ChosenClip(id=name, start_s=0, end_s=1, crop=(0, 1, 0, 1)) for name in ("one", "two"))
    unit = Unit(stage="clip", id="one", clips=clips)
    job.files("clip").commit("one", {})
    assert not is_done(unit, job.files("clip"), job.retry)
    job.files("clip").commit("two", {})
    assert is_done(unit, job.files("clip"), job.retry)
