"""16.5 a fair sample of a stream."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..engine.core import Case, Exercise, Misconception, case, integer

Choose = Callable[[int], int]


class Chosen(nn.Module):
    """Integers from 0 to n - 1 that look random: for each n always the same one."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, n: int) -> int:
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"choose(n) needs an integer, got {n!r}")
        if n < 1:
            raise ValueError(f"choose({n}): there is no integer from 0 to {n - 1}")
        return int(torch.randint(n, (), generator=torch.Generator().manual_seed(1000 * self.seed + n)))


def reservoir(items: list[Any], size: int, choose: Choose) -> list[Any]:
    kept: list[Any] = []
    for seen, item in enumerate(items, start=1):
        if len(kept) < size:
            kept.append(item)
        else:
            place = choose(seen)
            if place < size:
                kept[place] = item
    return kept


def reservoir_by_places(items: list[Any], size: int, choose: Choose) -> list[Any]:
    kept = list(items[:size])
    for number in range(size, len(items)):
        place = choose(number + 1)
        if place in range(size):
            kept[place] = items[number]
    return kept


def reservoir_of_numbers(items: list[Any], size: int, choose: Choose) -> list[Any]:
    holder = {place: place for place in range(min(size, len(items)))}
    later = {number: choose(number + 1) for number in range(size, len(items))}
    holder |= {place: number for number, place in later.items() if place < size}
    return [items[holder[place]] for place in sorted(holder)]


def one_too_few(items: list[Any], size: int, choose: Choose) -> list[Any]:
    kept: list[Any] = []
    for number, item in enumerate(items):
        if number < size:
            kept.append(item)
        elif number and (place := choose(number)) < size:
            kept[place] = item
    return kept


def one_too_many(items: list[Any], size: int, choose: Choose) -> list[Any]:
    kept = list(items[:size])
    for number, item in enumerate(items[size:], start=size):
        if (place := choose(number + 2)) < size:
            kept[place] = item
    return kept


def counted_from_full(items: list[Any], size: int, choose: Choose) -> list[Any]:
    kept = list(items[:size])
    for number, item in enumerate(items[size:], start=1):
        if (place := choose(number)) < size:
            kept[place] = item
    return kept


def always_in(items: list[Any], size: int, choose: Choose) -> list[Any]:
    kept = list(items[:size])
    for item in items[size:] if size else []:
        kept[choose(size)] = item
    return kept


def wrapped(items: list[Any], size: int, choose: Choose) -> list[Any]:
    kept = list(items[:size])
    for seen, item in enumerate(items[size:], start=size + 1):
        if size:
            kept[choose(seen) % size] = item
    return kept


def oldest_out(items: list[Any], size: int, choose: Choose) -> list[Any]:
    kept = list(items[:size])
    for number, item in enumerate(items[size:]):
        if size:
            kept[number % size] = item
    return kept


def first_ones(items: list[Any], size: int, choose: Choose) -> list[Any]:
    return list(items[:size])


def last_ones(items: list[Any], size: int, choose: Choose) -> list[Any]:
    return list(items[max(0, len(items) - size) :])


def another_place(items: list[Any], size: int, choose: Choose) -> list[Any]:
    kept = list(items[:size])
    for seen, item in enumerate(items[size:], start=size + 1):
        if choose(seen) < size:
            kept[choose(size)] = item
    return kept


def it_grows(items: list[Any], size: int, choose: Choose) -> list[Any]:
    kept = list(items[:size])
    return kept + [item for seen, item in enumerate(items[size:], start=size + 1) if choose(seen) < size]


def counts_the_kept(items: list[Any], size: int, choose: Choose) -> list[Any]:
    kept, seen = list(items[:size]), size
    for item in items[size:]:
        if (place := choose(seen + 1)) < size:
            kept[place] = item
            seen += 1
    return kept


def turned_round(items: list[Any], size: int, choose: Choose) -> list[Any]:
    kept = list(items[:size])
    for seen, item in enumerate(items[size:], start=size + 1):
        if (place := choose(seen)) >= size and size:
            kept[place % size] = item
    return kept


