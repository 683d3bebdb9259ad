"""A caption model behind an OpenAI-compatible HTTP endpoint, such as vLLM, llama.cpp or a paid service."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

import numpy as np
from PIL import Image

from videocrafter.media.json_file import parse_json_object
from videocrafter.preparation.config import CaptionConfig
from videocrafter.preparation.failures import UnitError

# All tries of a clip must end within limits.per_caption_s: what does not answer is asked again by the next run.
_TIMEOUT_S = 60.0
_FIRST_PAUSE_S = 0.5
_LARGEST_ANSWER = 1 << 20
# Too many requests, and errors of the server; any other status stays the same however often it is asked.
_WORTH_A_RETRY = (408, 409, 425, 429, 500, 502, 503, 504)


class HttpCaptioner:
    """Asks an endpoint. The key, if it needs one, is read from an environment variable and never stored."""

    def __init__(self, config: CaptionConfig) -> None:
        assert config.url is not None
        if not config.url.startswith(("http://", "https://")):
            raise UnitError("caption_failed", f"caption.url is {config.url!r}, expected http:// or https://")
        self.name = config.model or config.url
        self._url, self._model, self._tries = config.url, config.model, config.tries
        self._key = os.environ.get(config.key_variable)

    def describe(self, pictures: np.ndarray, prompt: str, max_tokens: int, *, temperature: float) -> str:
        """Return the answer to a prompt about pictures, uint8 `[T, H, W, 3]`."""
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        content += [{"type": "image_url", "image_url": {"url": _data_url(picture)}} for picture in pictures]
        request: dict[str, Any] = {
            "messages": [{"role": "user", "content": content}],
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        if self._model:
            request["model"] = self._model
        answer = self._ask(json.dumps(request).encode())
        try:
            return str(answer["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as error:
            raise UnitError("bad_model_output", f"{self._url} answered without a message") from error

    def _ask(self, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        problem = ""
        for attempt in range(self._tries):
            request = urllib.request.Request(self._url, body, headers)
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                    answer = response.read(_LARGEST_ANSWER)
                    if response.length and len(answer) < _LARGEST_ANSWER:
                        raise http.client.IncompleteRead(answer, response.length)
                    return parse_json_object(answer, self._url)
            except urllib.error.HTTPError as error:
                problem = f"status {error.code}"
                if error.code not in _WORTH_A_RETRY:
                    break
            except ValueError as error:
                raise UnitError("bad_model_output", str(error)) from error
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
            if attempt + 1 < self._tries:
                time.sleep(_FIRST_PAUSE_S * 2**attempt)
        raise UnitError("caption_failed", f"{self._url} does not answer ({problem})")


def _data_url(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
