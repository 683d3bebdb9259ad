"""CLIP embeddings of frames and prompts: from any CLIP model folder, or from a pipeline's own image encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from videocrafter.evaluation.metrics.image_likeness import covering
from videocrafter.evaluation.metrics.network_identity import weights_sha256
from videocrafter.models.image_encoder import CLIP_MEAN, CLIP_STD, encode_image

Frames = Sequence[NDArray[np.uint8]]
CLIP, CLIP_COMPAT, TOWER = "clip", "clip_compat", "image_tower"


class ClipFolder:
    """Both towers of a CLIP model in transformers' format, with their projections.

    Frames are scaled to cover the model's square, cropped at the centre and normalised, as CLIP's own preprocessing
    does. The output `clip_compat` repeats a slip of EvalCrafter's released code: frames are squashed to the square,
    and values from 0 to 255 are passed without normalisation.

    Args:
        folder: a folder with config.json, weights and tokenizer of a `CLIPModel`.
        device: where the networks run.
        outputs: `clip`, `clip_compat` or both; each costs a forward pass.

    Raises:
        ValueError: the folder holds no readable CLIP model.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu", outputs: tuple[str, ...] = (CLIP,)) -> None:
        from transformers import AutoTokenizer, CLIPModel

        try:
            self._model: Any = CLIPModel.from_pretrained(folder, local_files_only=True).eval().to(device)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{folder} is not a readable CLIP model ({reason}); pass a folder saved by transformers' CLIPModel "
                "with its tokenizer"
            ) from error
        self.outputs = outputs
        self._device = device
        self.sha256 = weights_sha256({"": self._model})

    @torch.no_grad()
    def of_frames(self, frames: Frames) -> Mapping[str, NDArray[np.float32]]:
        """Return unit vectors [N, D] of frames [H, W, 3] uint8."""
        size = self._model.config.vision_config.image_size
        found: dict[str, NDArray[np.float32]] = {}
        if CLIP in self.outputs:
            mean, std = (torch.tensor(value, device=self._device).view(3, 1, 1) for value in (CLIP_MEAN, CLIP_STD))
            pixels = _batch([covering(frame, size, size) for frame in frames], self._device) / 255.0
            found[CLIP] = self._project((pixels - mean) / std)
        if CLIP_COMPAT in self.outputs:
            found[CLIP_COMPAT] = self._project(self._squashed(frames))
        return found

    @torch.no_grad()
    def of_drawn_images(self, images: Frames) -> Mapping[str, NDArray[np.float32]]:
        """Return unit vectors [N, D] of pictures by an image model, to compare frames with.

        For `clip_compat`, values from 0 to 1 are passed without normalisation: in EvalCrafter's released code, the
        range of pictures differs from that of frames.
        """
        found = {output: rows for output, rows in self.of_frames(images).items() if output == CLIP}
        if CLIP_COMPAT in self.outputs:
            found[CLIP_COMPAT] = self._project(self._squashed(images) / 255.0)
        return found

    @torch.no_grad()
    def of_prompt(self, prompt: str) -> Mapping[str, NDArray[np.float32]]:
        """Return the unit vector [D] of a prompt, the same for both outputs.

        Long prompts are cut to the model's length.
        """
        length = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer([prompt], truncation=True, max_length=length, return_tensors="pt").to(self._device)
        state = self._model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        (vector,) = _unit(self._model.text_projection(state.pooler_output))
        return {CLIP: vector, CLIP_COMPAT: vector}

    def _squashed(self, frames: Frames) -> Tensor:
        size = (self._model.config.vision_config.image_size,) * 2
        batches = (_batch([frame], self._device) for frame in frames)
        return torch.cat([nn.functional.interpolate(batch, size=size, mode="bilinear") for batch in batches])

    def _project(self, pixels: Tensor) -> NDArray[np.float32]:
        state = self._model.vision_model(pixel_values=pixels)
        return _unit(self._model.visual_projection(state.pooler_output))


class ImageTower:
    """The image encoder of an image-to-video pipeline: the class token of its last block.

    It compares images with images. It knows no text, because pipelines keep no projection into a common space.
    """

    outputs = (TOWER,)

    def __init__(self, image_encoder: Any) -> None:
        self._encoder = image_encoder.eval()
        self.sha256 = weights_sha256({"": image_encoder})

    @torch.no_grad()
    def of_frames(self, frames: Frames) -> Mapping[str, NDArray[np.float32]]:
        """Return unit vectors [N, D] of frames [H, W, 3] uint8."""
        pixels = torch.cat([_batch([frame], self._encoder.device) for frame in frames]) / 127.5 - 1.0
        return {TOWER: _unit(encode_image(self._encoder, pixels)[:, 0].float())}


def _batch(frames: Frames, device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.stack(frames)).to(device).permute(0, 3, 1, 2).float()


def _unit(vectors: Tensor) -> NDArray[np.float32]:
    normalised: NDArray[np.float32] = nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return normalised
