"""Pruning by what a weight does to the outputs: one formula with more and more of the inputs' Hessian.

Removing weight q of an output and repairing the others costs w_q² / [H⁻¹]_qq, H = XᵀX (Optimal Brain Surgeon). With a
diagonal H that is (|w_q|·‖X_q‖)², Wanda's score; with H = 1, magnitude. Weights are (outputs, inputs), of a
convolution ``weight.flatten(1)``; what is given of n:m is as in `nm_mask`.
"""

import torch
from torch import Tensor

from .._base.checks import check_count, check_matrix, check_weight
from .._base.hessians import Change, damped, input_hessian, inverse_factor, one_after_the_other
from ._layers import check_sparsity
from .masks import grouped_inputs, nm_mask

__all__ = ["input_hessian", "obs_costs", "sparsegpt", "wanda_mask"]


def wanda_mask(
    weight: Tensor, inputs: Tensor, *, sparsity: float | None = None, n: int | None = None, m: int | None = None
) -> Tensor:
    """Prune the round(sparsity · I) weights of smallest |w|·‖X‖₂ within each output, or keep n of every m.

    ``weight`` (O, I); ``inputs`` (..., I) as the layer gets them, ‖X_j‖ being over all leading positions. In the paper
    they come from the network whose earlier layers are pruned already. Of equal scores the first are pruned; with
    ``n`` and ``m``, in place of ``sparsity``, kept. Raises ``ValueError`` for inputs of another width, NaN, infinity,
    and a sparsity that leaves nothing.

    Source: Sun et al. 2023, arXiv:2306.11695, section 3.

    >>> wanda_mask(torch.tensor([[3.0, -1.0], [2.0, 1.0]]), torch.tensor([[1.0, 4.0], [0.0, 0.0]]), sparsity=0.5)
    tensor([[False,  True],
            [False,  True]])
    """
    check_weight("weight", weight)
    check_matrix("weight", weight)
    check_weight("inputs", inputs)
    if inputs.ndim < 2 or inputs.shape[-1] != weight.shape[1]:
        raise ValueError(f"inputs must be (..., {weight.shape[1]}) for this weight, got shape {tuple(inputs.shape)}")
    norms = torch.linalg.vector_norm(inputs.detach().double().flatten(0, -2), dim=0)
    _check_amount(weight, sparsity, n, m)
    return _kept(weight.detach().double().abs() * norms, sparsity, n, m, start=0)


@torch.no_grad()
def obs_costs(weight: Tensor, hessian: Tensor, *, damping: float = 0.01) -> Tensor:
    """w² / [H⁻¹]_qq (O, I), float64: by how much removing one weight raises the squared error, the others repaired.

    The error is (w - ŵ)·H·(w - ŵ)ᵀ, with H damped; ``hessian``, ``damping`` and what is raised as in `sparsegpt`.
    A dead input's weights cost nothing.

    Source: Hassibi, Stork 1992, "Second order derivatives for network pruning", equation 5.

    >>> obs_costs(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 1.0], [1.0, 2.0]]), damping=0)
    tensor([[1.5000, 1.5000]], dtype=torch.float64)
    """
    definite, dead = damped(weight, hessian, damping)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(definite))
    return weight.double().square().masked_fill(dead, 0) / inverse.diagonal()


@torch.no_grad()
def sparsegpt(
    weight: Tensor,
    hessian: Tensor,
    *,
    sparsity: float | None = None,
    n: int | None = None,
    m: int | None = None,
    block_size: int | None = None,
    damping: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """A mask (O, I) and the repaired weights, zero where it is False: pruned input by input, later ones making up.

    Within each output the round(sparsity · I) weights of smallest w² / (U_jj)² go, U the upper Cholesky factor of H⁻¹,
    whose (U_jj)² is [H⁻¹]_jj for input j and those after it, which alone can still move. With ``block_size`` the mask
    is chosen for so many inputs at a time, from the weights as repaired so far, the same fraction of each block; with
    ``n`` and ``m`` in place of ``sparsity``, n of every m are kept so. With a diagonal H it is `wanda_mask`, and no
    weight moves. The paper takes blocks of 128, and ranks them over all outputs together.

    ``hessian``: `input_hessian` of the layer's inputs. ``damping`` is added to its diagonal as a fraction of each
    entry (in the paper, of their mean). A dead input, zero throughout, has a zero row: its weights become 0. Raises
    ``ValueError`` for a Hessian that is not symmetric, not positive semidefinite, zero, or singular after damping.

    Source: Frantar, Alistarh 2023, arXiv:2301.00774, sections 3.2 and 3.3.

    >>> weight, inputs = torch.tensor([[1.0, 1.0, 3.0]]), torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.1, 1.0]])
    >>> mask, repaired = sparsegpt(weight, input_hessian(inputs), sparsity=0.34)
    >>> mask, repaired.round(decimals=1)  # the second does the work of both
    (tensor([[False,  True,  True]]), tensor([[0.0000, 2.0000, 2.9000]]))
    """
    definite, dead = damped(weight, hessian, damping)
    _check_amount(weight, sparsity, n, m)
    if block_size is not None:
        check_count("block_size", block_size, least=1)
        if m is not None:
            raise ValueError("n:m chooses for m inputs at a time: leave block_size out")
    width = m if m is not None else block_size or weight.shape[1]
    upper, mask = inverse_factor(definite), torch.ones_like(weight, dtype=torch.bool)

    def start_block(block: Tensor, start: int) -> Change:
        costs = (block / upper.diagonal()[start : start + width]).square()
        kept = mask[:, start : start + width] = _kept(costs, sparsity, n, m, start=start)
        return lambda column, number: torch.where(kept[:, number], column, 0)

    repaired = one_after_the_other(weight.masked_fill(dead, 0), upper, width, start_block)
    return mask, repaired


def _check_amount(weight: Tensor, sparsity: float | None, n: int | None, m: int | None) -> None:
    """Raise unless either a sparsity or n and m are given, and leave every output something."""
    if (sparsity is None) == (n is None) or (n is None) != (m is None):
        raise ValueError(f"give either sparsity, or n and m: got sparsity={sparsity}, n={n}, m={m}")
    if sparsity is None:
        assert n is not None
        assert m is not None
        check_count("n", n, least=1)
        check_count("m", m, least=1)
        grouped_inputs(weight, n=n, m=m)
        return
    check_sparsity(sparsity)
    inputs = weight.shape[1]
    if round(sparsity * inputs) == inputs:
        raise ValueError(f"a sparsity of {sparsity} leaves none of {inputs} inputs to any output: ask for less")


def _kept(scores: Tensor, sparsity: float | None, n: int | None, m: int | None, *, start: int) -> Tensor:
    """What to keep of the inputs from ``start`` on, within each output."""
    check_weight("the score of a weight", scores)
    if n is not None and m is not None:
        return nm_mask(scores, n=n, m=m)
    assert sparsity is not None
    # rounded so that blocks together lose what the whole would
    pruned = round(sparsity * (start + scores.shape[1])) - round(sparsity * start)
    order = scores.argsort(dim=1, stable=True)
    return torch.ones_like(scores, dtype=torch.bool).scatter(1, order[:, :pruned], False)
