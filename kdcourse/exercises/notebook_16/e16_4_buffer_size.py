"""16.4 how many examples fit."""

import math

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer, refusal


def buffer_size(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    if budget < 0:
        raise ValueError(f"a budget of {budget} bytes")
    return budget // (pixels + label + 4 * classes * logits)


def buffer_size_by_cases(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    if not budget >= 0:
        raise ValueError("the budget is negative")
    each = pixels
    if label:
        each += 1
    if logits:
        each += 4 * classes
    return int(budget / each)


def buffer_size_by_counting(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    if budget < 0:
        raise ValueError("no memory is negative")
    each = sum([pixels, 1 if label else 0, classes * 4 if logits else 0])
    return (budget - budget % each) // each


def _size(budget: int, each: float) -> int:
    return int(budget // each)


def rounded(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return round(budget / (pixels + label + 4 * classes * logits))


def rounded_up(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return math.ceil(budget / (pixels + label + 4 * classes * logits))


def not_rounded(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> float:
    return budget / (pixels + label + 4 * classes * logits)


def one_logit(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return _size(budget, pixels + label + 4 * logits)


def logits_in_bytes(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return _size(budget, pixels + label + classes * logits)


def double_logits(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return _size(budget, pixels + label + 8 * classes * logits)


def label_of_int64(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return _size(budget, pixels + 8 * label + 4 * classes * logits)


def label_one_hot(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return _size(budget, pixels + classes * label + 4 * classes * logits)


def pixels_of_float32(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return _size(budget, 4 * pixels + label + 4 * classes * logits)


def label_always(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return _size(budget, pixels + 1 + 4 * classes * logits)


def logits_always(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return _size(budget, pixels + label + 4 * classes)


def images_only(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return _size(budget, pixels)


def logits_for_the_label(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return _size(budget, pixels + (4 * classes if logits else label))


def in_bits(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return _size(8 * budget, pixels + label + 4 * classes * logits)


def at_least_one(budget: int, *, pixels: int, classes: int, label: bool, logits: bool) -> int:
    return max(1, _size(budget, pixels + label + 4 * classes * logits))


def size_case(budget: int, pixels: int, classes: int, label: bool, logits: bool) -> Case:
    return case(budget, pixels=pixels, classes=classes, label=label, logits=logits)


def buffer_size_cases() -> list[Case]:
    return [
        size_case(100_700, 784, 10, True, True),
        size_case(157_000, 784, 10, True, False),
        size_case(157_000, 784, 10, False, True),
        size_case(9_000, 12, 7, True, True),
        size_case(9_100, 12, 7, False, False),
        size_case(824, 784, 10, False, True),  # fits exactly
        size_case(823, 784, 10, False, True),  # one byte too few
        size_case(0, 784, 10, True, False),
        refusal("a budget below 0", -1, pixels=784, classes=10, label=True, logits=False),
    ]


def drawn_size(g: torch.Generator) -> Case:
    pixels, classes = integer(g, 5, 60), integer(g, 2, 30)
    return size_case(integer(g, 2_000, 90_000), pixels, classes, bool(integer(g, 0, 1)), bool(integer(g, 0, 1)))


EXERCISE = Exercise(
    id="16.4",
    title="how many examples fit",
    question=(
        "A memory of `budget` bytes is to hold examples. An image takes 1 byte for each of its `pixels`; its label, if "
        "it is kept, 1 byte; its logits, if they are kept, 4 bytes (float32) for each of the `classes`. Write "
        "`my_buffer_size(budget, *, pixels, classes, label, logits)`, where `label` and `logits` are True or False: "
        "the number of whole examples that fit, an integer. Raise a `ValueError` for a budget below 0."
    ),
    skeleton=(
        "def my_buffer_size(budget, *, pixels, classes, label, logits):\n"
        '    """How many examples fit into a number of bytes."""\n    ...'
    ),
    reference=buffer_size,
    alternatives=(buffer_size_by_cases, buffer_size_by_counting),
    cases=buffer_size_cases,
    drawn=drawn_size,
    hints=(
        "First the bytes of one example. Which parts of it depend on `label` and `logits`?",
        "An example takes `pixels`, plus 1 with its label, plus `4 * classes` with its logits. Round down.",
        "`budget // (pixels + label + 4 * classes * logits)`: True counts as 1. Check the budget first.",
    ),
    misconceptions=(
        Misconception(
            "rounded", rounded, "you round to the nearest integer, so the last example may not fit. Round down"
        ),
        Misconception("rounded up", rounded_up, "you round up: the last example does not fit. Round down"),
        Misconception(
            "not rounded", not_rounded, "this is not an integer: only whole examples can be kept. Round down"
        ),
        Misconception(
            "one logit", one_logit, "you count 4 bytes for all logits together: each class has its own logit"
        ),
        Misconception("a byte per logit", logits_in_bytes, "you count 1 byte per logit: float32 takes 4"),
        Misconception(
            "8 bytes per logit", double_logits, "you count 8 bytes per logit, as for float64: float32 takes 4"
        ),
        Misconception(
            "label of int64",
            label_of_int64,
            "you count 8 bytes for a label, as PyTorch's int64 takes. A class number below 256 fits into 1 byte",
        ),
        Misconception(
            "label one-hot",
            label_one_hot,
            "you count a byte per class for the label. One number is enough",
        ),
        Misconception(
            "pixels of float32",
            pixels_of_float32,
            "you count 4 bytes per pixel. Images are kept as they come, in 1 byte per pixel, and converted when they "
            "are used. Otherwise the logits would look almost free",
        ),
        Misconception("label always", label_always, "you count the label also where it is not kept"),
        Misconception("logits always", logits_always, "you count the logits also where they are not kept"),
        Misconception("images only", images_only, "you count the images only: labels and logits take room, too"),
        Misconception(
            "logits in place of the label",
            logits_for_the_label,
            "with logits you forget the label. Where both are kept, both count",
        ),
        Misconception("bits", in_bits, "you multiply the budget by 8: budget and example are both in bytes"),
        Misconception("at least one", at_least_one, "you return at least 1. If no example fits, the answer is 0"),
    ),
    shows="what is kept beside an image takes room that images could have.",
    derivation="m = ⌊B / (P + [label] + 4 C [logits])⌋; for 28 × 28 pixels and 10 classes 784, 785, 824 or 825 bytes.",
)
