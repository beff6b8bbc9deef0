"""Losses on how the examples of a batch relate: features (N, ...), flattened to (N, D); widths may differ.

The student comes first, the teacher second and detached. A relation is compared, not a feature, so no regressor is
needed. Each returns a 0-d mean, in float32 for half precision; equal examples have finite gradients. What a batch
cannot know, a loss on relations does not see: keep the batch size fixed where values are compared.

Raises ``ValueError`` for batches of different or too small size, an empty batch, NaN or infinity, ``TypeError`` for
anything that is not floating point. ``validate=False`` looks at types and shapes only.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .._base.checks import check_positive
from ._pairs import finished, paired, product, scaled, unit

__all__ = ["contrastive_loss", "relation_angle_loss", "relation_distance_loss", "similarity_loss"]


def relation_distance_loss(student_features: Tensor, teacher_features: Tensor, *, validate: bool = True) -> Tensor:
    """Huber loss between the pairwise distances, each side's divided by their mean; mean over the N (N - 1) pairs.

    Unchanged by shifting, rotating or scaling the features of either side. A side of equal examples has no distances:
    all count as 0. Two examples have one distance, which is its own mean: it takes three.

    Source: Park, Kim, Lu, Cho 2019 (RKD), arXiv:1904.05068, section 3.2.1. Differs from the authors' code: the mean is
    over pairs of two examples, theirs counts the N zeros on the diagonal as well.

    >>> student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [3.0], [6.0]])
    >>> relation_distance_loss(student, teacher)
    tensor(0.)
    """
    student, teacher = paired(student_features, teacher_features, least=3)
    one, other = (_relative_distances(features.flatten(1)) for features in (student, teacher))
    return finished(F.smooth_l1_loss(one, other), student, teacher, validate=validate)


def _relative_distances(features: Tensor) -> Tensor:
    """Distances of all pairs of different examples over their mean, (N (N - 1) / 2,): each pair once is enough."""
    distances = F.pdist(features)
    return distances / distances.mean().clamp_min(torch.finfo(features.dtype).tiny)


def relation_angle_loss(student_features: Tensor, teacher_features: Tensor, *, validate: bool = True) -> Tensor:
    """Huber loss between the cosines of the angles at j in every triangle i, j, k; mean over triples of different ones.

    cos ∠ijk = (x_i - x_j)ᵀ(x_k - x_j) / (‖x_i - x_j‖ ‖x_k - x_j‖), and 0 where two of them are equal. Unchanged by
    shifting, rotating or scaling the features of either side. Takes N² (N + D) numbers of memory and N³ D
    multiplications: keep batches below a few hundred.

    Source: Park, Kim, Lu, Cho 2019 (RKD), arXiv:1904.05068, section 3.2.2. Differs from the authors' code: theirs also
    counts the triples in which two are the same example, 1 - (N - 1)(N - 2) / N² of all.

    >>> student = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])  # cosines 0, 0.6, 0.8
    >>> teacher = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]])  # cosines 0, 0.8, 0.6
    >>> round(relation_angle_loss(student, teacher).item(), 4)  # 2/3 of 0.2² / 2
    0.0133
    """
    student, teacher = paired(student_features, teacher_features, least=3)
    both = [features.flatten(1) for features in (student, teacher)]
    n, total = len(student), torch.zeros((), dtype=student.dtype, device=student.device)
    at_once = 2**18 if student.device.type == "cpu" else 2**26  # numbers: what stays in a processor's cache
    size = max(1, at_once // both[0].numel())
    for centres in zip(*(features.split(size) for features in both), strict=True):
        student_cosines, teacher_cosines = map(_cosines, both, centres)
        total = total + F.smooth_l1_loss(student_cosines, teacher_cosines, reduction="sum")
    return finished(total / (n * (n - 1) * (n - 2)), student, teacher, validate=validate)


def _cosines(features: Tensor, centres: Tensor) -> Tensor:
    """[j, i, k] is the cosine of the angle at centre j between i and k; 0 where two of them are the same example."""
    directions = unit(features - centres.unsqueeze(1), dim=-1)  # [j, i] from j to i, (centres, N, D)
    cosines = product(directions, directions.transpose(1, 2))
    return cosines.masked_fill(torch.eye(len(features), dtype=torch.bool, device=features.device), 0.0)


def similarity_loss(student_features: Tensor, teacher_features: Tensor, *, validate: bool = True) -> Tensor:
    """Squared difference of the similarity matrices, ‖G_s - G_t‖² / N², with G = A Aᵀ and each row scaled to length 1.

    A (N, D) holds the flattened features. Unchanged by rotating the features or scaling all of them at once; not by a
    shift. A row of zeros is similar to nothing.

    Source: Tung, Mori 2019, arXiv:1907.09682, equations 2 to 4.

    >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0], [1.0]])
    >>> round(similarity_loss(student, teacher).item(), 4)  # rows (1, 0) and (0, 1) against (√½, √½): 1 - √½
    0.2929
    """
    student, teacher = paired(student_features, teacher_features, least=2)
    one, other = (_similarities(features.flatten(1)) for features in (student, teacher))
    return finished(F.mse_loss(one, other), student, teacher, validate=validate)


def _similarities(features: Tensor) -> Tensor:
    """Products of all pairs of examples, (N, N), each row scaled to length 1."""
    return unit(scaled(product(features, features.T), dim=1), dim=1)


def contrastive_loss(
    student_features: Tensor, teacher_features: Tensor, *, temperature: float = 0.1, validate: bool = True
) -> Tensor:
    """Cross-entropy of finding each example's teacher features among those of the whole batch, in nats.

    -log softmax_j(cos(s_i, t_j) / temperature) at j = i, mean over i. Widths must be equal: map the student's with a
    regressor. Random features cost about ln N, perfect ones less, but not 0.

    Source: the loss of van den Oord, Li, Vinyals 2018, arXiv:1807.03748, equation 4, between two networks. Differs
    from Tian, Krishnan, Isola 2020 (CRD), arXiv:1910.10699, who draw thousands of other examples from a memory.

    >>> round(contrastive_loss(torch.eye(2), torch.eye(2), temperature=1.0).item(), 4)  # ln(1 + 1/e)
    0.3133
    """
    check_positive("temperature", temperature)
    student, teacher = paired(student_features, teacher_features, least=2)
    of_student, of_teacher = (unit(features.flatten(1), dim=1) for features in (student, teacher))
    if of_student.shape != of_teacher.shape:
        raise ValueError(
            f"student_features has {of_student.shape[1]} entries per example and teacher_features "
            f"{of_teacher.shape[1]}: map the student's with a regressor that is trained with it"
        )
    similarities = product(of_student, of_teacher.T) / temperature  # (N, N), the right pairs on the diagonal
    loss = F.cross_entropy(similarities, torch.arange(len(student), device=student.device))
    return finished(loss, student, teacher, validate=validate)
