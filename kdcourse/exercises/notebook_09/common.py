"""What the exercises of notebook 09 and their wrong answers share."""

import torch
from torch import Tensor

Errors = tuple[float, float]


def pruned(weight: Tensor, sparsity: float) -> Tensor:
    result = weight.flatten().clone()
    smallest = result.abs().argsort(stable=True)[: round(sparsity * len(result))]
    result[smallest] = 0
    return result.reshape(weight.shape)


def rounded(weight: Tensor, bits: int) -> Tensor:
    scale = weight.abs().max() / (2 ** (bits - 1) - 1)
    return torch.round(weight / scale) * scale
