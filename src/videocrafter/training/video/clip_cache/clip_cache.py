"""Cache of latents and image tokens of cuts, text tokens of captions, and the reasons why cuts are left out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from videocrafter.data.cutting import CachedCut, CutName
from videocrafter.data.decoding import DecodingTask
from videocrafter.data.errors import BadSampleError
from videocrafter.training.video.clip_cache.cache_file import Entry
from videocrafter.training.video.clip_cache.config import CacheConfig, CacheError
from videocrafter.training.video.clip_cache.description import CacheDescription, claim_folder
from videocrafter.training.video.clip_cache.store import EntryStore

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_MEAN, _STD, _IMAGE, _TEXT = "mean", "std", "image", "text"
_NULL_IMAGE = "null image"


@dataclass(frozen=True, kw_only=True)
class EncodedCut:
    """An encoded cut, on the CPU, in the precision of the cache.

    Attributes:
        mean, std: scaled mean and standard deviation of the autoencoder's posterior, [C, T, H, W].
        text: tokens of the caption, [L, D].
        image: unprojected tokens of the conditioning frame, [M, D]; None without an image tower.
    """

    mean: Tensor
    std: Tensor
    text: Tensor
    image: Tensor | None


class ClipCache:
    """The cache of a stage. Thread-safe; several processes may share its folder.

    Args:
        config: configuration with a folder. With fill "never" nothing is added.
        description: everything that determines the entries.

    Raises:
        CacheError: the folder belongs to another cache, or cannot be used.
    """

    def __init__(self, config: CacheConfig, description: CacheDescription) -> None:
        assert config.folder is not None
        self.folder, self._is_read_only = Path(config.folder), config.fill == "never"
        claim_folder(self.folder, description, may_make=not self._is_read_only)
        self._dtype = _DTYPES[description.dtype]
        self._store = EntryStore(self.folder, description.digest, file_bytes=config.shard_mb * 1_000_000)

    def __contains__(self, name: CutName) -> bool:
        """Whether a cut is cached or known to be left out; it may still turn out to be damaged when it is read."""
        return name.digest in self._store

    def find(self, name: CutName) -> CachedCut | BadSampleError | None:
        """Return a cut, whose content is an `EncodedCut`, or the reason why it is left out; None if it is missing."""
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
        """Add an encoded cut; return it as it will be read back."""
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
        """Record why a cut is left out."""
        self._put(name.digest, {**_named(name), "reason": error.reason, "message": str(error)}, {})

    def text(self, caption: str) -> Tensor | None:
        """Return the tokens [L, D] of a caption; None if missing."""
        return self._tensor(_name("caption", caption), _TEXT)

    def keep_text(self, caption: str, text_LD: Tensor) -> Tensor:
        """Add the tokens of a caption, unless they are there; return them as they will be read back."""
        known = self.text(caption)
        if known is not None:
            return known
        return self._keep_tensor(_name("caption", caption), _TEXT, {"caption": caption}, text_LD)

    def null_image(self) -> Tensor | None:
        """Return the tokens [M, D] of the unconditional image; None if missing."""
        return self._tensor(_name(_NULL_IMAGE), _IMAGE)

    def keep_null_image(self, tokens_MD: Tensor) -> Tensor:
        """Add the tokens of the unconditional image; return them as they will be read back."""
        return self._keep_tensor(_name(_NULL_IMAGE), _IMAGE, {}, tokens_MD)

    def close(self) -> None:
        """Write pending entries."""
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
        # A copy, so that one clip does not keep a whole batch in memory.
        return tensor.detach().to("cpu", self._dtype, copy=True).contiguous()

    def missing(self, name: CutName) -> CacheError:
        """Return the error for a cut that is missing and may not be added."""
        damaged = self._store.damaged
        why, check = (f" ({damaged[0]})", " --check") if damaged else ("", "")
        return CacheError(
            f"the cache in {self.folder} does not contain cut {name.number} of {name.key}{why}, and cache.fill is "
            f"'never'; add it with `videocrafter cache RECIPE --cache {self.folder}{check}` and the other options of "
            "this training, or set cache.fill=missing"
        )


class CacheMemory:
    """Lets a loader skip decoding the cuts that a cache contains.

    Args:
        decodes: whether missing cuts may be decoded; otherwise they end the run.
    """

    def __init__(self, cache: ClipCache, *, decodes: bool) -> None:
        self._cache, self._decodes = cache, decodes

    def knows(self, task: DecodingTask) -> bool:
        """Whether `recall` handles a cut: it is cached or left out, or must not be decoded."""
        assert task.name is not None
        return task.name in self._cache or not self._decodes

    def recall(self, task: DecodingTask) -> CachedCut | BadSampleError | None:
        """Return a cached cut or the reason why it is left out; None if it or its caption's tokens are damaged.

        Raises:
            CacheError: the cut is missing or damaged and must not be decoded.
        """
        assert task.name is not None
        found = self._cache.find(task.name)
        if found is None and not self._decodes:
            raise self._cache.missing(task.name)
        return found

    def note_bad(self, task: DecodingTask, error: BadSampleError) -> None:
        """Record why a cut is left out."""
        assert task.name is not None
        self._cache.keep_bad(task.name, error)


def _named(name: CutName) -> dict[str, object]:
    return {"key": name.key, "cut": name.number}


def _name(*parts: str) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
