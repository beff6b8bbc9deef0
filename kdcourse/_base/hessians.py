"""Weights changed one input after the other, the rest repaired: what GPTQ and SparseGPT have in common."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .checks import check_finite, check_matrix, check_not_negative, check_weight

Change = Callable[[Tensor, int], Tensor]
"""From the weights (outputs,) of an input, and its number within the block, to what they become."""
INDEFINITE = (
    "the hessian is not positive semidefinite, so no inputs have it: take input_hessian() of the layer's inputs"
)


def input_hessian(inputs: Tensor) -> Tensor:
    """XᵀX (I, I), float64, of a layer's inputs (..., I): half the Hessian of the squared error of its outputs.

    ‖X·Wᵀ - X·Ŵᵀ‖² = Σ over outputs of (w - ŵ)·XᵀX·(w - ŵ)ᵀ. Add it up over batches. `kdcourse.features.outputs_of`
    records what the layer before returns. Raises ``ValueError`` for NaN or infinity.

    >>> input_hessian(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
    tensor([[10.,  2.],
            [ 2.,  4.]], dtype=torch.float64)
    """
    check_weight("inputs", inputs)
    if inputs.ndim < 2:
        raise ValueError(f"inputs must be (..., inputs of the layer), got shape {tuple(inputs.shape)}")
    rows = inputs.detach().double().flatten(0, -2)
    return rows.T @ rows


def damped(weight: Tensor, hessian: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """The Hessian, (1 + damping) times its diagonal, and which inputs are dead, with a diagonal of 1; or a refusal."""
    check_finite("weight", weight)
    check_matrix("weight", weight)
    check_finite("hessian", hessian)
    check_not_negative("damping", damping)
    inputs, precision = weight.shape[1], torch.finfo(hessian.dtype).eps
    if hessian.shape != (inputs, inputs):
        raise ValueError(f"the hessian must be (inputs, inputs) = ({inputs}, {inputs}), got {tuple(hessian.shape)}")
    wide = hessian.detach().to(weight.device, torch.float64)
    if (wide - wide.T).abs().max() > math.sqrt(precision) * wide.abs().max():
        raise ValueError("the hessian is not symmetric: take input_hessian() of the layer's inputs")
    wide = (wide + wide.T) / 2
    diagonal = wide.diagonal()
    dead = diagonal == 0
    if (diagonal < 0).any() or wide[dead].any():
        raise ValueError(INDEFINITE)
    if dead.all():
        raise ValueError("the hessian is zero: the layer's inputs were zero throughout")
    wide = wide + torch.diag(dead.double())
    _check_definite(wide, damping, rounding=10 * inputs * precision)
    return wide + torch.diag(damping * diagonal), dead


def _check_definite(hessian: Tensor, damping: float, *, rounding: float) -> None:
    scale = hessian.diagonal().sqrt()  # the inputs' units must not decide
    lowest = torch.linalg.eigvalsh(hessian / scale / scale.unsqueeze(1))[0].item()
    if lowest < -rounding:
        raise ValueError(INDEFINITE)
    if lowest + damping <= rounding:
        raise ValueError(
            "the hessian is singular: some inputs are sums of others, or there were fewer rows than inputs. Take more "
            "rows, or damping=0.01"
        )


def inverse_factor(hessian: Tensor) -> Tensor:
    """U, upper triangular, with UᵀU = H⁻¹: row j holds what the inputs from j on need when those before are fixed.

    (U_jj)² is [(H_jj…)⁻¹]_jj of the part of H from j on; the inverse of all of H would repair inputs that are fixed.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return upper


def one_after_the_other(
    weight: Tensor, upper: Tensor, width: int, start_block: Callable[[Tensor, int], Change]
) -> Tensor:
    """Change the inputs in their order, each time repairing those that follow: best for the outputs at every step.

    ``start_block`` gets the repaired weights (outputs, width) of the next inputs, float64, and the first one's number.
    """
    inputs = weight.shape[1]
    left = weight.detach().double().T.contiguous()  # an input's weights side by side, which is several times faster
    result = torch.empty_like(left, dtype=weight.dtype)
    for start in range(0, inputs, width):
        change = start_block(left[start : start + width].T, start)
        for column in range(start, min(start + width, inputs)):
            result[column] = change(left[column].to(weight.dtype), column - start)
            error = (left[column] - result[column].double()) / upper[column, column]
            left[column:].addr_(upper[column, column:], error, alpha=-1)
    return result.T.contiguous()
