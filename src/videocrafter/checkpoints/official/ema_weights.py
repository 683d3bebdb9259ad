"""The exponential moving average (EMA) of the denoiser's weights, as the official trainer stores it.

The trainer keeps the average of `model.a.b` under `model_ema.ab`: the same key without its dots.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from videocrafter.checkpoints.file_content import CheckpointFileError

_EMA_PREFIX = "model_ema."
_COUNTERS = ("model_ema.decay", "model_ema.num_updates")


def is_ema_key(key: str) -> bool:
    """Return whether a key belongs to the trainer's EMA, including its two counters."""
    return key.startswith(_EMA_PREFIX)


def ema_keys(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Map each EMA key to the key of the weight that it averages; empty if the checkpoint has no EMA weights."""
    dotless = {
        _EMA_PREFIX + key.removeprefix("model.").replace(".", ""): key for key in tensors if key.startswith("model.")
    }
    return {key: dotless[key] for key in tensors if key in dotless}


def with_ema_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict with each averaged weight replaced by its EMA.

    Raises CheckpointFileError if the checkpoint has no EMA weights, or some that match no weight.
    """
    averages = ema_keys(tensors)
    if not averages:
        raise CheckpointFileError("the checkpoint has no EMA weights (model_ema.*); omit --ema")
    unmatched = [key for key in tensors if is_ema_key(key) and key not in averages and key not in _COUNTERS]
    if unmatched:
        raise CheckpointFileError(
            f"{len(unmatched)} EMA tensors match no weight, such as {unmatched[0]!r}; omit --ema"
        )
    plain = {key: value for key, value in tensors.items() if not is_ema_key(key)}
    return plain | {key: tensors[average] for average, key in averages.items()}
