"""Losses on what layers compute: features (N, ...) or maps (N, C, H, W), the student's first, the teacher's detached.

Each returns the mean over the N examples, a 0-d tensor, in float32 for half precision. Raises ``ValueError`` for
shapes that do not pair up, an empty batch, NaN or infinity, ``TypeError`` for anything that is not floating point.
``validate=False`` looks at types and shapes only, never at a number.

How large such a loss is says nothing about its weight: compare the gradients on one batch, then tune.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._base.checks import widen
from ._pairs import check_maps, check_pair, finished, paired, product, scaled, unit

__all__ = ["attention_transfer_loss", "hint_loss", "jacobian_loss", "mmd_loss"]


def hint_loss(student_features: Tensor, teacher_features: Tensor, *, validate: bool = True) -> Tensor:
    """Mean squared difference of the features: mean over examples and entries of (f_s - f_t)².

    Both are (N, ...) of one shape: a layer of another width needs a regressor, trained with the student, that maps the
    student's features to the teacher's (`kdcourse.features.FeatureTerm` takes one).

    Source: Romero et al. 2015 (FitNets), arXiv:1412.6550, equation 3. Differs from the paper: it has half the sum over
    the entries, here it is their mean, so that the weight does not depend on the layer's size.

    >>> student, teacher = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    >>> hint_loss(student, teacher)  # 2² in one entry of four
    tensor(1.)
    """
    student, teacher = paired(student_features, teacher_features)
    if student.shape != teacher.shape:
        raise ValueError(
            f"student_features has shape {tuple(student.shape)} and teacher_features {tuple(teacher.shape)}: a hint "
            "needs equal ones. Map the student's with a regressor that is trained with it: a linear layer, or a "
            "1 × 1 convolution for maps; resize maps with torch.nn.functional.adaptive_avg_pool2d"
        )
    return finished(F.mse_loss(student, teacher), student, teacher, validate=validate)


def attention_transfer_loss(student_maps: Tensor, teacher_maps: Tensor, *, validate: bool = True) -> Tensor:
    """Squared difference of where the two layers are active: mean over examples and positions of (a_s - a_t)².

    a = q / ‖q‖₂ over the H·W positions, with q = Σ_c F_c²: no channel is named, so the two channel counts may differ.
    The loss lies in [0, 2 / HW], so its weight depends on the size of the map. A map of zeros is active nowhere.

    Source: Zagoruyko, Komodakis 2017, arXiv:1612.03928, section 3.1; as in the authors' code, whose mean of squares
    is not the unsquared norm of the paper's equation 2.

    >>> student, teacher = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 3.0]], [[0.0, 4.0]]]])
    >>> attention_transfer_loss(student, teacher)  # (1, 0) and (0, 1)
    tensor(1.)
    """
    student, teacher = paired(student_maps, teacher_maps)
    check_maps(student, teacher)
    where_student, where_teacher = (_attention(maps) for maps in (student, teacher))
    return finished(F.mse_loss(where_student, where_teacher), student, teacher, validate=validate)


def _attention(maps: Tensor) -> Tensor:
    """How active each position is, of length 1 over all of them: (N, C, H, W) to (N, HW)."""
    return unit(scaled(maps.square().sum(dim=1).flatten(1), dim=1), dim=1)


def mmd_loss(student_maps: Tensor, teacher_maps: Tensor, *, validate: bool = True) -> Tensor:
    """Squared maximum mean discrepancy of the channels: do the same spatial patterns occur, in whichever channel?

    A channel is a vector of its H·W positions, scaled to length 1; with the kernel k(x, y) = (xᵀy)² an example costs
    mean k(t, t') + mean k(s, s') - 2 mean k(s, t), each over all pairs of channels. That is the squared distance of
    the two mean outer products, ‖Σ_c t_c t_cᵀ / C_t - Σ_c s_c s_cᵀ / C_s‖². Channel counts may differ.

    Source: Huang, Wang 2017 (neuron selectivity transfer), arXiv:1707.01219, section 4, with the
    polynomial kernel, d = 2 and c = 0.

    >>> student, teacher = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[2.0, 0.0]], [[0.0, 5.0]]]])
    >>> mmd_loss(student, teacher)  # 1/2 + 1 - 2 · 1/2
    tensor(0.5000)
    """
    student, teacher = paired(student_maps, teacher_maps)
    check_maps(student, teacher)
    of_student, of_teacher = (unit(maps.flatten(2), dim=2) for maps in (student, teacher))  # (N, C, HW)
    within = _mean_kernel(of_teacher, of_teacher) + _mean_kernel(of_student, of_student)
    return finished(within - 2 * _mean_kernel(of_student, of_teacher), student, teacher, validate=validate)


def _mean_kernel(first: Tensor, second: Tensor) -> Tensor:
    """Mean of (xᵀy)² over all examples and pairs of channels, from (N, C, D) and (N, C', D)."""
    return product(first, second.transpose(1, 2)).square().mean()


def jacobian_loss(student_outputs: Tensor, teacher_outputs: Tensor, inputs: Tensor, *, validate: bool = True) -> Tensor:
    """How differently the two networks react to a small change of the input: mean over examples of ‖J_s - J_t‖².

    J (outputs × inputs) is the Jacobian of an example's outputs (K,) for its input; ‖·‖² sums all squares. Both
    outputs (N, K) must have been computed from these ``inputs``, which take a gradient, and not under
    ``torch.no_grad()``; the teacher's parameters get none. The Jacobian of one image must not depend on the others:
    batch norm in train mode is refused. K backward passes at once, and one more through them. The biases of a ReLU
    network are not trained by it: they do not appear in J.

    Matching outputs on inputs with noise of variance σ² added matches J with the weight σ², to first order, and
    exactly for a linear network. Source: Srinivas, Fleuret 2018, arXiv:1803.00443, section 3; Czarnecki et al. 2017,
    arXiv:1706.04859.

    >>> inputs = torch.tensor([[1.0, 2.0]], requires_grad=True)
    >>> student, teacher = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    >>> with torch.no_grad():
    ...     found = student.weight.copy_(torch.tensor([[1.0, 5.0]])), teacher.weight.copy_(torch.tensor([[1.0, 2.0]]))
    >>> jacobian_loss(student(inputs), teacher(inputs), inputs).item()  # 0² + 3²
    9.0
    """
    check_pair(student_outputs, teacher_outputs, sides=("student_outputs", "teacher_outputs"))
    if student_outputs.ndim != 2 or student_outputs.shape != teacher_outputs.shape:
        raise ValueError(
            f"outputs must be (N, K) and of equal shape, got {tuple(student_outputs.shape)} and "
            f"{tuple(teacher_outputs.shape)}"
        )
    if len(inputs) != len(student_outputs):
        raise ValueError(f"{len(inputs)} inputs for {len(student_outputs)} rows of outputs: they must pair up")
    student = _jacobian("student_outputs", student_outputs, inputs, keep=True, validate=validate)  # (K, N, ...)
    teacher = _jacobian("teacher_outputs", teacher_outputs, inputs, keep=False, validate=validate)
    loss = (widen(student) - widen(teacher)).square().sum() / len(inputs)
    if validate and not math.isfinite(loss.item()):
        raise ValueError("a Jacobian contains NaN or infinity: look for a root or a logarithm at 0 in a network")
    return loss


def _jacobian(name: str, outputs: Tensor, inputs: Tensor, *, keep: bool, validate: bool) -> Tensor:
    """The derivative of each output for the inputs, (K, N, ...); with a graph of its own if it is to be ``kept``."""
    examples, classes = outputs.shape
    each = torch.eye(classes, dtype=outputs.dtype, device=outputs.device)
    each = each.unsqueeze(1).expand(-1, examples, -1)  # (K, N, K)
    if validate:  # and once the first example alone, which no other may reach
        alone = torch.zeros_like(each[:1])
        alone[0, 0] = 1.0
        each = torch.cat([each, alone])
    try:
        [found] = torch.autograd.grad(
            outputs, inputs, each, is_grads_batched=True, create_graph=keep, retain_graph=True
        )
    except RuntimeError as error:
        if "require grad" not in str(error) and "appears to not have been used" not in str(error):
            raise
        raise ValueError(
            f"{name} was not computed from inputs that take a gradient: call inputs.requires_grad_() first, then both "
            "networks, and not under torch.no_grad()"
        ) from None
    if validate and (found[-1, 1:].abs() > 0).any():
        raise ValueError(
            f"a row of {name} depends on the inputs of other examples, so it has no Jacobian of its own: put batch "
            "norm in eval mode, as kdcourse.training.frozen does"
        )
    return (found if keep else found.detach())[:classes]
