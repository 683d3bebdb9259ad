"""The identity of networks: a hash of their weights, whatever file they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import nn


def weights_sha256(networks: Mapping[str, nn.Module]) -> str:
    """Return the SHA-256 of all weights with their names and shapes, in float32 and in the order of the names."""
    digest = hashlib.sha256()
    for name, network in sorted(networks.items()):
        for key, tensor in sorted(network.state_dict().items()):
            digest.update(f"{name}.{key}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
