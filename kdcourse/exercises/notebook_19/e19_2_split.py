"""19.2 a split by speech."""

import math
import random
from itertools import accumulate

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer, refusal

Split = tuple[list[int], list[int]]


def split(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    if len(order) < 2:
        raise ValueError(f"each side needs a speech of its own, there are {len(order)}")
    wanted = fraction * len(speeches)
    reached, best, least = 0, 0, math.inf
    for k, speech in enumerate(order[:-1], start=1):  # at least one speech is left for training
        reached += speeches.count(speech)
        if abs(reached - wanted) < least:
            best, least = k, abs(reached - wanted)
    return _sides(speeches, order[:best])


def _sides(speeches: list[str], chosen: list[str]) -> Split:
    """The numbers of the paragraphs outside and inside the chosen speeches."""
    train: list[int] = []
    test: list[int] = []
    for number, speech in enumerate(speeches):
        (test if speech in chosen else train).append(number)
    return train, test


def split_by_min(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    reached = list(accumulate(sum(s == speech for s in speeches) for speech in order))
    # of nothing, min raises the ValueError
    k = min(range(len(order) - 1), key=lambda place: abs(reached[place] - len(speeches) * fraction))
    chosen = set(order[: k + 1])
    rows = range(len(speeches))
    return [row for row in rows if speeches[row] not in chosen], [row for row in rows if speeches[row] in chosen]


def split_by_tensors(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    if len(set(speeches)) <= 1:
        raise ValueError("all paragraphs are from one speech")
    place = torch.tensor([order.index(speech) for speech in speeches])  # (paragraphs,)
    reached = torch.bincount(place).cumsum(0)[:-1]
    in_test = place <= (reached - fraction * len(speeches)).abs().argmin()
    return (~in_test).nonzero().flatten().tolist(), in_test.nonzero().flatten().tolist()


def _needs_two(order: list[str]) -> None:
    if len(order) < 2:
        raise ValueError(f"there are {len(order)} speeches")


def _reached(speeches: list[str], order: list[str]) -> list[int]:
    return list(accumulate(map(speeches.count, order)))


def by_paragraph(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    _needs_two(order)
    number = round(fraction * len(speeches))
    rows = sorted(range(len(speeches)), key=lambda row: order.index(speeches[row]))
    return sorted(rows[number:]), sorted(rows[:number])


def first_paragraphs(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    _needs_two(order)
    number = len(split(speeches, order, fraction=fraction)[1])
    return list(range(number, len(speeches))), list(range(number))


def of_each_speech(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    _needs_two(order)
    test: list[int] = []
    for speech in order:
        rows = [row for row, name in enumerate(speeches) if name == speech]
        test += rows[: max(1, round(fraction * len(rows)))]
    return [row for row in range(len(speeches)) if row not in test], sorted(test)


def fraction_of_speeches(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    _needs_two(order)
    return _sides(speeches, order[: min(max(1, round(fraction * len(order))), len(order) - 1)])


def sides_swapped(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    train, test = split(speeches, order, fraction=fraction)
    return test, train


def at_least(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    _needs_two(order)
    reached = _reached(speeches, order)[:-1]
    enough = [k for k, count in enumerate(reached, start=1) if count >= fraction * len(speeches)]
    return _sides(speeches, order[: min(enough, default=len(reached))])


def at_most(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    _needs_two(order)
    room = sum(count <= fraction * len(speeches) for count in _reached(speeches, order)[:-1])
    return _sides(speeches, order[: max(1, room)])


def larger_of_a_tie(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    _needs_two(order)
    reached = _reached(speeches, order)[:-1]
    gaps = [abs(count - fraction * len(speeches)) for count in reached]
    return _sides(speeches, order[: len(gaps) - gaps[::-1].index(min(gaps))])


def perhaps_none(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    _needs_two(order)
    reached = [0, *_reached(speeches, order)[:-1]]
    return _sides(speeches, order[: min(range(len(order)), key=lambda k: abs(reached[k] - fraction * len(speeches)))])


def perhaps_all(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    _needs_two(order)
    reached = _reached(speeches, order)
    k = min(range(len(order)), key=lambda k: abs(reached[k] - fraction * len(speeches)))
    return _sides(speeches, order[: k + 1])


def whichever_fits(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    _needs_two(order)
    chosen, room = [order[0]], fraction * len(speeches) - speeches.count(order[0])
    for speech in order[1:]:
        if speeches.count(speech) <= room:
            chosen, room = [*chosen, speech], room - speeches.count(speech)
    return _sides(speeches, chosen)


def in_order_of_appearance(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    return split(speeches, list(dict.fromkeys(speeches)), fraction=fraction)


def in_the_order_of_speeches(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    _, test = split(speeches, order, fraction=fraction)
    place = {speech: number for number, speech in enumerate(order)}
    rows = sorted(range(len(speeches)), key=lambda row: place[speeches[row]])
    return rows[len(test) :], rows[: len(test)]


def one_accepted(speeches: list[str], order: list[str], *, fraction: float) -> Split:
    return split(speeches, order, fraction=fraction) if len(order) > 1 else ([], list(range(len(speeches))))


def of(counts: dict[str, int], order: str, fraction: float, seed: int | None = None) -> Case:
    """Speeches with so many paragraphs each, in this order of names, or mixed."""
    speeches = [f"speech {name}" for name, count in counts.items() for _ in range(count)]
    if seed is not None:
        random.Random(seed).shuffle(speeches)
    return case(speeches, [f"speech {name}" for name in order], fraction=fraction)


def split_cases() -> list[Case]:
    return [
        of({"a": 2, "b": 1}, "ba", 0.25),
        case(["b", "a", "c", "a", "b", "d", "a", "c"], ["c", "d", "a", "b"], fraction=0.4),
        of({"a": 2, "b": 2, "c": 4}, "bac", 0.375),  # 2 and 4 are as near to 3
        of({"a": 2, "b": 1, "c": 6}, "bac", 0.25),  # 3 is nearer to 2.25 than 1 is
        of({"a": 1, "b": 6, "c": 1}, "bca", 0.125),  # even the first speech is too long
        of({"a": 1, "b": 1, "c": 6}, "abc", 0.9),  # all would be nearest
        of({"a": 3, "b": 7, "c": 1, "d": 2, "e": 5}, "abcde", 0.25),  # b does not fit, c would
        of({"a": 5, "b": 1, "c": 2, "d": 9}, "dbca", 0.25, seed=1),
        of({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}, "cadbe", 0.6),
        of({"a": 4, "b": 3}, "ab", 0.5, seed=2),
        of({"a": 3, "b": 1, "c": 3, "d": 1}, "cbad", 0.5),  # 4 of 8
        refusal("a single speech", ["a", "a", "a"], ["a"], fraction=0.5),
        refusal("an empty list", [], [], fraction=0.5),
    ]


def drawn_split(g: torch.Generator) -> Case:
    """An odd number of paragraphs and a fraction in quarters: no two numbers of speeches come equally near."""
    counts = [integer(g, 1, 9) for _ in range(integer(g, 3, 7))]
    counts[-1] += 1 - sum(counts) % 2
    order = "".join("abcdefg"[k] for k in torch.randperm(len(counts), generator=g))
    return of(dict(zip("abcdefg", counts, strict=False)), order, integer(g, 1, 3) / 4, seed=integer(g, 0, 999))


EXERCISE = Exercise(
    id="19.2",
    title="a split by speech",
    question=(
        "`speeches` is a list that names for each paragraph the speech it is from; paragraphs of one speech need not "
        "be neighbours. `order` is a list of all speeches, each once, already shuffled. Write "
        "`my_split(speeches, order, *, fraction)`. The test set is made of the first k speeches of `order`, with all "
        "their paragraphs: choose k so that the number of test *paragraphs* is as near as possible to `fraction` times "
        "the number of all paragraphs; if two are equally near, take the smaller k. Each side gets at "
        "least one speech. Return two lists of paragraph numbers, `train` and `test`, both in ascending order. Raise a "
        "`ValueError` if there are fewer than two speeches."
    ),
    skeleton=(
        "def my_split(speeches, order, *, fraction):\n"
        '    """Paragraph numbers for train and for test: no speech is on both sides."""\n    ...'
    ),
    reference=split,
    alternatives=(split_by_min, split_by_tensors),
    cases=split_cases,
    drawn=drawn_split,
    hints=(
        "Choose speeches first. Which paragraphs are in the test set follows from that.",
        "Go through `order` and add up the paragraphs. Remember the k with which the sum was nearest, and do not let "
        "it be 0 or all speeches.",
        "For k from 1 to `len(order) - 1`: `reached += speeches.count(order[k - 1])`; keep k if "
        "`abs(reached - fraction * len(speeches))` is less than the least so far.",
    ),
    misconceptions=(
        Misconception(
            "a split by paragraph",
            by_paragraph,
            "you cut inside a speech. Its other paragraphs are in training, on the same subject and in similar words, "
            "so the test measures memory as well. A speech goes to one side as a whole",
        ),
        Misconception(
            "the first paragraphs",
            first_paragraphs,
            "you take the first paragraphs of the list, whatever speech they are from. Choose whole speeches, in the "
            "order of `order`",
        ),
        Misconception(
            "some of each speech",
            of_each_speech,
            "you take some paragraphs of every speech, as a stratified split does. Then every test paragraph has "
            "neighbours in training: whole speeches must change sides",
        ),
        Misconception(
            "a fraction of the speeches",
            fraction_of_speeches,
            "you take the fraction of the *speeches*. They differ in length: count their paragraphs",
        ),
        Misconception(
            "sides swapped",
            sides_swapped,
            "the two lists are swapped: `train` comes first, and `fraction` is the size of the test set",
        ),
        Misconception(
            "at least the fraction",
            at_least,
            "you add speeches until the fraction is reached. The last speech may go far beyond it, and one "
            "speech fewer be nearer",
        ),
        Misconception(
            "at most the fraction",
            at_most,
            "you stop before the fraction is passed. One speech more can be nearer",
        ),
        Misconception(
            "the larger of two equally near",
            larger_of_a_tie,
            "of two numbers of speeches that come equally near you take the larger: the question asks for the smaller, "
            "which leaves more for training",
        ),
        Misconception(
            "an empty test set",
            perhaps_none,
            "your test set can be empty. Each side gets at least one speech, even if that is more than the fraction",
        ),
        Misconception(
            "nothing left for training",
            perhaps_all,
            "all speeches can be in your test set. Each side gets at least one",
        ),
        Misconception(
            "whichever still fits",
            whichever_fits,
            "you pass over a speech that is too long and take later ones that fit. Then short speeches are in the test "
            "set more often than chance would put them there. Take the first k of `order`",
        ),
        Misconception(
            "in order of appearance",
            in_order_of_appearance,
            "you take the speeches as they occur in `speeches`. If that list is sorted by year, the test set is one "
            "era. Take them as in `order`, which is shuffled",
        ),
        Misconception(
            "not in ascending order",
            in_the_order_of_speeches,
            "the right paragraphs, speech by speech. Both lists are to be in ascending order",
        ),
        Misconception(
            "a single speech accepted",
            one_accepted,
            "with a single speech, or none, there is nothing to test on or nothing to train on: raise a `ValueError`",
        ),
    ),
    shows="no speech is on both sides, and the test set is as near to its size as whole speeches allow.",
    derivation=(
        "With n_1, n_2, … paragraphs in the order of `order`, S_k = n_1 + … + n_k grows with k, so |S_k - f N| falls "
        "and then rises: at the best k it is at most half of the longest speech, unless a side would be empty."
    ),
)
