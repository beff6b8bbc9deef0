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
from ._pairs import paired, unit

__all__ = ["contrastive_loss", "relation_angle_loss", "relation_distance_loss", "similarity_loss"]


def relation_distance_loss(student_features: Tensor, teacher_features: Tensor, *, validate: bool = True) -> Tensor:
    """Huber loss between the pairwise distances, each side's divided by their mean; mean over the N (N - 1) pairs.

    Unchanged by shifting, rotating or scaling the features of either side. A side of equal examples has no distances:
    all count as 0.

    Source: Park, Kim, Lu, Cho 2019 (RKD), arXiv:1904.05068, section 3.2.1. Differs from the authors' code: the mean is
    over pairs of two examples, theirs counts the N zeros on the diagonal as well.

    >>> student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [3.0], [6.0]])
    >>> relation_distance_loss(student, teacher)
    tensor(0.)
    """
    student, teacher = paired(student_features, teacher_features, validate=validate, least=2)
    student, teacher = (_relative_distances(features.flatten(1)) for features in (student, teacher))
    return F.smooth_l1_loss(student, teacher)


def _relative_distances(features: Tensor) -> Tensor:
    """Distances of all pairs of different examples over their mean, (N (N - 1) / 2,): each pair once is enough."""
    distances = F.pdist(features)
    return distances / distances.mean().clamp_min(torch.finfo(features.dtype).tiny)


def relation_angle_loss(student_features: Tensor, teacher_features: Tensor, *, validate: bool = True) -> Tensor:
    """Huber loss between the cosines of the angles at j in every triangle i, j, k; mean over triples of different ones.

    cos ∠ijk = (x_i - x_j)ᵀ(x_k - x_j) / (‖x_i - x_j‖ ‖x_k - x_j‖), and 0 where two of them are equal. Unchanged by
    shifting, rotating or scaling the features of either side. Takes N³ numbers of memory.

    Source: Park, Kim, Lu, Cho 2019 (RKD), arXiv:1904.05068, section 3.2.2. Differs from the authors' code: theirs also
    counts the triples in which two are the same example, 1 - (N - 1)(N - 2) / N² of all.

    >>> student = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])  # cosines 0, 0.6, 0.8
    >>> teacher = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]])  # cosines 0, 0.8, 0.6
    >>> round(relation_angle_loss(student, teacher).item(), 4)  # 2/3 of 0.2² / 2
    0.0133
    """
    student, teacher = paired(student_features, teacher_features, validate=validate, least=3)
    different = torch.ones(len(student), dtype=torch.bool, device=student.device).diag().logical_not()  # (N, N)
    # cosines[j, i, k]; a triple counts if no two of its members are the same
    counts = different.unsqueeze(2) & different.unsqueeze(1) & different.unsqueeze(0)
    student, teacher = (_cosines(features.flatten(1)) for features in (student, teacher))
    return F.smooth_l1_loss(student[counts], teacher[counts])


def _cosines(features: Tensor) -> Tensor:
    """[j, i, k] is the cosine of the angle at j between i and k, (N, N, N)."""
    directions = unit(features.unsqueeze(0) - features.unsqueeze(1), dim=-1)  # [j, i] from j to i, (N, N, D)
    return directions @ directions.transpose(1, 2)


def similarity_loss(student_features: Tensor, teacher_features: Tensor, *, validate: bool = True) -> Tensor:
    """Squared difference of the similarity matrices, ‖G_s - G_t‖² / N², with G = A Aᵀ and each row scaled to length 1.

    A (N, D) holds the flattened features. Unchanged by rotating the features or scaling all of them at once; not by a
    shift. A row of zeros is similar to nothing.

    Source: Tung, Mori 2019, arXiv:1907.09682, equations 2 to 4.

    >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0], [1.0]])
    >>> round(similarity_loss(student, teacher).item(), 4)  # rows (1, 0) and (0, 1) against (√½, √½): 1 - √½
    0.2929
    """
    student, teacher = paired(student_features, teacher_features, validate=validate)
    student, teacher = (features.flatten(1) for features in (student, teacher))
    student, teacher = (unit(features @ features.T, dim=1) for features in (student, teacher))  # (N, N)
    return F.mse_loss(student, teacher)


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
    student, teacher = paired(student_features, teacher_features, validate=validate, least=2)
    student, teacher = (unit(features.flatten(1), dim=1) for features in (student, teacher))
    if student.shape != teacher.shape:
        raise ValueError(
            f"student_features has {student.shape[1]} entries per example and teacher_features {teacher.shape[1]}: "
            "map the student's with a regressor that is trained with it"
        )
    similarities = student @ teacher.T / temperature  # (N, N), the right pairs on the diagonal
    return F.cross_entropy(similarities, torch.arange(len(student), device=student.device))
