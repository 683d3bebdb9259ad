"""Action recognition: whether a user's classifier sees the action that the prompt names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from videocrafter.checkpoints.torchscript_module import TorchScriptError
from videocrafter.evaluation.metrics.consistency import cosine

_TOP = 5


def is_action_right(logits: NDArray[np.float32], labels: Sequence[str], action: str) -> float:
    """Return 1 if the asked action is the most likely one, else 0: the accuracy that EvalCrafter's paper names."""
    _check_number(logits, labels)
    return float(labels[int(logits.argmax())].lower() == action.lower())


def expected_text_likeness(
    logits: NDArray[np.float32],
    labels: Sequence[str],
    action: str,
    of_text: Callable[[str], Mapping[str, NDArray[np.float32]]],
) -> float:
    """Return the sum over the five likeliest classes of probability times likeness of label and action in CLIP.

    That is what EvalCrafter's released code computes in place of the accuracy.
    """
    _check_number(logits, labels)
    p = np.exp(logits - logits.max(), dtype=np.float64)
    p /= p.sum()
    target = of_text(action)["clip"]
    likeliest = np.argsort(-p, kind="stable")[:_TOP]
    return float(sum(p[index] * cosine(of_text(labels[index])["clip"], target) for index in likeliest))


def _check_number(logits: NDArray[np.float32], labels: Sequence[str]) -> None:
    if len(logits) != len(labels):
        raise TorchScriptError(
            f"the action classifier returned {len(logits)} logits for {len(labels)} labels; fix its .labels.txt"
        )
