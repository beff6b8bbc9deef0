"""20.8 whether a step leads towards the teacher."""

import math

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Tensors = list[Tensor]


def alignment(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    way = torch.cat([(t - s).flatten() for s, t in zip(start, teacher, strict=True)])
    step = torch.cat([-g.flatten() for g in gradients])
    length = (way.norm() * step.norm()).item()
    return (way @ step).item() / length if length > 0 else 0.0


def alignment_by_sums(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    product = of_way = of_step = 0.0
    for s, t, g in zip(start, teacher, gradients, strict=True):
        product -= ((t - s) * g).sum().item()
        of_way += (t - s).square().sum().item()
        of_step += g.square().sum().item()
    return product / math.sqrt(of_way * of_step) if of_way * of_step else 0.0


def alignment_by_units(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    def unit(parts: Tensors) -> Tensor:
        vector = torch.cat([part.reshape(-1) for part in parts])
        return vector / vector.norm() if vector.any() else vector

    return (unit(teacher_minus(start, teacher)) * unit([-g for g in gradients])).sum().item()


def teacher_minus(start: Tensors, teacher: Tensors) -> Tensors:
    return [t - s for s, t in zip(start, teacher, strict=True)]


def _cosine(one: Tensor, other: Tensor) -> float:
    length = (one.norm() * other.norm()).item()
    return (one.flatten() @ other.flatten()).item() / length if length > 0 else 0.0


def along_the_gradient(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    return -alignment(start, teacher, gradients)


def mean_over_tensors(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    each = [_cosine(t - s, -g) for s, t, g in zip(start, teacher, gradients, strict=True)]
    return sum(each) / len(each)


def product_alone(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    return -sum(((t - s) * g).sum().item() for s, t, g in zip(start, teacher, gradients, strict=True))


def one_length(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    length = math.sqrt(sum(g.square().sum().item() for g in gradients))
    return product_alone(start, teacher, gradients) / length if length else 0.0


def towards_the_weights(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    return alignment([torch.zeros_like(s) for s in start], teacher, gradients)


def absolute(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    return abs(alignment(start, teacher, gradients))


def first_only(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    return alignment(start[:1], teacher[:1], gradients[:1])


def weighted_by_size(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    each = [_cosine(t - s, -g) * s.numel() for s, t, g in zip(start, teacher, gradients, strict=True)]
    return sum(each) / sum(s.numel() for s in start)


def lengths_added(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    way = sum((t - s).norm().item() for s, t in zip(start, teacher, strict=True))
    step = sum(g.norm().item() for g in gradients)
    return product_alone(start, teacher, gradients) / (way * step) if way * step else 0.0


def signs_counted(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    way = torch.cat([(t - s).flatten() for s, t in zip(start, teacher, strict=True)])
    step = torch.cat([-g.flatten() for g in gradients])
    return (way.sign() * step.sign()).mean().item()


def nothing_divided(start: Tensors, teacher: Tensors, gradients: Tensors) -> float:
    way = torch.cat([(t - s).flatten() for s, t in zip(start, teacher, strict=True)])
    step = torch.cat([-g.flatten() for g in gradients])
    return ((way @ step) / (way.norm() * step.norm())).item()


SHAPES = ((3, 2), (3,), (2, 3), (2,))


def _network(seed: int | torch.Generator, shapes: tuple[tuple[int, ...], ...], spread: float = 1.0) -> Tensors:
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    return [draw(*shape, seed=generator, spread=spread * (number + 1)) for number, shape in enumerate(shapes)]


def alignment_cases() -> list[Case]:
    start = _network(1, SHAPES)
    still = [part.clone() for part in start]
    halfway = [part if number % 2 else part + 1 for number, part in enumerate(_network(1, SHAPES))]
    none = [torch.zeros_like(part) for part in start]
    return [
        case(_network(2, ((2,),)), _network(3, ((2,),)), _network(4, ((2,),))),
        case(start, _network(5, SHAPES), _network(6, SHAPES)),
        case(_network(7, SHAPES, 0.1), _network(8, SHAPES, 0.2), _network(9, SHAPES, 30.0)),
        case(start, still, _network(10, SHAPES)),
        case(_network(1, SHAPES), halfway, _network(15, SHAPES)),
        case(_network(11, SHAPES), start, none),
        case(*([part.float() for part in _network(seed, SHAPES)] for seed in (12, 13, 14))),
    ]


def drawn_alignment(g: torch.Generator) -> Case:
    shapes = ((integer(g, 2, 4), integer(g, 2, 4)), (integer(g, 2, 5),), (2, 1, integer(g, 2, 3)))
    return case(*(_network(g, shapes) for _ in range(3)))


EXERCISE = Exercise(
    id="20.8",
    title="whether a step leads towards the teacher",
    question=(
        "`start` and `teacher` are lists of tensors: the parameters of a network before training and of the teacher "
        "that training made of it. `gradients`, of the same shapes, is the gradient of a student's loss. The student's "
        "step goes against it. Write `my_alignment(start, teacher, gradients)`: the cosine of the angle between this "
        "step and the way from `start` to `teacher`, all parameters taken as *one* long vector, as a Python float. "
        "Where the way or the gradient is zero everywhere, return 0.0."
    ),
    skeleton=(
        "def my_alignment(start, teacher, gradients):\n"
        '    """Cosine between the step against the gradients and the way from start to teacher."""\n    ...'
    ),
    reference=alignment,
    alternatives=(alignment_by_sums, alignment_by_units),
    cases=alignment_cases,
    drawn=drawn_alignment,
    hints=(
        "Which two vectors? The way is what training added to the start; the step is minus the gradient.",
        "Flatten all tensors and concatenate them, then divide the scalar product by both lengths.",
        "`way = torch.cat([(t - s).flatten() for s, t in zip(start, teacher)])`, the step likewise, "
        "`way @ step / (way.norm() * step.norm())`; the 0 first.",
    ),
    misconceptions=(
        Misconception(
            "along the gradient",
            along_the_gradient,
            "the sign is turned round: a step goes *against* the gradient",
        ),
        Misconception(
            "a mean over tensors",
            mean_over_tensors,
            "you take the mean of one cosine for each tensor. A bias of ten numbers then counts as much as a matrix of "
            "a hundred thousand. All parameters are one vector",
        ),
        Misconception(
            "weighted by size",
            weighted_by_size,
            "you average the tensors' cosines, weighted by their sizes. The lengths differ as well: concatenate first",
        ),
        Misconception(
            "the scalar product",
            product_alone,
            "this is the scalar product. Divide by both lengths",
        ),
        Misconception(
            "one length",
            one_length,
            "you divide by the length of the step only. A cosine needs both",
        ),
        Misconception(
            "lengths added up",
            lengths_added,
            "you add up the lengths of the tensors. The length of the long vector is the root of the sum of squares",
        ),
        Misconception(
            "the teacher's weights",
            towards_the_weights,
            "you compare with the teacher's weights. The way is teacher - start: what training added",
        ),
        Misconception(
            "absolute",
            absolute,
            "you take the absolute value. Towards the teacher and away from it are not the same",
        ),
        Misconception(
            "the first tensor only",
            first_only,
            "you look at the first tensor only",
        ),
        Misconception(
            "signs counted",
            signs_counted,
            "you compare signs. Large and small entries then count equally",
        ),
        Misconception(
            "0 / 0",
            nothing_divided,
            "correct, but where nothing moved you divide 0 by 0, which is NaN. Return 0.0 there",
        ),
    ),
    shows="a step that copies a few outputs of a teacher with the same start leads towards all of the teacher.",
    derivation=(
        "Let d = teacher - start be small and J the Jacobian of the copied outputs at the start. The teacher's outputs "
        "differ by J d, so the gradient of half their squared distance is -Jᵀ J d. The step is Jᵀ J d, and its scalar "
        "product with d is dᵀ Jᵀ J d = ‖J d‖² ≥ 0, whatever the inputs and the outputs are."
    ),
)
