"""Cuts are encoded one by one, once, by networks that stay on the device only while they are needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.unit.training.video.clip_cache.toy_clips import CPU, sources_of, task_config
from videocrafter.data.cutting import CutName
from videocrafter.data.sample import VideoBatch
from videocrafter.pipelines.model_folder import read_model_index
from videocrafter.training.video.clip_cache import encoder as encoder_module
from videocrafter.training.video.clip_cache.clip_cache import ClipCache
from videocrafter.training.video.clip_cache.config import CacheConfig
from videocrafter.training.video.clip_cache.encoder import CutEncoder, frozen_encoder
from videocrafter.training.video.clip_cache.stage_clips import StageClips
from videocrafter.training.video.clip_encoding import EncodedClips
from videocrafter.training.video.frozen_networks import FrozenNetworks, read_tokenizer

CAPTIONS = ("a rocket moving left", "a cat", "a rocket moving left")


class Stage:
    """A stage's clips, with a record of when the networks were loaded and parked."""

    def __init__(self, start: Path, folder: Path | None, monkeypatch: pytest.MonkeyPatch, **cache: object) -> None:
        sources = sources_of(start)
        self.frozen = FrozenNetworks(sources, CPU, "fp32", stay=False)
        self.tokenizer = read_tokenizer(sources["tokenizer"], read_model_index(start)["tokenizer"][1])
        config = task_config(
            CacheConfig(folder=None if folder is None else str(folder), variants=2, **cache)  # type: ignore[arg-type]
        )
        self.clips = StageClips(config, sources, self.frozen, self.tokenizer, CPU)
        assert isinstance(self.clips.encoder, CutEncoder)
        self.encoder = self.clips.encoder
        self.calls: list[str] = []
        for call in ("bring", "park"):
            original = getattr(self.frozen, call)
            monkeypatch.setattr(self.frozen, call, lambda call=call, original=original: self._called(call, original))

    def _called(self, call: str, original: object) -> object:
        self.calls.append(call)
        return original()  # type: ignore[operator]

    @property
    def cache(self) -> ClipCache:
        assert self.clips.cache is not None
        return self.clips.cache


def batch(num_frames: int = 4, count: int = 3) -> VideoBatch:
    generator = torch.Generator().manual_seed(num_frames)
    keys = tuple(f"source/{number}" for number in range(count))
    return VideoBatch(
        pixels=torch.rand(count, num_frames, 3, 16, 16, generator=generator) * 2 - 1,
        captions=CAPTIONS[:count],
        fps=torch.tensor([8.0, 7.3, 12.5])[:count],
        keys=keys,
        cuts=tuple(CutName(digest=f"{num_frames:016x}{n:016x}", key=key, number=0) for n, key in enumerate(keys)),
    )


def assert_same(one: EncodedClips, other: EncodedClips, *, exactly: bool = True) -> None:
    close = torch.equal if exactly else lambda a, b: torch.allclose(a, b, atol=1e-4)
    assert (one.captions, one.keys) == (other.captions, other.keys)
    assert torch.equal(one.fps, other.fps)
    assert close(one.latents.mean, other.latents.mean)
    assert close(one.latents.std, other.latents.std)
    assert close(one.text, other.text)
    assert (one.image_tokens is None) == (other.image_tokens is None)
    if one.image_tokens is not None and other.image_tokens is not None:
        assert close(one.image_tokens, other.image_tokens)


@pytest.fixture(params=["t2v", "i2v"])
def start(request: pytest.FixtureRequest, t2v_start: Path, i2v_start: Path) -> Path:
    return t2v_start if request.param == "t2v" else i2v_start


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("num_frames", [4, 1])
def test_it_gives_what_the_encoder_of_whole_batches_gives_but_for_rounding(
    start: Path, monkeypatch: pytest.MonkeyPatch, num_frames: int
) -> None:
    stage = Stage(start, None, monkeypatch)
    whole = frozen_encoder(stage.frozen, stage.tokenizer, condition_frame="random", chunk=8)
    assert_same(stage.encoder.encode(batch(num_frames)), whole.encode(batch(num_frames)), exactly=False)
    assert torch.allclose(stage.encoder.null_text(), whole.null_text(), atol=1e-5)