def numbers_kept(items: list[Any], size: int, choose: Choose) -> list[Any]:
    return reservoir(list(range(len(items))), size, choose)


def stream(seed: int, count: int, size: int) -> Case:
    items = [f"{chr(97 + (5 * number + seed) % 26)}{number + seed}" for number in range(count)]
    return case(items, size, Chosen(seed))


def reservoir_cases() -> list[Case]:
    return [
        stream(1, 12, 3),
        stream(2, 30, 4),
        stream(3, 5, 5),  # just full
        stream(4, 2, 6),  # never full
        stream(5, 7, 0),
        stream(6, 0, 2),
        stream(7, 9, 1),
        stream(8, 40, 9),
    ]


EXERCISE = Exercise(
    id="16.5",
    title="a fair sample of a stream",
    question=(
        "Items arrive one after another, and nobody knows how many. Write `my_reservoir(items, size, choose)`, which "
        "goes through the list `items` once and returns the list of what is kept, at most `size` items. The first "
        "`size` items fill it in their order. For each later item, the n-th of all so far, let j = `choose(n)`, an "
        "integer from 0 to n - 1 at random. If j < `size`, the item replaces the one at position j; otherwise it is "
        "dropped. Take all randomness from `choose`. With `size` 0 nothing is kept."
    ),
    skeleton=(
        "def my_reservoir(items, size, choose):\n"
        '    """What is kept of a stream, every item with the same probability."""\n    ...'
    ),
    reference=reservoir,
    alternatives=(reservoir_by_places, reservoir_of_numbers),
    cases=reservoir_cases,
    drawn=lambda g: stream(integer(g, 10, 99), integer(g, 5, 40), integer(g, 1, 8)),
    hints=(
        "Which number of items has been seen when the n-th arrives: n - 1, or n? The n-th is one of them.",
        "`for n, item in enumerate(items, start=1)`: append while there is room, otherwise `j = choose(n)`.",
        "`if j < size: kept[j] = item`. One random number decides both whether the item is kept and where.",
    ),
    misconceptions=(
        Misconception(
            "one too few",
            one_too_few,
            "you call `choose(n - 1)`: the new item is not counted. It is then kept too often, the first one that "
            "arrives at a full memory of size n - 1 for certain. Count it",
        ),
        Misconception(
            "one too many",
            one_too_many,
            "you call `choose(n + 1)`: later items are kept too rarely",
        ),
        Misconception(
            "counted from the full memory",
            counted_from_full,
            "you count the items from the moment at which the memory is full. n counts all items from the first",
        ),
        Misconception(
            "every item gets in",
            always_in,
            "you call `choose(size)`, so that every new item replaces one. The latest items would fill the memory",
        ),
        Misconception(
            "wrapped",
            wrapped,
            "you take j modulo `size`, so that every new item gets in. If j >= `size`, the item is dropped",
        ),
        Misconception(
            "oldest out",
            oldest_out,
            "every new item replaces the oldest one. In the end only the last ones are there",
        ),
        Misconception("the first ones", first_ones, "you keep the first items and nothing of what comes later"),
        Misconception("the last ones", last_ones, "you keep the last items: the earlier tasks would be gone"),
        Misconception(
            "a second random position",
            another_place,
            "you choose the position by a second random number. That is fair as well, but the question asks for "
            "position j",
        ),
        Misconception(
            "it grows",
            it_grows,
            "you append the new item without removing one: the memory grows beyond `size`",
        ),
        Misconception(
            "only the kept are counted",
            counts_the_kept,
            "n grows only when an item is kept. Every item counts, also a dropped one",
        ),
        Misconception(
            "turned round",
            turned_round,
            "the comparison is turned round: an item gets in where j >= `size`",
        ),
        Misconception(
            "numbers in place of items",
            numbers_kept,
            "you return the positions in the stream. Return the items",
        ),
    ),
    shows="one random number per item is enough for a fair sample of a stream of unknown length.",
    derivation=(
        "The n-th item gets in with probability m/n. One that is there stays with 1 - (m/n)(1/m) = (n-1)/n. So after n "
        "items each is kept with m/n (Vitter 1985, algorithm R)."
    ),
)
