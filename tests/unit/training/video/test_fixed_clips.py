from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_clips import CAPTIONS, FRAMES, SPRITE_IMAGES, SPRITES, clip_data, write_clips, write_pictures
from tests.tiny_models import tiny_pipeline
from videocrafter.data.errors import SourceError, TooManyBadSamplesError
from videocrafter.media.video_file import read_frames
from videocrafter.models.autoencoder import encode_posterior
from videocrafter.training.video.clip_encoding import ClipEncoder
from videocrafter.training.video.fixed_clips import ValidationConfig, fixed_clips


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    pipeline = tiny_pipeline(image=False)
    return ClipEncoder(pipeline.vae, pipeline.tokenizer, pipeline.text_encoder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"), 4, num_frames=8)


def test_they_are_the_first_clips_cut_from_the_middle(folder: Path, encoder: ClipEncoder) -> None:
    data = clip_data(f"folder:{folder}")
    # Every frame of a clip of 8 at its own 8 fps: the middle four are frames 2 to 5.
    data = replace(data, cutting=replace(data.cutting, sampling=replace(data.cutting.sampling, fps_range=None)))
    clips = fixed_clips(data, ValidationConfig(num_clips=3), encoder)
    assert [clip.captions for clip in clips] == [(caption,) for caption in CAPTIONS[:3]]
    assert [clip.keys for clip in clips] == [(f"folder:{folder}/{number}.mp4",) for number in range(3)]
    assert all(clip.num_frames == FRAMES and clip.fps.tolist() == [8.0] for clip in clips)
    frames = torch.from_numpy(np.stack(read_frames(folder / "1.mp4"))[2:6]).permute(0, 3, 1, 2)
    posterior = encode_posterior(encoder.vae, (frames / 127.5 - 1)[None])
    torch.testing.assert_close(clips[1].latents.mean, posterior.mean)


def test_of_one_clip_to_be_learned_it_is_the_part_that_is_learned(folder: Path, encoder: ClipEncoder) -> None:
    data = clip_data(f"folder:{folder}", one_clip=True)
    sampling = replace(data.cutting.sampling, fps_range=None, start="first")
    data = replace(data, cutting=replace(data.cutting, sampling=sampling))
    (clip,) = fixed_clips(data, ValidationConfig(num_clips=3), encoder)
    frames = torch.from_numpy(np.stack(read_frames(folder / "0.mp4"))[:FRAMES]).permute(0, 3, 1, 2)
    torch.testing.assert_close(clip.latents.mean, encode_posterior(encoder.vae, (frames / 127.5 - 1)[None]).mean)


def test_they_do_not_depend_on_how_training_draws(folder: Path, encoder: ClipEncoder) -> None:
    data = clip_data(f"folder:{folder}")
    other = replace(
        data,
        seed=7,
        batch_size=3,
        shuffle=not data.shuffle,
        cutting=replace(data.cutting, crop="random", flip=True),
    )
    few = ValidationConfig(num_clips=2)
    for one, two in zip(fixed_clips(data, few, encoder), fixed_clips(other, few, encoder), strict=True):
        assert one.keys == two.keys
        assert torch.equal(one.latents.mean, two.latents.mean)
        assert torch.equal(one.fps, two.fps)


def test_of_several_sources_each_gives_its_share(folder: Path, tmp_path: Path, encoder: ClipEncoder) -> None:
    """Images in the sources need no image share."""
    pictures = write_pictures(tmp_path / "pictures")
    sources = (f"folder:{folder}", f"folder:{pictures}", SPRITES)
    clips = fixed_clips(clip_data(SPRITES), ValidationConfig(sources=sources, num_clips=5), encoder)
    places = [clip.keys[0].rpartition("/")[0] for clip in clips]
    assert places == [f"folder:{folder}"] * 2 + [f"folder:{pictures}"] * 2 + ["sprites:0/video"]
    assert [clip.num_frames for clip in clips] == [4, 4, 1, 1, 4]
    fewer = fixed_clips(clip_data(SPRITES), ValidationConfig(sources=sources, num_clips=2), encoder)
    assert [clip.keys for clip in fewer] == [clips[0].keys, clips[2].keys]


def test_training_on_both_kinds_is_validated_on_both(encoder: ClipEncoder) -> None:
    data = clip_data(SPRITES, SPRITE_IMAGES, image_share=0.5)
    assert [clip.num_frames for clip in fixed_clips(data, ValidationConfig(num_clips=4), encoder)] == [4, 4, 1, 1]


def test_small_sources_give_what_they_have(folder: Path, encoder: ClipEncoder) -> None:
    assert len(fixed_clips(clip_data(f"folder:{folder}"), ValidationConfig(num_clips=9), encoder)) == 4


def test_clips_that_cannot_be_used_are_passed_over(tmp_path: Path, encoder: ClipEncoder) -> None:
    """Five damaged clips in front would be too many for training; validation reads only the first few."""
    folder = write_clips(tmp_path / "clips", 8)
    for number in range(5):
        (folder / f"{number}.mp4").write_bytes(b"no video")
    report = tmp_path / "report.jsonl"
    data = clip_data(f"folder:{folder}")
    data = replace(data, bad_samples=replace(data.bad_samples, report=str(report)))
    clips = fixed_clips(data, ValidationConfig(num_clips=2), encoder)
    assert [clip.keys[0].rpartition("/")[2] for clip in clips] == ["5.mp4", "6.mp4"]
    assert not report.exists(), "only training writes the report"


def test_a_source_of_which_nothing_can_be_used(
    tmp_path: Path, encoder: ClipEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_clips(tmp_path / "clips", 2)
    for number in range(2):
        (folder / f"{number}.mp4").write_bytes(b"no video")
    broken = f"folder:{folder}"
    with pytest.raises(TooManyBadSamplesError, match=f"no clip of {broken} can be used for validation"):
        fixed_clips(clip_data(SPRITES), ValidationConfig(sources=(broken,)), encoder)
    rest = fixed_clips(clip_data(SPRITES), ValidationConfig(sources=(broken, SPRITES), num_clips=2), encoder)
    assert [clip.keys for clip in rest] == [("sprites:0/video/0",)]
    assert f"Validation skips {broken}" in caplog.text
    with pytest.raises(SourceError, match="is not a folder"):
        fixed_clips(clip_data(SPRITES), ValidationConfig(sources=(str(tmp_path / "nowhere"),)), encoder)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"num_clips": 0}, "validation.num_clips is 0; it must be 1 or more"),
        ({"timesteps": ()}, r"validation.timesteps is \(\); expected numbers from 0 to 999"),
        ({"timesteps": (5, 1000)}, "validation.timesteps is .*1000.*; expected numbers from 0 to 999"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ValidationConfig(**wrong)  # type: ignore[arg-type]
