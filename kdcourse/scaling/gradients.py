"""One mean over all positions of a step, wherever they were computed."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from accelerate import Accelerator


def mean_gradients(accelerator: "Accelerator", parameters: Iterable[nn.Parameter], positions: int | Tensor) -> Tensor:
    """Turn the gradients of sums into those of the mean over the N positions of a step; N, a 0-d tensor.

    For a loop of your own: call it in every process where ``accelerator.sync_gradients`` is true, before clipping and
    ``optimizer.step()``, with the number of this process's positions in all micro-batches of the step. Each process has
    called ``accelerator.backward`` on the *sum* of the losses of its positions. Accelerate has divided it by its
    accumulation steps k, and the wrapper by the W processes: what is missing is the factor k·W/N. A mean over n
    positions has then the weight n·W/N, and the gradient is the one of all positions in one process.

    >>> from accelerate import Accelerator
    >>> accelerator, layer = Accelerator(cpu=True), nn.Linear(1, 1)
    >>> for rows in torch.tensor([[1.0], [2.0], [3.0], [6.0]]).split([3, 1]):
    ...     accelerator.backward(layer(rows).sum())
    >>> mean_gradients(accelerator, layer.parameters(), 4).item(), layer.weight.grad.item()
    (4.0, 3.0)
    """
    total: Tensor = accelerator.reduce(torch.as_tensor(positions, dtype=torch.float64, device=accelerator.device))
    factor = accelerator.gradient_accumulation_steps * accelerator.num_processes / total.clamp(min=1)  # 0 / 0 is NaN
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor)
    return total