def test_a_cut_gives_the_same_whenever_and_beside_whatever_it_is_encoded(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Stage(start, None, monkeypatch).encoder.encode(batch())
    filling = Stage(start, tmp_path, monkeypatch, dtype="fp32")
    first, whole = filling.encoder.encode(batch(count=1)), filling.encoder.encode(batch())
    assert torch.equal(first.latents.mean[0], whole.latents.mean[0])
    assert_same(whole, expected)
    filling.clips.close()
    assert_same(Stage(start, tmp_path, monkeypatch, dtype="fp32").encoder.encode(batch()), expected)


def test_what_was_rounded_for_keeping_is_used_rounded_at_once(
    t2v_start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filling = Stage(t2v_start, tmp_path, monkeypatch, dtype="bf16")
    filled = filling.encoder.encode(batch())
    assert torch.equal(filled.latents.mean, filled.latents.mean.bfloat16().float())
    assert_same(filling.encoder.encode(batch()), filled)
    text = filling.encoder.null_text()
    filling.clips.close()
    later = Stage(t2v_start, tmp_path, monkeypatch, dtype="bf16")
    assert_same(later.encoder.encode(batch()), filled)
    assert torch.equal(later.encoder.null_text(), text)


def test_networks_are_brought_only_for_what_is_not_there(
    i2v_start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filling = Stage(i2v_start, tmp_path, monkeypatch)
    filling.encoder.encode(batch(count=2))
    filling.encoder.null_text()
    filling.encoder.null_image()
    filling.clips.close()
    later = Stage(i2v_start, tmp_path, monkeypatch)
    later.encoder.encode(batch(count=2))
    later.encoder.null_text()
    later.encoder.null_image()
    assert later.calls == []
    assert all(parameter.is_meta for parameter in later.frozen.networks["vae"].parameters())
    later.encoder.encode(batch(count=3))
    assert "bring" in later.calls


def test_equal_captions_are_encoded_once(t2v_start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    original = encoder_module.ClipEncoder.encode_captions

    def count(encoder: object, captions: list[str]) -> object:
        encoded.extend(captions)
        return original(encoder, captions)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder_module.ClipEncoder, "encode_captions", count)
    Stage(t2v_start, tmp_path, monkeypatch).encoder.encode(batch())
    assert encoded == ["a rocket moving left", "a cat"]


def test_networks_leave_when_nothing_was_missing_for_a_while(
    t2v_start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "_IDLE_BATCHES", 3)
    stage = Stage(t2v_start, tmp_path, monkeypatch)
    stage.encoder.encode(batch())
    for expected in (0, 0, 1, 1):
        stage.encoder.encode(batch())
        assert stage.calls.count("park") == expected
    stage.encoder.encode(batch(num_frames=2))
    for _ in range(3):
        stage.encoder.encode(batch())
    assert stage.calls.count("park") == 2


def test_a_batch_may_be_known_in_part(t2v_start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(t2v_start, tmp_path, monkeypatch)
    expected = stage.encoder.encode(batch())
    known = stage.cache.find(batch().cuts[1])
    whole = batch()
    mixed = VideoBatch(
        pixels=whole.pixels[[0, 2]],
        captions=whole.captions,
        fps=whole.fps,
        keys=whole.keys,
        cuts=whole.cuts,
        cached=(None, known.content, None),  # type: ignore[union-attr]
    )
    assert_same(stage.encoder.encode(mixed), expected)


def test_entries_say_which_clip_they_are_of(t2v_start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(t2v_start, tmp_path, monkeypatch)
    stage.encoder.encode(batch(count=1))
    record = stage.cache._store.read(batch().cuts[0].digest)[0].record
    assert json.loads(json.dumps(record)) == {
        "key": "source/0",
        "cut": 0,
        "caption": "a rocket moving left",
        "fps": 8.0,
        "shape": [4, 16, 16, 3],
    }
