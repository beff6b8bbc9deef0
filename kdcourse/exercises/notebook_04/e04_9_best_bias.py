"""04.9 a bias for a class that was never seen."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def best_bias(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    errors = []
    for bias in candidates:
        raised = logits.clone()
        raised[:, missing] += bias
        errors.append((raised.argmax(dim=1) != labels).sum())
    counts = torch.stack(errors)
    return candidates[counts == counts.min()].min().item()


def best_bias_by_pairs(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    unit = F.one_hot(torch.tensor(missing), logits.shape[1])
    pairs = []
    for bias in candidates.tolist():
        right = (logits + bias * unit).argmax(dim=1) == labels
        pairs.append((-int(right.sum()), bias))
    return min(pairs)[1]


def best_bias_by_thresholds(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    others = logits.index_fill(1, torch.tensor(missing), -torch.inf)
    rival, named = others.max(dim=1)
    ordered = candidates.sort().values
    wins = ordered[:, None] > rival - logits[:, missing]  # (candidates, images)
    right = torch.where(wins, missing, named) == labels
    return float(ordered[right.sum(dim=1).argmax()])


def _errors(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> Tensor:
    """How many images each candidate gets wrong."""
    unit = F.one_hot(torch.tensor(missing), logits.shape[1])
    return ((logits + candidates[:, None, None] * unit).argmax(dim=2) != labels).sum(dim=1)


def _smallest(candidates: Tensor, cost: Tensor) -> float:
    return candidates[cost == cost.min()].min().item()


def recall_alone(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    chosen = labels == missing
    return _smallest(candidates, _errors(logits[chosen], labels[chosen], missing, candidates))


def others_alone(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    chosen = labels != missing
    return _smallest(candidates, _errors(logits[chosen], labels[chosen], missing, candidates))


def first_of_equals(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    return candidates[_errors(logits, labels, missing, candidates).argmin()].item()


def largest_of_equals(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    errors = _errors(logits, labels, missing, candidates)
    return candidates[errors == errors.min()].max().item()


def lowered(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    return _smallest(candidates, _errors(logits, labels, missing, -candidates))


def piled_up(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    return _smallest(candidates, _errors(logits, labels, missing, candidates.cumsum(0)))


def most_errors(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    return _smallest(candidates, -_errors(logits, labels, missing, candidates))


def on_probabilities(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    return _smallest(candidates, _errors(logits.softmax(dim=1), labels, missing, candidates))


def by_cross_entropy(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    unit = F.one_hot(torch.tensor(missing), logits.shape[1])
    losses = [F.cross_entropy(logits + bias * unit, labels) for bias in candidates]
    return _smallest(candidates, torch.stack(losses))


def as_many_as_there_are(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    unit = F.one_hot(torch.tensor(missing), logits.shape[1])
    named = ((logits + candidates[:, None, None] * unit).argmax(dim=2) == missing).sum(dim=1)
    return _smallest(candidates, (named - (labels == missing).sum()).abs())


def which_candidate(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    return float((candidates == best_bias(logits, labels, missing, candidates)).nonzero()[0])


def how_many_errors(logits: Tensor, labels: Tensor, missing: int, candidates: Tensor) -> float:
    return float(_errors(logits, labels, missing, candidates).min())


def _student(images: int, classes: int, missing: int, seed: int | torch.Generator) -> tuple[Tensor, Tensor]:
    """Logits that favour the label, lower for the class that training lacked; labels."""
    noise = draw(images, classes + 1, seed=seed, spread=2.0)
    labels = (noise[:, -1] * 1000).long() % classes
    logits = noise[:, :-1] + 3 * F.one_hot(labels, classes)
    logits[:, missing] -= 4
    return logits, labels


BIASES = (2.25, 0.0, 6.5, 3.75, -1.5, 1.25, 5.0, 9.5, 2.75, 0.5, 4.25, -0.75, 3.25)


def best_bias_cases() -> list[Case]:
    biases = torch.tensor(BIASES, dtype=torch.float64)
    none_missing, labels = _student(12, 4, 3, seed=5)
    few, few_labels = _student(20, 3, 0, seed=6)
    raised, raised_labels = _student(25, 4, 1, seed=7)
    raised[:, 1] += 6
    return [
        case(torch.tensor([[1.0, 4.0, 0.5]]), torch.tensor([2]), 2, torch.tensor([5.5, 4.5, 3.0, -0.5])),
        case(torch.tensor([[4.0, 1.0], [-1.0, 2.5]]), torch.tensor([0, 1]), 0, torch.tensor([7.0])),
        case(*_student(16, 3, 2, seed=1), 2, biases),
        case(*_student(24, 4, 0, seed=2), 0, biases.flip(0)),
        case(*_student(30, 5, 3, seed=3), 3, biases),
        case(none_missing, labels % 3, 3, biases),  # no image of the class
        case(few.float(), few_labels, 0, biases.float()),
        case(raised, raised_labels, 1, biases - 5),  # raised too far: the best bias is negative
    ]


def best_bias_drawn(g: torch.Generator) -> Case:
    classes = integer(g, 3, 6)
    missing = integer(g, 0, classes - 1)
    return case(*_student(integer(g, 15, 40), classes, missing, g), missing, draw(integer(g, 8, 16), seed=g) + 3)


EXERCISE = Exercise(
    id="04.9",
    title="a bias for a class that was never seen",
    question=(
        "A student was distilled without images of class `missing`. `logits` (N, C) are what it returns for N "
        "validation images, `labels` (N,) their labels, and `candidates` is a 1-D tensor of biases in any order. "
        "Write `my_best_bias(logits, labels, missing, candidates)`: the candidate, a float, that gives the fewest "
        "errors on all N images when it is added to the logit of class `missing`; of equally good ones the smallest "
        "number. Do not modify `logits`."
    ),
    skeleton=(
        "def my_best_bias(logits, labels, missing, candidates):\n"
        '    """The candidate that gives the fewest errors, added to the logit of one class."""\n    ...'
    ),
    reference=best_bias,
    alternatives=(best_bias_by_pairs, best_bias_by_thresholds),
    cases=best_bias_cases,
    drawn=best_bias_drawn,
    hints=(
        "What does a bias that is too large cost, and whom?",
        "For each candidate: a clone of the logits, the candidate added to one column, arg-max, errors.",
        "`raised = logits.clone(); raised[:, missing] += bias; errors = (raised.argmax(dim=1) != labels).sum()`. "
        "Then the minimum of the candidates with the fewest errors.",
    ),
    misconceptions=(
        Misconception(
            "the missing class alone",
            recall_alone,
            "you count errors on the images of the missing class only. A bias that is large enough gets all of those "
            "right, and takes the images of the other classes as well. Count on all images",
        ),
        Misconception(
            "always the smallest",
            others_alone,
            "you get the smallest candidate whatever the images are. So it is if the images of the missing class are "
            "left out, as on the others a bias only does harm, or if every class is raised equally. Count all images, "
            "raise one column",
        ),
        Misconception(
            "the first of equals",
            first_of_equals,
            "of equally good candidates you take the first in the list. The list is in any order: take the smallest",
        ),
        Misconception(
            "the largest of equals",
            largest_of_equals,
            "of equally good candidates you take the largest. Take the smallest: it changes the student least",
        ),
        Misconception(
            "subtracted",
            lowered,
            "you subtract the bias. The class was never seen, so its logit is too low: add it",
        ),
        Misconception(
            "biases piled up",
            piled_up,
            "each candidate is added to the logits that the one before has already raised. Begin with the student's "
            "own logits every time",
        ),
        Misconception(
            "the most errors",
            most_errors,
            "you choose the candidate with the most errors, as an arg-max of errors does",
        ),
        Misconception(
            "added to probabilities",
            on_probabilities,
            "you add the bias to probabilities. It belongs to the logits, where adding is what a layer's bias does; a "
            "probability raised by 1 always wins",
        ),
        Misconception(
            "the lowest cross-entropy",
            by_cross_entropy,
            "you choose by cross-entropy. The question asks for the fewest errors, and one image that is far off "
            "moves the cross-entropy more than several that are nearly right",
        ),
        Misconception(
            "as many as there are",
            as_many_as_there_are,
            "you choose so that the class is predicted as often as it occurs. These need not be the same images: count "
            "errors",
        ),
        Misconception(
            "the position in the list",
            which_candidate,
            "this is the position of the best candidate in the list. Return the candidate itself",
        ),
        Misconception(
            "the number of errors",
            how_many_errors,
            "this is how many errors the best candidate makes. Return the candidate itself",
        ),
    ),
    shows="one number, chosen on validation images of all classes, gives back a class that training never showed.",
    derivation=(
        "A bias b on class k adds b to its log-odds against every other class: it corrects how often the student "
        "expects k, and nothing else. Too small, images of k are missed; too large, it takes those of others. The "
        "fewest errors on all images weigh the two."
    ),
)
