"""What small trainings share: seeded initial weights, shuffled batches, an update, and when to show a frame."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def build(make: Callable[[], Module], generator: torch.Generator) -> Module:
    """A module whose linear and convolutional weights are drawn from the given generator.

    torch's own layers draw from the global generator as they are made; its state is put back.
    """
    with torch.random.fork_rng(devices=[]):
        module = make()
    return initialize(module, generator)


def initialize(module: Module, generator: torch.Generator) -> Module:
    """Draws weights anew from the given generator (He et al. 2015, uniform), zeroes biases; returns the module."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


def perceptron(widths: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Linear layers from each width to the next, with a ReLU between two; weights as `build` draws them."""

    def layers() -> nn.Sequential:
        linear = [nn.Linear(before, after) for before, after in itertools.pairwise(widths)]
        return nn.Sequential(*(layer for one in linear[:-1] for layer in (one, nn.ReLU())), linear[-1])

    return build(layers, generator)


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


@torch.no_grad()
def momentum_step(
    weights: Sequence[Tensor], velocities: Sequence[Tensor], gradients: Sequence[Tensor], rate: float, momentum: float
) -> None:
    """v <- momentum v + g, then w <- w - rate v, in place, tensor by tensor.

    torch.optim does the same, but its first use in a process takes a second to import what nobody here needs.
    """
    for weight, velocity, gradient in zip(weights, velocities, gradients, strict=True):
        velocity.mul_(momentum).add_(gradient)
        weight.sub_(velocity, alpha=rate)


class Descent:
    """Gradient descent with momentum on the weights of a network, in place."""

    def __init__(self, network: nn.Module, momentum: float = 0.9) -> None:
        self.weights = list(network.parameters())
        self.velocities = [torch.zeros_like(weight) for weight in self.weights]
        self.momentum = momentum

    def step(self, loss: Tensor, rate: float) -> None:
        """One update down the gradient of a loss, a scalar that depends on every weight."""
        gradients = torch.autograd.grad(loss, self.weights)
        momentum_step(self.weights, self.velocities, gradients, rate, self.momentum)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes on one thread.

    A small network gains nothing from a second one, and where another program has the core, each of its many short
    operations waits for it: 50 seconds instead of 3 were measured on two busy cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
