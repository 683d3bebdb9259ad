"""Caption clips with a model: a short caption to train on, and a dense one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from videocrafter.media.errors import UnusableMediaError
from videocrafter.media.framing import Framing
from videocrafter.media.video_reader import open_reader
from videocrafter.preparation.caption.text_checks import problems, tidy
from videocrafter.preparation.config import CaptionConfig
from videocrafter.preparation.failures import UnitError

# Pictures for the model: enough for what a caption says.
_LONG_SIDE = 448
_RETRY_TEMPERATURE = 0.7


class Captioner(Protocol):
    """A model that describes pictures."""

    name: str

    def describe(self, pictures: np.ndarray, prompt: str, max_tokens: int, *, temperature: float) -> str:
        """Return the answer to a prompt about pictures, uint8 `[T, H, W, 3]`.

        Args:
            temperature: of sampling; 0 gives the most likely answer.

        Raises:
            UnitError: there is no answer.
        """


def caption_clips(
    clips: Mapping[str, Path], config: CaptionConfig
) -> Iterator[tuple[str, dict[str, Any] | UnitError]]:
    """Yield the captions of clips as they are made, or why there is none.

    Args:
        clips: the file of each clip by its id.
    """
    captioner = load_captioner(config)
    with ThreadPoolExecutor(config.concurrency if config.url else 1) as pool:
        names = {pool.submit(_result, captioner, path, config): name for name, path in clips.items()}
        try:
            for answer in as_completed(names):
                yield names[answer], answer.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _result(captioner: Captioner, path: Path, config: CaptionConfig) -> dict[str, Any] | UnitError:
    try:
        return caption_clip(captioner, path, config)
    except UnitError as error:
        return error


def caption_clip(captioner: Captioner, path: Path, config: CaptionConfig) -> dict[str, Any]:
    """Return both captions of a clip, the model and the version of the prompts.

    Raises:
        UnitError: the model does not answer, or only with unusable text.
    """
    pictures = _pictures(path, config.frames)
    wrong: list[str] = []
    for attempt in range(config.tries):
        # The most likely answer is the same each time.
        temperature = _RETRY_TEMPERATURE if attempt else 0.0
        short = tidy(
            captioner.describe(pictures, config.prompt_short, config.max_tokens + 20, temperature=temperature)
        )
        wrong = problems(short, max_tokens=config.max_tokens)
        if wrong == ["long"] and (sentence := _first_sentence(short)):
            short, wrong = sentence, problems(sentence, max_tokens=config.max_tokens)
        if not wrong:
            dense = tidy(captioner.describe(pictures, config.prompt_dense, 4 * config.max_tokens, temperature=0.0))
            # A dense caption is an extra: without a good one, the clip is still usable.
            dense = "" if set(problems(dense)) - {"long"} else dense
            return {
                "caption_short": short,
                "caption_dense": dense,
                "caption_model": captioner.name,
                "prompt_version": config.prompt_version,
            }
    raise UnitError("bad_model_output", f"{captioner.name} wrote {short[:80]!r} ({', '.join(wrong)})")


def _first_sentence(text: str) -> str:
    head, stop, _ = text.partition(". ")
    return head + stop.strip() if stop else ""


def _pictures(path: Path, count: int) -> np.ndarray:
    try:
        with open_reader(path) as reader:
            times_s = [reader.duration_s * (index + 0.5) / count for index in range(count)]
            return reader.frames_at(times_s, _for_model)
    except UnusableMediaError as error:
        raise UnitError.of(error) from error


def _for_model(height: int, width: int) -> Framing:
    scale = min(1.0, _LONG_SIDE / max(height, width))
    return Framing(height=max(1, round(height * scale)), width=max(1, round(width * scale)))


@lru_cache(maxsize=1)
def load_captioner(config: CaptionConfig) -> Captioner:
    """Return the captioner; loaded once in each process.

    Raises:
        UnitError: it cannot be loaded.
    """
    if config.url:
        from videocrafter.preparation.caption.http_captioner import HttpCaptioner

        return HttpCaptioner(config)
    from videocrafter.preparation.caption.local_captioner import LocalCaptioner

    assert config.model is not None
    return LocalCaptioner(config.model)
