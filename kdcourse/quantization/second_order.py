"""Rounding that repairs: each input's weights are rounded, and those that are not yet make up for it (GPTQ)."""

import torch
from torch import Tensor

from .._base.checks import check_finite
from .._base.hessians import Change, damped, input_hessian, inverse_factor, one_after_the_other
from .affine import QuantParams, choose_qparams, fake_quantize_formula, group_width

__all__ = ["gptq", "input_hessian"]


@torch.no_grad()
def gptq(
    weight: Tensor,
    hessian: Tensor,
    *,
    bits: int,
    group_size: int | None = None,
    symmetric: bool = False,
    damping: float = 0.01,
    params: QuantParams | None = None,
) -> Tensor:
    """The weights (O, I) that codes of ``bits`` stand for, chosen input by input for the smallest error of the outputs.

    Input j is rounded, then all later ones move by -(w_j - ŵ_j) / U_jj · U_jk, U the upper Cholesky factor of H⁻¹: the
    exact least-squares repair, (w - ŵ)·H·(w - ŵ)ᵀ being smallest with what is rounded fixed. With a diagonal H it is
    `fake_quantize`. Scales are those of `choose_qparams` per output; with ``group_size`` they are chosen from the
    repaired weights when a group's turn comes. With ``params``, per output or in groups of these bits, the scales are
    fixed beforehand, and `quantize` with them gives the codes of the result.

    ``hessian``: `input_hessian` of the layer's inputs. ``damping`` is added to its diagonal as a fraction of each
    entry (in the paper, of their mean, which one large input decides). A dead input, zero throughout, has a zero row:
    its weights become 0, as in the authors' code. Raises ``ValueError`` for a group size that does not divide, for
    ``params`` that do not fit it, and for a Hessian that is not symmetric, not positive semidefinite, zero, or still
    singular after damping: it never falls back to rounding.

    Source: Frantar et al. 2022, arXiv:2210.17323, sections 3.2 to 3.3 and 4 (groups).

    >>> weight = torch.tensor([[0.6, 0.6, 3.0]])
    >>> hessian = input_hessian(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.1, 0.0, 0.0]]))
    >>> gptq(weight, hessian, bits=2)  # rounded down next to what is rounded up
    tensor([[1., 0., 3.]])
    """
    definite, dead = damped(weight, hessian, damping)
    width = group_width(weight.shape[1], group_size)
    if params is not None:
        _check_fixed(params, weight, bits, group_size)

    def start_block(block: Tensor, start: int) -> Change:
        chosen = _of_block(params, start // width) if params is not None else None
        if chosen is None:
            chosen = choose_qparams(block.to(weight.dtype), bits=bits, symmetric=symmetric, axis=0)
        return lambda column, _: fake_quantize_formula(column.unsqueeze(1), chosen).squeeze(1)

    return one_after_the_other(weight.masked_fill(dead, 0), inverse_factor(definite), width, start_block)


def _of_block(params: QuantParams, number: int) -> QuantParams:
    """The parameters of one group of inputs, a scale for each output."""
    if params.group_size is None:
        return params
    scale, zero_point = params.scale[:, number], params.zero_point[:, number]
    return params._replace(scale=scale, zero_point=zero_point, group_size=None)


def _check_fixed(params: QuantParams, weight: Tensor, bits: int, group_size: int | None) -> None:
    wanted = (len(weight),) if group_size is None else (len(weight), weight.shape[1] // group_size)
    found = params.bits, params.axis, params.group_size, tuple(params.scale.shape)
    if found != (bits, 0, group_size, wanted):
        raise ValueError(
            f"params have bits, axis, group_size and shape {found}, this weight needs {(bits, 0, group_size, wanted)}"
        )
    check_finite("params.scale", params.scale)
