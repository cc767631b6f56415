"""What small trainings share: seeded initial weights, shuffled batches, and when to show a frame."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def initialize(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draws every weight from the given generator (He et al. 2015, uniform; biases zero); returns the module.

    torch's own layers draw from the global generator, which a demo never touches.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


def batches(size: int, batch: int, updates: int, generator: torch.Generator) -> Iterator[Tensor]:
    """`updates` index tensors (batch,), sweeping the data in a new random order each time around."""
    order = torch.empty(0, dtype=torch.long)
    for _ in range(updates):
        if len(order) < batch:
            order = torch.cat([order, torch.randperm(size, generator=generator)])
        yield order[:batch]
        order = order[batch:]


def frame_steps(updates: int, frames: int) -> set[int]:
    """The updates (0 to `updates`, both included) after which to show a frame, evenly spread."""
    count = min(frames, updates)
    return {round(i * updates / count) for i in range(count + 1)}
