"""Cached cuts and captions are read back, rounded once; a missing cut that must not be decoded ends the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit.training.video.clip_cache.toy_clips import CUTTING
from videocrafter.data.cached_cuts import fixed_cut
from videocrafter.data.cutting import CachedCut, CutName
from videocrafter.data.decoding import DecodingTask
from videocrafter.data.errors import BadSampleError
from videocrafter.data.sources.sprite_clips import SpriteClipsConfig
from videocrafter.training.video.clip_cache.clip_cache import CacheMemory, ClipCache, EncodedCut
from videocrafter.training.video.clip_cache.config import CacheConfig, CacheError
from videocrafter.training.video.clip_cache.description import CacheDescription

DESCRIPTION = CacheDescription(
    cutting=CUTTING,
    autoencoder="a",
    text_tower="t",
    image_tower="i",
    condition_frame="random",
    network_dtype="fp32",
    dtype="bf16",
)


def cache(folder: Path, description: CacheDescription = DESCRIPTION, **settings: object) -> ClipCache:
    return ClipCache(CacheConfig(folder=str(folder), dtype=description.dtype, **settings), description)  # type: ignore[arg-type]


def task(number: int = 0) -> DecodingTask:
    clip = SpriteClipsConfig().open().read_shard(7).clips[0]
    return fixed_cut("sprites:0/video", clip, "video", number, CUTTING)


def name(number: int = 0) -> CutName:
    found = task(number).name
    assert found is not None
    return found


def cut(caption: str = "a cat", *, image: bool = True) -> CachedCut:
    content = EncodedCut(
        mean=torch.randn(4, 2, 3, 3),
        std=torch.rand(4, 2, 3, 3),
        text=torch.randn(5, 8),
        image=torch.randn(3, 8) if image else None,
    )
    return CachedCut(shape=(2, 24, 24, 3), caption=caption, fps=7.25, content=content)


def content(known: object) -> EncodedCut:
    assert isinstance(known, CachedCut)
    assert isinstance(known.content, EncodedCut)
    return known.content


def assert_same(found: object, expected: CachedCut) -> None:
    assert isinstance(found, CachedCut)
    assert (found.shape, found.caption, found.fps) == (expected.shape, expected.caption, expected.fps)
    for part in ("mean", "std", "text", "image"):
        one, other = getattr(content(found), part), getattr(content(expected), part)
        assert (one is None and other is None) or (one.dtype == other.dtype and torch.equal(one, other)), part


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("image", [True, False])
def test_what_is_given_back_at_once_is_what_is_read_later(tmp_path: Path, dtype: str, image: bool) -> None:
    description = replace(DESCRIPTION, dtype=dtype)  # type: ignore[arg-type]
    first = cache(tmp_path, description)
    given = cut(image=image)
    kept = first.keep(name(), given)
    expected = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]
    assert torch.equal(content(kept).mean, content(given).mean.to(expected))
    assert_same(first.find(name()), kept)
    first.close()
    assert_same(cache(tmp_path, description).find(name()), kept)
    assert cache(tmp_path, description).find(name(1)) is None


def test_the_tokens_of_a_caption_are_kept_once(tmp_path: Path) -> None:
    kept = cache(tmp_path)
    first, second = kept.keep(name(0), cut()), kept.keep(name(1), cut())
    assert torch.equal(content(first).text, content(second).text)
    other = kept.keep(name(2), cut("a dog"))
    assert not torch.equal(content(other).text, content(first).text)
    assert len(kept._store._unwritten) == 3 + 2


def test_the_null_conditions_are_kept(tmp_path: Path) -> None:
    kept = cache(tmp_path)
    assert kept.null_image() is None
    assert kept.text("") is None
    image, text = kept.keep_null_image(torch.randn(3, 8)), kept.keep_text("", torch.randn(5, 8))
    kept.close()
    again = cache(tmp_path)
    assert torch.equal(again.null_image(), image)  # type: ignore[arg-type]
    assert torch.equal(again.text(""), text)  # type: ignore[arg-type]


def test_what_was_left_out_is_left_out_for_the_same_reason_until_it_is_mended(tmp_path: Path) -> None:
    kept = cache(tmp_path)
    CacheMemory(kept, decodes=True).note_bad(task(), BadSampleError("too_slow", "it took 30 s"))
    kept.close()
    again = cache(tmp_path)
    found = again.find(name())
    assert isinstance(found, BadSampleError)
    assert (found.reason, str(found)) == ("too_slow", "it took 30 s")
    again.keep(name(), cut())
    again.close()
    assert isinstance(cache(tmp_path).find(name()), CachedCut)


def test_a_cut_whose_caption_was_lost_is_not_known(tmp_path: Path) -> None:
    kept = cache(tmp_path)
    kept.keep_text("a cat", torch.randn(5, 8))
    kept.close()
    with_text = next(tmp_path.glob("*.safetensors"))
    kept.keep(name(), cut())
    kept.close()
    with_text.unlink()
    memory = CacheMemory(cache(tmp_path), decodes=True)
    assert memory.knows(task())
    assert memory.recall(task()) is None


def test_a_memory_that_may_not_decode_says_which_clip_is_missing_and_what_to_run(tmp_path: Path) -> None:
    cache(tmp_path).close()
    memory = CacheMemory(cache(tmp_path, fill="never"), decodes=False)
    assert memory.knows(task(3)), "it is not decoded; the error is raised when it is recalled"
    with pytest.raises(CacheError, match=r"cut 3 of sprites:0/video/7.*`videocrafter cache RECIPE --cache"):
        memory.recall(task(3))


def test_a_damaged_entry_that_may_not_be_encoded_anew_is_named(tmp_path: Path) -> None:
    kept = cache(tmp_path)
    kept.keep(name(), cut())
    kept.close()
    path = next(tmp_path.glob("*.safetensors"))
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-9])
    with pytest.raises(CacheError, match=rf"not contain cut 0 of sprites.*\({path} is damaged.*--check"):
        CacheMemory(cache(tmp_path, fill="never"), decodes=False).recall(task())


def test_a_cache_that_is_only_read_is_not_added_to(tmp_path: Path) -> None:
    cache(tmp_path).close()
    kept = cache(tmp_path, fill="never")
    kept.keep(name(), cut())
    kept.keep_bad(name(1), BadSampleError("missing", "it is not there"))
    kept.close()
    assert kept.find(name()) is None
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]
