"""20.7 whether an image was in the training set."""

import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal


def membership_auc(members: Tensor, others: Tensor) -> float:
    if len(members) == 0 or len(others) == 0:
        raise ValueError(f"both groups need images, got {len(members)} and {len(others)}")
    smaller = members[:, None] < others  # (M, K)
    equal = members[:, None] == others
    return (smaller + 0.5 * equal).mean().item()


def auc_by_pairs(members: Tensor, others: Tensor) -> float:
    if not (members.numel() and others.numel()):
        raise ValueError("no images")
    points = 0.0
    for member in members.tolist():
        for other in others.tolist():
            points += 1.0 if member < other else 0.5 if member == other else 0.0
    return points / (len(members) * len(others))


def auc_by_scipy(members: Tensor, others: Tensor) -> float:
    if min(len(members), len(others)) < 1:
        raise ValueError("both groups need at least one image")
    wins = mannwhitneyu(others.numpy(), members.numpy()).statistic
    return float(wins) / (len(members) * len(others))


def _checked(members: Tensor, others: Tensor) -> None:
    membership_auc(members, others)


def turned_round(members: Tensor, others: Tensor) -> float:
    return 1 - membership_auc(members, others)


def ties_lost(members: Tensor, others: Tensor) -> float:
    _checked(members, others)
    return (members[:, None] < others).double().mean().item()


def ties_won(members: Tensor, others: Tensor) -> float:
    _checked(members, others)
    return (members[:, None] <= others).double().mean().item()


def in_pairs(members: Tensor, others: Tensor) -> float:
    _checked(members, others)
    count = min(len(members), len(others))
    one, other = members[:count], others[:count]
    return ((one < other).double() + 0.5 * (one == other).double()).mean().item()


def best_accuracy(members: Tensor, others: Tensor) -> float:
    _checked(members, others)
    values = torch.cat([members, others, members.new_tensor([-1.0])])
    right = [((members <= v).sum() + (others > v).sum()).item() for v in values]
    return max(right) / (len(members) + len(others))


def below_the_others_mean(members: Tensor, others: Tensor) -> float:
    _checked(members, others)
    return (members < others.mean()).double().mean().item()


def mean_difference(members: Tensor, others: Tensor) -> float:
    _checked(members, others)
    return (others.mean() - members.mean()).item()


def distance_from_half(members: Tensor, others: Tensor) -> float:
    return abs(membership_auc(members, others) - 0.5)


def always_above_half(members: Tensor, others: Tensor) -> float:
    found = membership_auc(members, others)
    return max(found, 1 - found)


def counted(members: Tensor, others: Tensor) -> float:
    return membership_auc(members, others) * len(members) * len(others)


def by_members_squared(members: Tensor, others: Tensor) -> float:
    return counted(members, others) / len(members) ** 2


def advantage(members: Tensor, others: Tensor) -> float:
    return 2 * membership_auc(members, others) - 1


def empty_is_half(members: Tensor, others: Tensor) -> float:
    return membership_auc(members, others) if len(members) and len(others) else 0.5


def membership_cases() -> list[Case]:
    some = torch.tensor([0.1, 0.4, 0.4], dtype=torch.float64)
    return [
        case(some, torch.tensor([0.4, 0.9], dtype=torch.float64)),
        case(torch.tensor([0.7, 0.2, 0.0, 0.2, 2.0]), torch.tensor([0.2, 0.0, 0.5, 1.5, 2.0, 0.2, 0.1])),
        case(draw(9, seed=1).abs(), draw(6, seed=2).abs() + 1.0),
        case(draw(4, seed=3).abs() + 2.0, draw(11, seed=4).abs()),
        case(torch.zeros(3), torch.zeros(2)),
        case(torch.tensor([0.5]), torch.tensor([0.25])),
        refusal("no members", torch.zeros(0), torch.tensor([1.0])),
        refusal("no others", torch.tensor([1.0, 2.0]), torch.zeros(0)),
    ]


def drawn_membership(g: torch.Generator) -> Case:
    losses = [(draw(integer(g, 3, 12), seed=g, spread=4.0).abs() + shift).round() / 4 for shift in (0.0, 1.0)]
    return case(*losses)


EXERCISE = Exercise(
    id="20.7",
    title="whether an image was in the training set",
    question=(
        "`members` (M,) are the losses of a network for M images that it was trained on, `others` (K,) those for K "
        "images that it was not. An attacker who sees one of each guesses that the smaller loss is the member's. Write "
        "`my_membership_auc(members, others)`: the fraction of all M · K pairs in which that is right, equal losses "
        "counted one half, as a Python float. This is the area under the ROC curve. Raise a `ValueError` if M or K is "
        "0."
    ),
    skeleton=(
        "def my_membership_auc(members, others):\n"
        '    """Probability that a random member has a smaller loss than a random other image."""\n    ...'
    ),
    reference=membership_auc,
    alternatives=(auc_by_pairs, auc_by_scipy),
    cases=membership_cases,
    drawn=drawn_membership,
    hints=(
        "Make a table with a row for each member and a column for each other image.",
        "`members[:, None] < others` has the shape (M, K).",
        "The mean of `(members[:, None] < others) + 0.5 * (members[:, None] == others)`, as doubles.",
    ),
    misconceptions=(
        Misconception(
            "turned round",
            turned_round,
            "you count pairs in which the member's loss is *larger*. A network fits what it was trained on: members "
            "have small losses",
        ),
        Misconception(
            "ties lost",
            ties_lost,
            "equal losses count 0. An attacker guesses between them and is right half the time: count one half",
        ),
        Misconception(
            "ties won",
            ties_won,
            "equal losses count 1. An attacker guesses between them and is right half the time: count one half",
        ),
        Misconception(
            "in pairs",
            in_pairs,
            "you compare the first member with the first other image, and so on. Compare every member with every "
            "other image",
        ),
        Misconception(
            "the best accuracy",
            best_accuracy,
            "this is the accuracy with the best threshold. It depends on how many members there are, and the threshold "
            "was chosen on the answer",
        ),
        Misconception(
            "below the mean of the others",
            below_the_others_mean,
            "you compare members with the *mean* of the other losses. A few large losses decide it; compare pair by "
            "pair",
        ),
        Misconception(
            "the difference of means",
            mean_difference,
            "this is a difference of mean losses. It is not a probability, and one image with a large loss can make it",
        ),
        Misconception(
            "the distance from one half",
            distance_from_half,
            "you subtract one half and take the absolute value. Return the probability itself",
        ),
        Misconception(
            "never below one half",
            always_above_half,
            "you turn the guess round where it is below one half. With that choice even pure chance is above one half "
            "on average",
        ),
        Misconception(
            "a count",
            counted,
            "this is the number of pairs. Divide it by M · K",
        ),
        Misconception(
            "divided by M²",
            by_members_squared,
            "you divide by M² instead of M · K: there are M · K pairs",
        ),
        Misconception(
            "the advantage",
            advantage,
            "this is 2 · AUC - 1, 0 for chance. The question asks for the probability, which is one half for chance",
        ),
        Misconception(
            "one half for an empty group",
            empty_is_half,
            "an empty group gives 0.5 here, as if privacy had been measured. Nothing was: raise a `ValueError`",
        ),
    ),
    shows="one half means that the losses do not tell who was in the training set.",
    derivation=(
        "For a threshold τ let h(τ) be the fraction of members below it and f(τ) that of the others. The area under h "
        "as a function of f is the sum over the others of the fraction of members below each of them, divided by K: "
        "the fraction of right pairs. It is the statistic of Mann and Whitney divided by M · K."
    ),
)
