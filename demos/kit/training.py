"""What small trainings share: seeded weights, twins, shuffled batches, updates, and the loop that yields frames."""

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
Frame = TypeVar("Frame")


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


def twins(network: Module, count: int = 2) -> list[Module]:
    """The network and copies of it: `count` networks with the same weights at the start, none of them shared."""
    return [network, *(copy.deepcopy(network) for _ in range(count - 1))]


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

    def __init__(self, weights: Iterable[Tensor], momentum: float = 0.9) -> None:
        self.weights = list(weights)
        self.velocities = [torch.zeros_like(weight) for weight in self.weights]
        self.momentum = momentum

    def step(self, loss: Tensor, rate: float) -> None:
        """One update down the gradient of a loss, a scalar that depends on every weight."""
        gradients = torch.autograd.grad(loss, self.weights)
        momentum_step(self.weights, self.velocities, gradients, rate, self.momentum)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share (...) of N samples whose class (N,) has the highest of their logits (..., N, K)."""
    return (logits.argmax(-1) == labels).float().mean(-1)


class History:
    """What each frame of a training has measured so far, by name."""

    def __init__(self) -> None:
        self.measured: dict[str, list[Tensor]] = {}

    def add(self, **values: Tensor | float) -> None:
        """What was measured for one more frame; every frame names the same."""
        for name, value in values.items():
            self.measured.setdefault(name, []).append(torch.as_tensor(value))

    def stacked(self, axis: int = 0) -> dict[str, Tensor]:
        """All frames' values by name, stacked along an axis; numbers along the only one."""
        return {name: torch.stack(values, min(axis, values[0].ndim)) for name, values in self.measured.items()}


def mean_between(values: Tensor, seen: Sequence[int]) -> Tensor:
    """Means (S, F - 1) of values by update (T, S) over the updates from each of F frames to the next."""
    means = [values[start:end].mean(0) for start, end in itertools.pairwise(seen)]
    return torch.stack(means, -1) if means else values.new_empty(values.shape[1], 0)


def train(updates: int, frames: int, step: Callable[[int], None], look: Callable[[int], Frame]) -> Iterator[Frame]:
    """What `look` sees before the first update, after the last and evenly between; `step` makes update 0, 1, ...

    Both compute on one thread, whoever asks for the next frame does not.
    """
    shown = frame_steps(updates, frames)
    for update in range(updates + 1):
        if update in shown:
            with one_thread():
                frame = look(update)
            yield frame
        if update < updates:
            with one_thread():
                step(update)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes on one thread.

    A small network gains nothing from a second one, and where another program has the core, each of its many short
    operations waits for it: 50 seconds instead of 3 were measured on two busy cores.
    """
    before = torch.get_num_threads()
    if before == 1:
        # The number is each thread's own, but a new thread takes the last one that any has set: what began while
        # another was in here must not leave that 1 to all that come later.
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
