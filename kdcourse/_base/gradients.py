"""Gradients with respect to what a network was given, or a sentence that says that there are none."""

import torch
from torch import Tensor, nn

NONE = (
    "no gradient reaches the images: the model rounds without a straight-through gradient, computes in integers, or "
    "keeps no graph. Take the network that it was made from (fake_quantize_model() passes gradients), or "
    "kdcourse.robustness.straight_through()"
)


def input_gradient(value: Tensor, inputs: Tensor) -> Tensor:
    """d ``value`` / d ``inputs``. Raises ``ValueError`` where there is none, or one that is NaN or infinite."""
    found = torch.autograd.grad(value, inputs, allow_unused=True)[0] if value.requires_grad else None
    if found is None:
        raise ValueError(NONE)
    if not torch.isfinite(found).all():
        raise ValueError(
            "the gradient at the images is NaN or infinite: look for a diverged model, or a root or logarithm of 0"
        )
    return found


def check_network(model: nn.Module) -> None:
    """Raise unless ``model`` is a module, which an integer network, a file's session or a function is not."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"the model must be an nn.Module, got {type(model).__name__}: take the network that it was made from"
        )
