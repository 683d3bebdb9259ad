"""A caption model of transformers in a local folder: a chat model that takes pictures, or an image captioner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from videocrafter.preparation.failures import UnitError


class LocalCaptioner:
    """Loads a model from a folder; nothing is downloaded."""

    def __init__(self, folder: str) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.name = Path(folder).name
        if not Path(folder).is_dir():
            raise UnitError("caption_failed", f"caption.model is {folder!r}, expected the folder of a model")
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise UnitError("caption_failed", f"{folder} cannot be loaded as a caption model ({error})") from error
        self._model = model.to(self._device).eval()

    def describe(self, pictures: np.ndarray, prompt: str, max_tokens: int, *, temperature: float) -> str:
        """Return the answer to a prompt about pictures, uint8 `[T, H, W, 3]`."""
        import torch

        images = [Image.fromarray(picture) for picture in pictures]
        is_chat = bool(getattr(self._processor, "chat_template", None))
        if is_chat:
            content = [*({"type": "image"} for _ in images), {"type": "text", "text": prompt}]
            text = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
            inputs = self._processor(images=images, text=text, return_tensors="pt")
        else:
            # An image captioner takes no instruction and one picture.
            inputs = self._processor(images=images[len(images) // 2], return_tensors="pt")
        inputs = inputs.to(self._device)
        with torch.inference_mode():
            sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
            tokens = self._model.generate(**inputs, max_new_tokens=max_tokens, **sampling)
        if is_chat:
            tokens = tokens[:, inputs["input_ids"].shape[1] :]
        return str(self._processor.batch_decode(tokens, skip_special_tokens=True)[0])
