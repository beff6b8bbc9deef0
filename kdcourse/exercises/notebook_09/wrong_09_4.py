"""Wrong answers to 09.4."""

from typing import Any

import torch
from torch import Tensor

from .common import Errors, pruned, rounded


def _errors(weight: Tensor, one: Tensor, other: Tensor) -> Errors:
    return (one - weight).square().mean().item(), (other - weight).square().mean().item()


def one_mask_for_both(weight: Tensor, sparsity: float, bits: int) -> Errors:
    left = pruned(weight, sparsity)
    return _errors(weight, rounded(left, bits), rounded(weight, bits) * (left != 0))


def against_the_step_before(weight: Tensor, sparsity: float, bits: int) -> Errors:
    before = pruned(weight, sparsity), rounded(weight, bits)
    after = rounded(before[0], bits), pruned(before[1], sparsity)
    first, second = ((new - old).square().mean().item() for new, old in zip(after, before, strict=True))
    return first, second


def errors_added(weight: Tensor, sparsity: float, bits: int) -> Errors:
    steps = _errors(weight, pruned(weight, sparsity), rounded(weight, bits))
    return sum(steps), sum(steps)


def each_step_alone(weight: Tensor, sparsity: float, bits: int) -> Errors:
    return _errors(weight, pruned(weight, sparsity), rounded(weight, bits))


def _with(weight: Tensor, sparsity: float, bits: int, prune: Any, to_grid: Any) -> Errors:
    return _errors(weight, to_grid(prune(weight, sparsity), bits), prune(to_grid(weight, bits), sparsity))


def all_ties_pruned(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def prune(tensor: Tensor, share: float) -> Tensor:
        count = round(share * tensor.numel())
        if count == 0:
            return tensor
        threshold = tensor.abs().flatten().sort().values[count - 1]
        return tensor * (tensor.abs() > threshold)

    return _with(weight, sparsity, bits, prune, rounded)


def all_ties_kept(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def prune(tensor: Tensor, share: float) -> Tensor:
        threshold = tensor.abs().flatten().sort().values[round(share * tensor.numel())]
        return tensor * (tensor.abs() >= threshold)

    return _with(weight, sparsity, bits, prune, rounded)


def last_ties_pruned(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def prune(tensor: Tensor, share: float) -> Tensor:
        return pruned(tensor.flatten().flip(0), share).flip(0).reshape(tensor.shape)

    return _with(weight, sparsity, bits, prune, rounded)


def share_kept(weight: Tensor, sparsity: float, bits: int) -> Errors:
    return _with(weight, 1 - sparsity, bits, pruned, rounded)


def signed_order(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def prune(tensor: Tensor, share: float) -> Tensor:
        result = tensor.flatten().clone()
        result[result.argsort(stable=True)[: round(share * len(result))]] = 0
        return result.reshape(tensor.shape)

    return _with(weight, sparsity, bits, prune, rounded)


def pruned_row_by_row(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def prune(tensor: Tensor, share: float) -> Tensor:
        return torch.stack([pruned(row, share) for row in tensor])

    return _with(weight, sparsity, bits, prune, rounded)


def _on_grid(steps: float) -> Any:
    def to_grid(tensor: Tensor, bits: int) -> Tensor:
        scale = tensor.abs().max() / (2 ** (bits - 1) + steps)
        return torch.round(tensor / scale) * scale

    return to_grid


def grid_one_step_longer(weight: Tensor, sparsity: float, bits: int) -> Errors:
    return _with(weight, sparsity, bits, pruned, _on_grid(0))


def sign_bit_forgotten(weight: Tensor, sparsity: float, bits: int) -> Errors:
    return _with(weight, sparsity, bits + 1, pruned, _on_grid(-1))


def cut_to_the_grid(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def to_grid(tensor: Tensor, bits: int) -> Tensor:
        scale = tensor.abs().max() / (2 ** (bits - 1) - 1)
        return torch.trunc(tensor / scale) * scale

    return _with(weight, sparsity, bits, pruned, to_grid)


def codes_for_weights(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def to_grid(tensor: Tensor, bits: int) -> Tensor:
        return torch.round(tensor / (tensor.abs().max() / (2 ** (bits - 1) - 1)))

    return _with(weight, sparsity, bits, pruned, to_grid)


def grid_of_each_row(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def to_grid(tensor: Tensor, bits: int) -> Tensor:
        scale = tensor.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
        return torch.round(tensor / scale.clamp(min=1e-12)) * scale

    return _with(weight, sparsity, bits, pruned, to_grid)
