"""What is kept of clips: latents and image tokens of cuts, text tokens of captions, why a cut was left out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from videocrafter.data.cutting import CachedCut, CutName
from videocrafter.data.decoding import DecodingTask
from videocrafter.data.errors import BadSampleError
from videocrafter.training.video.clip_cache.config import CacheConfig, CacheError
from videocrafter.training.video.clip_cache.description import CacheDescription, claim_folder
from videocrafter.training.video.clip_cache.shards import Entry
from videocrafter.training.video.clip_cache.store import ShardStore

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_MEAN, _STD, _IMAGE, _TEXT = "mean", "std", "image", "text"
_NULL_IMAGE = "null image"


@dataclass(frozen=True, kw_only=True)
class EncodedCut:
    """One cut, on the CPU, in the precision in which it is kept.

    Attributes:
        mean, std: of the autoencoder's posterior, scaled, [C, T, H, W].
        text: [L, D] tokens of the caption.
        image: [M, D] tokens of one frame, unprojected; None without an image tower.
    """

    mean: Tensor
    std: Tensor
    text: Tensor
    image: Tensor | None


class ClipCache:
    """The cache of a stage, as one process of several uses it; from several threads.

    Args:
        config: with a folder. With fill "never" nothing is added to it.
        description: what the entries follow from.

    Raises:
        CacheError: the folder holds something else, or cannot be used.
    """

    def __init__(self, config: CacheConfig, description: CacheDescription) -> None:
        assert config.folder is not None
        self.folder, self._is_read_only = Path(config.folder), config.fill == "never"
        claim_folder(self.folder, description, may_make=not self._is_read_only)
        self._dtype = _DTYPES[description.dtype]
        self._store = ShardStore(self.folder, description.digest, shard_bytes=config.shard_mb * 1_000_000)

    def __contains__(self, name: CutName) -> bool:
        """Whether a cut is kept, or known to be left out, as far as can be told without reading it."""
        return name.digest in self._store

    def find(self, name: CutName) -> CachedCut | BadSampleError | None:
        """What is kept of a cut; its content is an `EncodedCut`."""
        bad: BadSampleError | None = None
        for entry in self._store.read(name.digest):
            record = entry.record
            if "reason" in record:
                bad = BadSampleError(record["reason"], record["message"])
                continue
            text = self.text(record["caption"])
            if text is None:
                continue
            tensors = entry.tensors
            content = EncodedCut(mean=tensors[_MEAN], std=tensors[_STD], text=text, image=tensors.get(_IMAGE))
            return CachedCut(
                shape=tuple(record["shape"]), caption=record["caption"], fps=record["fps"], content=content
            )
        return bad

    def keep(self, name: CutName, known: CachedCut) -> CachedCut:
        """Keep a cut that was encoded; what later will be read of it."""
        content = known.content
        assert isinstance(content, EncodedCut)
        kept = EncodedCut(
            mean=self._rounded(content.mean),
            std=self._rounded(content.std),
            text=self.keep_text(known.caption, content.text),
            image=None if content.image is None else self._rounded(content.image),
        )
        record = {**_named(name), "caption": known.caption, "fps": known.fps, "shape": list(known.shape)}
        tensors = {_MEAN: kept.mean, _STD: kept.std, **({} if kept.image is None else {_IMAGE: kept.image})}
        self._put(name.digest, record, tensors)
        return CachedCut(shape=known.shape, caption=known.caption, fps=known.fps, content=kept)

    def keep_bad(self, name: CutName, error: BadSampleError) -> None:
        """Keep that a cut is left out, and why."""
        self._put(name.digest, {**_named(name), "reason": error.reason, "message": str(error)}, {})

    def text(self, caption: str) -> Tensor | None:
        """Tokens [L, D] of a caption."""
        return self._tensor(_name("caption", caption), _TEXT)

    def keep_text(self, caption: str, text_LD: Tensor) -> Tensor:
        """Keep the tokens of a caption, once; what later will be read of them."""
        known = self.text(caption)
        if known is not None:
            return known
        return self._keep_tensor(_name("caption", caption), _TEXT, {"caption": caption}, text_LD)

    def null_image(self) -> Tensor | None:
        """Tokens [M, D] of the unconditional image."""
        return self._tensor(_name(_NULL_IMAGE), _IMAGE)

    def keep_null_image(self, tokens_MD: Tensor) -> Tensor:
        """Keep the tokens of the unconditional image; what later will be read of them."""
        return self._keep_tensor(_name(_NULL_IMAGE), _IMAGE, {}, tokens_MD)

    def close(self) -> None:
        """Write what is not written yet."""
        self._store.flush()

    def _tensor(self, name: str, part: str) -> Tensor | None:
        entries = self._store.read(name)
        return entries[0].tensors[part] if entries else None

    def _keep_tensor(self, name: str, part: str, record: dict[str, object], tensor: Tensor) -> Tensor:
        kept = self._rounded(tensor)
        self._put(name, record, {part: kept})
        return kept

    def _put(self, name: str, record: dict[str, object], tensors: dict[str, Tensor]) -> None:
        if not self._is_read_only:
            self._store.put(name, Entry(record=record, tensors=tensors))

    def _rounded(self, tensor: Tensor) -> Tensor:
        # A copy, so that no batch is kept in memory for the sake of one of its clips.
        return tensor.detach().to("cpu", self._dtype, copy=True).contiguous()

    def missing(self, name: CutName) -> CacheError:
        """What is said of a cut that is not there and may not be added."""
        damaged = self._store.damaged
        why, check = (f" ({damaged[0]})", " --check") if damaged else ("", "")
        return CacheError(
            f"the cache in {self.folder} has no cut {name.number} of {name.key}{why}, and cache.fill is 'never'; add "
            f"it with `videocrafter cache RECIPE --cache {self.folder}{check}` and the other options of this "
            "training, or set cache.fill=missing"
        )


class CacheMemory:
    """A cache as the memory of a loader: what is kept is not decoded.

    Args:
        decodes: whether what is not kept may be decoded; else it ends the run.
    """

    def __init__(self, cache: ClipCache, *, decodes: bool) -> None:
        self._cache, self._decodes = cache, decodes

    def knows(self, task: DecodingTask) -> bool:
        """Whether a cut is kept, or was left out; what may not be decoded, `recall` has to know."""
        assert task.name is not None
        return task.name in self._cache or not self._decodes

    def recall(self, task: DecodingTask) -> CachedCut | BadSampleError | None:
        """What is kept of a cut; None if it is damaged, or the tokens of its caption are.

        Raises:
            CacheError: it is not there, or damaged, and may not be decoded.
        """
        assert task.name is not None
        found = self._cache.find(task.name)
        if found is None and not self._decodes:
            raise self._cache.missing(task.name)
        return found

    def note_bad(self, task: DecodingTask, error: BadSampleError) -> None:
        """Keep that a cut is left out, and why."""
        assert task.name is not None
        self._cache.keep_bad(task.name, error)


def _named(name: CutName) -> dict[str, object]:
    return {"key": name.key, "cut": name.number}


def _name(*parts: str) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
