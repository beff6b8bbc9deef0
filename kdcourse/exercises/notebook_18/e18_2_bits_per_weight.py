"""18.2 bits per weight, with all that is stored."""

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer, refusal

Shapes = list[tuple[int, int]]
Size = int | None


def bits_per_weight(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    stored, weights = 32 * floats, floats
    for outputs, inputs in shapes:
        size = inputs if group_size is None else group_size
        if inputs % size:
            raise ValueError(f"groups of {size} do not divide {inputs} inputs")
        groups = outputs * (inputs // size)
        stored += outputs * inputs * bits + groups * 16
        if zero_points:
            stored += groups * bits
        weights += outputs * inputs
    return stored / weights


def bits_layer_by_layer(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    """The mean of each layer's bits per weight, weighted by its number of weights."""
    per_group = 16 + bits * zero_points
    sizes, each = [floats], [32.0]
    for outputs, inputs in shapes:
        size = group_size or inputs
        if inputs // size * size != inputs:
            raise ValueError("the group size does not divide the inputs")
        sizes.append(outputs * inputs)
        each.append(bits + per_group / size)
    return sum(n * b for n, b in zip(sizes, each, strict=True)) / sum(sizes)


def bits_by_counting(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    if group_size and any(inputs % group_size for _, inputs in shapes):
        raise ValueError(f"not every layer can be cut into groups of {group_size}")
    codes = sum(outputs * inputs for outputs, inputs in shapes)
    groups = sum(o * i // group_size if group_size else o for o, i in shapes)
    overhead = groups * (16 + bits) if zero_points else groups * 16
    return (codes * bits + overhead + floats * 32) / (codes + floats)


def _counted(
    shapes: Shapes,
    bits: int,
    size: Size,
    *,
    per_group: int,
    floats: int = 0,
    float_bits: int = 32,
) -> float:
    """The right sum, with other bits per group and per float."""
    whole = bits_per_weight(shapes, bits=bits, group_size=size, zero_points=False, floats=floats)
    codes = sum(outputs * inputs for outputs, inputs in shapes)
    groups = sum(outputs * inputs // (size or inputs) for outputs, inputs in shapes)
    return whole + ((per_group - 16) * groups + (float_bits - 32) * floats) / (codes + floats)


def without_scales(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    return _counted(shapes, bits, group_size, per_group=bits * zero_points, floats=floats)


def without_zero_points(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    return _counted(shapes, bits, group_size, per_group=16, floats=floats)


def always_zero_points(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    return _counted(shapes, bits, group_size, per_group=16 + bits, floats=floats)


def wide_zero_points(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    return _counted(shapes, bits, group_size, per_group=16 + 16 * zero_points, floats=floats)


def wide_scales(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    return _counted(shapes, bits, group_size, per_group=32 + bits * zero_points, floats=floats)


def nothing_but_codes(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    return _counted(shapes, bits, group_size, per_group=0, floats=floats)


def floats_in_half(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    return _counted(shapes, bits, group_size, per_group=16 + bits * zero_points, floats=floats, float_bits=16)


def without_floats(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    return bits_per_weight(shapes, bits=bits, group_size=group_size, zero_points=zero_points, floats=0)


def floats_for_nothing(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    return _counted(shapes, bits, group_size, per_group=16 + bits * zero_points, floats=floats, float_bits=0)


def floats_not_among_weights(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    whole = bits_per_weight(shapes, bits=bits, group_size=group_size, zero_points=zero_points, floats=floats)
    codes = sum(outputs * inputs for outputs, inputs in shapes)
    return whole * (codes + floats) / codes


def mean_over_layers(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    options = {"bits": bits, "group_size": group_size, "zero_points": zero_points}
    means = [bits_per_weight([shape], **options, floats=0) for shape in shapes]  # type: ignore[arg-type]
    codes = sum(outputs * inputs for outputs, inputs in shapes)
    return (codes * sum(means) / len(means) + 32 * floats) / (codes + floats)


def groups_of_one_row(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    right = bits_per_weight(shapes, bits=bits, group_size=group_size, zero_points=False, floats=floats)
    codes = sum(outputs * inputs for outputs, inputs in shapes)
    surplus = sum((outputs - 1) * inputs // (group_size or inputs) for outputs, inputs in shapes)
    groups = sum(inputs // (group_size or inputs) for _, inputs in shapes)
    return right + (groups * bits * zero_points - 16 * surplus) / (codes + floats)


def groups_of_the_layer(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    flat = [(1, outputs * inputs) for outputs, inputs in shapes]
    return bits_per_weight(flat, bits=bits, group_size=group_size, zero_points=zero_points, floats=floats)


def down_the_outputs(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    turned = [(inputs, outputs) for outputs, inputs in shapes]
    return bits_per_weight(turned, bits=bits, group_size=group_size, zero_points=zero_points, floats=floats)


def shorter_last_groups(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    codes = sum(outputs * inputs for outputs, inputs in shapes)
    groups = sum(outputs * -(-inputs // (group_size or inputs)) for outputs, inputs in shapes)
    return (codes * bits + groups * (16 + bits * zero_points) + 32 * floats) / (codes + floats)


def bytes_per_weight(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    return bits_per_weight(shapes, bits=bits, group_size=group_size, zero_points=zero_points, floats=floats) / 8


def all_bits(shapes: Shapes, *, bits: int, group_size: Size, zero_points: bool, floats: int) -> float:
    weights = floats + sum(outputs * inputs for outputs, inputs in shapes)
    right = bits_per_weight(shapes, bits=bits, group_size=group_size, zero_points=zero_points, floats=floats)
    return right * weights


def bits_cases() -> list[Case]:
    why = "a group size that does not divide the inputs of every layer"
    layers = [(8, 32), (64, 16), (32, 48)]
    return [
        case([(2, 8)], bits=4, group_size=4, zero_points=False, floats=0),
        case([(2, 8)], bits=4, group_size=4, zero_points=True, floats=0),
        case([(3, 8), (4, 2)], bits=3, group_size=2, zero_points=False, floats=5),
        case([(3, 8), (4, 2)], bits=2, group_size=None, zero_points=True, floats=7),
        case(list(layers), bits=4, group_size=16, zero_points=True, floats=1000),
        case(list(layers), bits=8, group_size=None, zero_points=False, floats=96),
        case(list(layers), bits=16, group_size=8, zero_points=True, floats=3),
        case([(6, 8), (9, 4)], bits=4, group_size=4, zero_points=True, floats=1),
        refusal(why, [(4, 6)], bits=4, group_size=4, zero_points=False, floats=0),
        refusal(why, [(4, 8), (8, 6)], bits=4, group_size=4, zero_points=True, floats=2),
        refusal(why, [(8, 6), (4, 8)], bits=3, group_size=4, zero_points=True, floats=2),
        refusal(why, [(8, 4)], bits=3, group_size=8, zero_points=False, floats=0),
        refusal(why, [(3, 5)], bits=3, group_size=2, zero_points=False, floats=0),
    ]


def drawn_bits(g: torch.Generator) -> Case:
    size = integer(g, 1, 8)
    shapes = [(integer(g, 1, 30), size * integer(g, 1, 6)) for _ in range(integer(g, 1, 4))]
    return case(
        shapes,
        bits=integer(g, 2, 8),
        group_size=(size, None)[integer(g, 0, 1)],
        zero_points=bool(integer(g, 0, 1)),
        floats=integer(g, 0, 200),
    )


EXERCISE = Exercise(
    id="18.2",
    title="bits per weight, all counted",
    question=(
        "Write `my_bits_per_weight(shapes, *, bits, group_size, zero_points, floats)`: how many bits a network takes "
        "per weight, with all that is stored. `shapes` lists the sizes (outputs, inputs) of the quantized layers. Each "
        "of their weights is a code of `bits` bits. Each row is cut into groups of `group_size` weights, or is one "
        "group if that is None, and each group has a scale of 16 bits; if `zero_points` is true, it also has a zero "
        "point, which takes `bits` bits as a code does. The network has `floats` more weights (embeddings, norms and "
        "biases), which stay in 32 bits each. Return all bits divided by all weights, those in 32 bits among them, as "
        "a number. If `group_size` does not divide the inputs of every layer, raise a `ValueError`."
    ),
    skeleton=(
        "def my_bits_per_weight(shapes, *, bits, group_size, zero_points, floats):\n"
        '    """Bits per weight of a network, with scales, zero points and what stays in 32 bits."""\n    ...'
    ),
    reference=bits_per_weight,
    alternatives=(bits_layer_by_layer, bits_by_counting),
    cases=bits_cases,
    drawn=drawn_bits,
    hints=(
        "Two sums over the layers: what is stored, in bits, and the number of weights. The division comes last.",
        "A layer has outputs · inputs / group_size groups. A group costs 16 bits, or 16 + bits.",
        "Start with `stored, weights = 32 * floats, floats`; for each layer add `outputs * inputs * bits` and "
        "`groups * (16 + bits)` or `groups * 16`.",
    ),
    misconceptions=(
        Misconception(
            "the scales forgotten",
            without_scales,
            "the scales are missing. With groups of 32 they are half a bit per weight: a 4-bit network takes 4.5",
        ),
        Misconception(
            "nothing but codes",
            nothing_but_codes,
            "you count codes alone. Without scales and zero points nobody can decode them: count both",
        ),
        Misconception(
            "zero points forgotten",
            without_zero_points,
            "the zero points are missing. Where `zero_points` is true each group has one, of `bits` bits",
        ),
        Misconception(
            "zero points always",
            always_zero_points,
            "you count zero points even where there are none: symmetric codes have their zero at code 0",
        ),
        Misconception(
            "zero points of 16 bits",
            wide_zero_points,
            "you count 16 bits for a zero point. It is a code like all others, of `bits` bits",
        ),
        Misconception("scales of 32 bits", wide_scales, "you count 32 bits for a scale. These scales take 16 bits"),
        Misconception(
            "without the floats",
            without_floats,
            "you leave out the weights that are not quantized. They are in the file, too, and in a small network they "
            "are a large part of it",
        ),
        Misconception(
            "floats for nothing",
            floats_for_nothing,
            "you count the weights in 32 bits among the weights, but not their bits: as if they were stored in nothing",
        ),
        Misconception(
            "floats not among the weights",
            floats_not_among_weights,
            "you count the bits of the weights in 32 bits, but divide by the quantized weights alone. Divide by all of "
            "them",
        ),
        Misconception(
            "floats in 16 bits",
            floats_in_half,
            "you count 16 bits for each weight that is not quantized. They stay in 32; 16 is for the scales",
        ),
        Misconception(
            "the mean over layers",
            mean_over_layers,
            "you average over layers. A small layer then counts as much as a large one: add up the bits, and divide "
            "once",
        ),
        Misconception(
            "the groups of one row",
            groups_of_one_row,
            "you count the groups of one row for the whole layer. Each of its rows has as many",
        ),
        Misconception(
            "groups of the whole layer",
            groups_of_the_layer,
            "your groups take no notice of the rows. Without a group size you count one scale for the whole layer; "
            "each row has its own",
        ),
        Misconception(
            "groups down the outputs",
            down_the_outputs,
            "you took the sizes the other way round. A shape is (outputs, inputs), and a group lies within one output",
        ),
        Misconception(
            "shorter last groups",
            shorter_last_groups,
            "you round the number of groups up where the size does not divide the inputs. Raise a `ValueError` there",
        ),
        Misconception("bytes", bytes_per_weight, "these are bytes per weight. A byte has 8 bits"),
        Misconception("all bits", all_bits, "these are all bits together. Divide by the number of weights"),
    ),
    shows="a network in b bits takes more than b bits per weight; how many more, the group size decides.",
    derivation=(
        "A quantized weight takes bits + 16 / group_size, with a zero point bits + (16 + bits) / group_size: 4 bits in "
        "groups of 32 are 4.5 or 4.625. A fraction f of weights in 32 bits makes (1 - f) times that, plus 32 f: with f "
        "= 0.1 it is 7.25 instead of 4.5. On small groups and all bits of a model: "
        "Dettmers, Zettlemoyer 2023, arXiv:2212.09720."
    ),
    forbidden=("kdcourse.quantization.bits_per_weight",),
)
