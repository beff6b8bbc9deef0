"""Scales of weights that cut the largest ones off, so that all others are rounded more finely."""

import torch
from torch import Tensor

from .._base.checks import check_count, check_finite, check_matrix
from .affine import QuantParams, choose_qparams, fake_quantize_formula, qparams_from_range


@torch.no_grad()
def clipped_qparams(
    weight: Tensor,
    *,
    bits: int,
    symmetric: bool = False,
    group_size: int | None = None,
    hessian: Tensor | None = None,
    steps: int = 20,
) -> QuantParams:
    """The scales, per output or in groups, that round a weight (O, I) with the smallest squared error.

    Each range is shrunk to c · [min, max], c = 1, 1 - 1/(2·steps) … ½, and the c with the smallest Σ_j h_j (w_j - ŵ_j)²
    is kept, of equal ones the largest. h is the diagonal of ``hessian`` (`input_hessian`), the error of the outputs
    but for what inputs have in common, or 1 without it. c = 1 is `choose_qparams`: in this sum it cannot get worse.

    Raises ``ValueError`` for a group size that does not divide the inputs, and a Hessian of another size or with a
    negative diagonal.

    Source: Lin et al. 2023, arXiv:2306.00978, whose code shrinks ranges to the error of the outputs; Banner et al.
    2018, arXiv:1810.05723, for clipping.

    >>> weight = torch.tensor([[0.4, -0.4, 0.4, 0.4, -0.4, 0.4, 0.4, 1.0]])
    >>> params = clipped_qparams(weight, bits=2, symmetric=True)
    >>> round(params.scale.item(), 4), choose_qparams(weight, bits=2, symmetric=True, axis=0).scale.item()
    (0.5, 1.0)
    """
    check_finite("weight", weight)
    check_matrix("weight", weight)
    check_count("steps", steps, least=1)
    whole = choose_qparams(weight, bits=bits, symmetric=symmetric, axis=0, group_size=group_size)  # checks the groups
    matter = _importance(weight, hessian)
    grouped = weight.detach().unflatten(1, (-1, group_size or weight.shape[1]))
    low, high = torch.aminmax(grouped, dim=2)
    if group_size is None:
        low, high = low.squeeze(1), high.squeeze(1)
    best, least = whole, torch.full_like(low, torch.inf, dtype=torch.float64)
    for step in range(steps + 1):
        kept = 1 - step / (2 * steps)
        tried = qparams_from_range(
            low * kept, high * kept, bits=bits, symmetric=symmetric, axis=0, group_size=group_size
        )
        lost = (fake_quantize_formula(weight.detach(), tried) - weight.detach()).double().square() * matter
        error = lost.unflatten(1, (-1, grouped.shape[2])).sum(dim=2).reshape(least.shape)
        better = error < least
        least = torch.where(better, error, least)
        scale, zero_point = (torch.where(better, new, old) for new, old in zip(tried[:2], best[:2], strict=True))
        best = best._replace(scale=scale, zero_point=zero_point)
    return best


def _importance(weight: Tensor, hessian: Tensor | None) -> Tensor:
    inputs = weight.shape[1]
    if hessian is None:
        return torch.ones(inputs, dtype=torch.float64, device=weight.device)
    check_finite("hessian", hessian)
    if hessian.shape != (inputs, inputs):
        raise ValueError(f"the hessian must be (inputs, inputs) = ({inputs}, {inputs}), got {tuple(hessian.shape)}")
    diagonal = hessian.detach().diagonal().to(weight.device, torch.float64)
    if (diagonal < 0).any():
        raise ValueError("the hessian has a negative diagonal: take input_hessian() of the layer's inputs")
    return diagonal
