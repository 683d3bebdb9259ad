"""The identity of a model in reports: hash of its weights, size, and how it generates."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from torch import nn

from videocrafter.evaluation.metrics.network_identity import weights_sha256


def describe_model(model: Any) -> dict[str, Any]:
    """Return a model's fingerprint (SHA-256 of all weights by name), size, and how it generates.

    A pipeline generates with its recommended settings, its scheduler, and its feature cache.

    Args:
        model: a pipeline or a single network.
    """
    parts = {"": model} if isinstance(model, nn.Module) else dict(getattr(model, "components", {}))
    networks = {name: network for name, network in parts.items() if isinstance(network, nn.Module)}
    described: dict[str, Any] = {
        "weights_sha256": weights_sha256(networks),
        "num_parameters": sum(tensor.numel() for network in networks.values() for tensor in network.parameters()),
    }
    if hasattr(model, "generation_defaults"):
        described["defaults"] = asdict(model.generation_defaults)
    if (scheduler := getattr(model, "scheduler", None)) is not None:
        described["scheduler"] = _sampler(scheduler)
    if (cache := getattr(model, "feature_cache", None)) is not None:
        described["feature_cache"] = asdict(cache)
    return described


def _sampler(scheduler: Any) -> dict[str, Any]:
    """Return a scheduler's class and config, with a hash in place of its many betas."""
    config: dict[str, Any] = json.loads(scheduler.to_json_string())
    if (betas := config.pop("trained_betas", None)) is not None:
        config["trained_betas_sha256"] = hashlib.sha256(json.dumps(betas).encode()).hexdigest()
    return config
