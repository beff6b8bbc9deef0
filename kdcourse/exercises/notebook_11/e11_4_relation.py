"""11.4 what the distances between examples say."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw
from .common import drawn_features, table
from .wrong_11_4 import WRONG


def relation_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    student, teacher = F.pdist(student_features), F.pdist(teacher_features.detach())
    return (student / student.mean() - teacher / teacher.mean()).square().mean()


def relation_by_tables(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    count = len(student_features)
    different = ~torch.eye(count, dtype=torch.bool)
    relative = []
    for features in (student_features, teacher_features.detach()):
        distances = (features[:, None] - features[None, :]).norm(dim=2)
        relative.append(distances / distances[different].mean())
    return F.mse_loss(relative[0][different], relative[1][different])


def relation_pair_by_pair(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    sides = []
    for features in (student_features, teacher_features.detach()):
        squares = torch.stack([((a - b) ** 2).sum() for k, a in enumerate(features) for b in features[:k]])
        distances = torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).sqrt(), 0.0)
        sides.append(len(distances) * distances / distances.sum())
    return ((sides[0] - sides[1]) ** 2).mean()


def relation_cases() -> list[Case]:
    student, teacher = table([[0.0], [1.0], [5.0]]), table([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    twins = draw(5, 3, seed=3)
    twins[3] = twins[1]
    others = draw(4, 2, seed=5)
    others[0] = others[2]
    return [
        case(student, teacher),
        case(draw(4, 3, seed=1) + 2, draw(4, 3, seed=2)),  # equal widths
        case(twins, draw(5, 4, seed=4)),  # two equal rows: distance 0, and no NaN in the gradient
        case(draw(4, 3, seed=6), others),
        case(draw(5, 2, seed=9, spread=0.1), draw(5, 3, seed=10, spread=0.2)),
        case(draw(6, 5, seed=7).float(), draw(6, 2, seed=8).float()),
    ]


EXERCISE = Exercise(
    id="11.4",
    title="what the distances between examples say",
    question=(
        "Write `my_relation_loss(student_features, teacher_features)` for $(N, D_s)$ and $(N, D_t)$. For each side "
        "take the Euclidean distances of all pairs of two different examples, and divide them by their mean over "
        "these pairs. Return the mean over the pairs of the squared difference between the student's and the "
        "teacher's (a plain square, not a Huber loss). Two examples with equal rows are a pair like any other, of "
        "distance 0: through that distance no gradient flows, and none is NaN. Only the student gets a gradient; it "
        "flows through the mean as well. In neither side are all rows equal."
    ),
    skeleton=(
        "def my_relation_loss(student_features, teacher_features):\n"
        '    """Mean squared difference of the pairwise distances, each side\'s relative to their mean."""\n    ...'
    ),
    reference=relation_loss,
    alternatives=(relation_by_tables, relation_pair_by_pair),
    cases=relation_cases,
    drawn=lambda g: case(*drawn_features(g, least=3)),
    hints=(
        "An example's distance to itself is always 0. Should it count in a mean over pairs?",
        "`F.pdist(features)` returns the distance of each pair once, without the diagonal, and its gradient at "
        "equal rows is 0. A root written by hand has an infinite slope there.",
        "`d = F.pdist(features)`, then `d / d.mean()` for both, the teacher's features detached; the mean of the "
        "squared difference.",
    ),
    misconceptions=WRONG,
    shows="relations compare layers of any width without a regressor, if neither the diagonal nor the scale counts.",
    derivation=(
        "d / mean(d) does not change if the features are shifted, rotated or scaled, so ⟨F, ∂L/∂F⟩ = 0 and the rows "
        "of ∂L/∂F sum to 0: two tests without a reference. Source: Park, Kim, Lu, Cho 2019 (RKD), arXiv:1904.05068, "
        "section 3.2.1, with a square in place of the Huber loss."
    ),
    gradients=(0, 1),
    relative=1e-4,
    forbidden=("kdcourse.losses.relations.relation_distance_loss",),
)
