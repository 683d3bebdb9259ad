"""Encode clips one at a time, so that the result does not depend on the other clips of a batch.

That is slower than batches, once. In return, training is the same with a cache filled in advance, a cache filled
during training, and no cache, apart from the precision of cached tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from videocrafter.data.cutting import CachedCut, CutName
from videocrafter.data.sample import VideoBatch
from videocrafter.models.autoencoder import Posterior
from videocrafter.training.video.clip_cache.clip_cache import ClipCache, EncodedCut
from videocrafter.training.video.clip_encoding import ClipEncoder, ConditionFrame, EncodedClips
from videocrafter.training.video.frozen_networks import FrozenNetworks
from videocrafter.training.video.long_captions import LongCaptions

# After this many consecutive batches that needed no network, the networks leave the device.
_IDLE_BATCHES = 20


class CutEncoder:
    """A `ClipEncoder` that reads from a cache and runs the networks only for what is missing.

    Args:
        frozen: the networks.
        cache: stores results; None stores none.
        condition_frame, chunk: as in `ClipEncoder`.
        device: device of the results.
    """

    def __init__(
        self,
        frozen: FrozenNetworks,
        tokenizer: PreTrainedTokenizerBase,
        cache: ClipCache | None,
        *,
        condition_frame: ConditionFrame,
        chunk: int,
        device: torch.device,
    ) -> None:
        self._frozen, self._tokenizer, self._cache, self._device = frozen, tokenizer, cache, device
        self._condition_frame, self._chunk = condition_frame, chunk
        self._encoder: ClipEncoder | None = None
        self._null_text: Tensor | None = None
        self._null_image: Tensor | None = None
        self._num_idle = 0

    @property
    def long_captions(self) -> LongCaptions:
        """Counts of the captions encoded so far, without those that were read from the cache."""
        return LongCaptions() if self._encoder is None else self._encoder.long_captions

    def encode(self, batch: VideoBatch) -> EncodedClips:
        """Return the encoded clips of a batch, from the cache where possible."""
        self._num_idle += 1
        fresh = iter(batch.pixels.split(1))
        known = batch.cached or (None,) * len(batch)
        cuts: list[EncodedCut] = []
        for index, content in enumerate(known):
            if content is None:
                content = self._encoded(next(fresh), batch, index)
            assert isinstance(content, EncodedCut)
            cuts.append(content)
        if self._num_idle == _IDLE_BATCHES:
            self._frozen.park()
        images = [cut.image for cut in cuts if cut.image is not None]
        return EncodedClips(
            latents=Posterior(
                mean=torch.stack([cut.mean for cut in cuts]), std=torch.stack([cut.std for cut in cuts])
            ),
            text=torch.stack([cut.text for cut in cuts]),
            fps=batch.fps,
            image_tokens=torch.stack(images) if images else None,
            captions=batch.captions,
            keys=batch.keys,
        ).to(self._device)

    def null_text(self) -> Tensor:
        """Return the tokens [1, L, D] of the empty caption."""
        if self._null_text is None:
            self._null_text = self._text("")[None].to(self._device, torch.float32)
        return self._null_text

    def null_image(self) -> Tensor:
        """Return the tokens [1, M, D] of the unconditional image, unprojected."""
        if self._null_image is None:
            found = None if self._cache is None else self._cache.null_image()
            if found is None:
                found = self._needed().null_image()[0]
                found = found if self._cache is None else self._cache.keep_null_image(found)
            self._null_image = found[None].to(self._device, torch.float32)
        return self._null_image

    def _encoded(self, pixels_1TCHW: Tensor, batch: VideoBatch, index: int) -> EncodedCut:
        name = batch.cuts[index]
        if self._cache is not None:
            # The loader prefetches, so the cut may have been cached since the loader checked.
            found = self._cache.find(name)
            if isinstance(found, CachedCut):
                assert isinstance(found.content, EncodedCut)
                return found.content
        caption = batch.captions[index]
        text_LD = self._text(caption)
        one = VideoBatch(
            pixels=pixels_1TCHW, captions=(caption,), fps=batch.fps[index : index + 1], keys=(batch.keys[index],)
        )
        clips = self._needed().encode(one, text_LD[None])
        cut = EncodedCut(
            mean=clips.latents.mean[0],
            std=clips.latents.std[0],
            text=text_LD,
            image=None if clips.image_tokens is None else clips.image_tokens[0],
        )
        return cut if self._cache is None else self._add(name, one, cut)

    def _add(self, name: CutName, clip: VideoBatch, cut: EncodedCut) -> EncodedCut:
        assert self._cache is not None
        num_frames, _, height, width = clip.pixels.shape[1:]
        shape, fps = (num_frames, height, width, 3), clip.fps.item()
        kept = self._cache.keep(name, CachedCut(shape=shape, caption=clip.captions[0], fps=fps, content=cut))
        assert isinstance(kept.content, EncodedCut)
        return kept.content

    def _text(self, caption: str) -> Tensor:
        found = None if self._cache is None else self._cache.text(caption)
        if found is not None:
            return found
        text_LD = self._needed().encode_captions([caption])[0]
        return text_LD if self._cache is None else self._cache.keep_text(caption, text_LD)

    def _needed(self) -> ClipEncoder:
        self._num_idle = 0
        self._frozen.bring()
        if self._encoder is None:
            self._encoder = frozen_encoder(
                self._frozen, self._tokenizer, condition_frame=self._condition_frame, chunk=self._chunk
            )
        return self._encoder


def frozen_encoder(
    frozen: FrozenNetworks, tokenizer: PreTrainedTokenizerBase, *, condition_frame: ConditionFrame, chunk: int
) -> ClipEncoder:
    """Move the networks to the device and return their encoder."""
    networks = frozen.bring()
    return ClipEncoder(
        networks["vae"],
        tokenizer,
        networks["text_encoder"],
        networks.get("image_encoder"),
        condition_frame=condition_frame,
        chunk=chunk,
    )
