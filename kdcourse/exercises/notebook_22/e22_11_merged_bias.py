"""22.11 an adapter that changes when it is merged."""

from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Merged = tuple[Tensor, Tensor | None]


def merged_layer(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    scale = alpha / down.shape[0]
    added = None if up_bias is None else scale * up_bias
    if bias is None:
        return weight + scale * up @ down, added
    return weight + scale * up @ down, bias.clone() if added is None else bias + added


def merged_by_zeros(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    scale, new = alpha / up.shape[1], None
    for vector, factor in ((bias, 1.0), (up_bias, scale)):
        if vector is not None:
            new = factor * vector if new is None else new + factor * vector
    return weight.addmm(up, down, alpha=scale), new


def merged_in_one_matrix(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    rank, _ = down.shape
    weight = weight + (up * alpha) @ (down / rank)
    if bias is None and up_bias is None:
        return weight, None
    total = weight.new_zeros(len(weight))
    total += 0 if bias is None else bias
    total += 0 if up_bias is None else up_bias / rank * alpha
    return weight, total


def _merged(
    weight: Tensor, bias: Tensor | None, product: Tensor, up_bias: Tensor | None, scale: float, bias_scale: float
) -> Merged:
    if up_bias is None:
        return weight + scale * product, bias if bias is None else bias.clone()
    return weight + scale * product, bias_scale * up_bias + (0 if bias is None else bias)


def bias_unscaled(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    return _merged(weight, bias, up @ down, up_bias, alpha / len(down), 1.0)


def bias_by_alpha(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    return _merged(weight, bias, up @ down, up_bias, alpha / len(down), alpha)


def all_by_alpha(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    return _merged(weight, bias, up @ down, up_bias, alpha, alpha)


def nothing_scaled(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    return _merged(weight, bias, up @ down, up_bias, 1.0, 1.0)


def bias_scaled_twice(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    return _merged(weight, bias, up @ down, up_bias, alpha / len(down), (alpha / len(down)) ** 2)


def outputs_for_the_rank(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    return _merged(weight, bias, up @ down, up_bias, alpha / len(up), alpha / len(up))


def base_bias_scaled(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    scale = alpha / len(down)
    return _merged(weight, bias if bias is None else scale * bias, up @ down, up_bias, scale, scale)


def bias_forgotten(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    return _merged(weight, bias, up @ down, None, alpha / len(down), 1.0)


def bias_replaced(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    scale = alpha / len(down)
    return _merged(weight, bias if up_bias is None else None, up @ down, up_bias, scale, scale)


def lost_without_a_base(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    merged = merged_layer(weight, down, up, bias=bias, up_bias=up_bias, alpha=alpha)
    return merged[0], None if bias is None else merged[1]


def zeros_for_none(
    weight: Tensor, down: Tensor, up: Tensor, *, bias: Tensor | None, up_bias: Tensor | None, alpha: float
) -> Merged:
    merged = merged_layer(weight, down, up, bias=bias, up_bias=up_bias, alpha=alpha)
    return merged[0], weight.new_zeros(len(weight)) if merged[1] is None else merged[1]


def layer(outputs: int, inputs: int, rank: int, seed: int | object, *, base: bool, own: bool, alpha: float) -> Case:
    def some(*shape: int) -> Tensor:
        nonlocal seed
        found = draw(*shape, seed=seed)  # type: ignore[arg-type]
        seed = seed + 1 if isinstance(seed, int) else seed
        return found

    bias, up_bias = some(outputs) if base else None, some(outputs) if own else None
    weights = some(outputs, inputs), some(rank, inputs), some(outputs, rank)
    return case(*weights, bias=bias, up_bias=up_bias, alpha=alpha)


def merge_cases() -> list[Case]:
    return [
        layer(2, 3, 1, 280, base=True, own=True, alpha=2.0),
        layer(3, 2, 2, 285, base=True, own=True, alpha=8.0),
        layer(4, 5, 2, 290, base=True, own=True, alpha=2.0),
        layer(3, 4, 2, 295, base=False, own=True, alpha=3.0),
        layer(3, 4, 3, 300, base=True, own=False, alpha=1.0),
        layer(2, 2, 2, 305, base=False, own=False, alpha=5.0),
    ]


def drawn_merge(g: object) -> Case:
    def some(low: int, high: int) -> int:
        return integer(g, low, high)  # type: ignore[arg-type]

    sizes = some(2, 6), some(2, 6), some(1, 4)
    return layer(*sizes, g, base=some(0, 2) > 0, own=some(0, 2) > 0, alpha=some(1, 8))


EXERCISE = Exercise(
    id="22.11",
    title="an adapter that changes when it is merged",
    question=(
        "A layer with weight W (n, m) and bias b was trained with an adapter: it computes "
        "W x + b + (alpha / r) · (up · (down · x) + up_bias) with `down` (r, m) and `up` (n, r). Fix `case_11` as "
        "`fixed_11(weight, down, up, *, bias, up_bias, alpha)`: return `(weight, bias)`, new tensors, of the one "
        "layer that computes the same for every x. Both `bias` and `up_bias` may be None, which is as if they were 0; "
        "only where both are None, the new bias is None. Leave the arguments as they are."
    ),
    skeleton=(
        "def fixed_11(weight, down, up, *, bias, up_bias, alpha):\n"
        '    """Weight and bias of the layer with its adapter merged."""\n    ...'
    ),
    reference=merged_layer,
    alternatives=(merged_by_zeros, merged_in_one_matrix),
    cases=merge_cases,
    drawn=drawn_merge,
    hints=(
        "With alpha = r the merged layer is exact. What does alpha / r multiply, before and after merging?",
        "Multiply out the bracket: alpha / r stands before the adapter's bias as well.",
        "The new bias is `bias + alpha / r * up_bias`.",
    ),
    misconceptions=(
        Misconception(
            "the adapter's bias unscaled",
            bias_unscaled,
            "the adapter's bias is added without alpha / r. The layer that was trained had it inside the bracket. "
            "Tests with alpha = r cannot see it",
        ),
        Misconception(
            "the bias times alpha",
            bias_by_alpha,
            "the adapter's bias is multiplied by alpha alone: divide by the rank as well",
        ),
        Misconception(
            "everything times alpha",
            all_by_alpha,
            "the rank is missing in the weight and in the bias: the factor is alpha / r",
        ),
        Misconception(
            "nothing scaled",
            nothing_scaled,
            "the factor alpha / r is missing in both, so now the weight is wrong as well. In the program only the "
            "bias was",
        ),
        Misconception(
            "the bias scaled twice",
            bias_scaled_twice,
            "the adapter's bias has the factor alpha / r twice",
        ),
        Misconception(
            "the outputs for the rank",
            outputs_for_the_rank,
            "you divide by the number of outputs. The rank r is the number of rows of `down`, or of columns of `up`",
        ),
        Misconception(
            "the layer's own bias scaled",
            base_bias_scaled,
            "you scale the layer's own bias, too. It stands outside the bracket",
        ),
        Misconception(
            "the adapter's bias forgotten",
            bias_forgotten,
            "the adapter's bias is not merged at all: it is part of what was trained",
        ),
        Misconception(
            "the bias replaced",
            bias_replaced,
            "the adapter's bias replaces the layer's own. They add up",
        ),
        Misconception(
            "lost where the layer has none",
            lost_without_a_base,
            "right where the layer has a bias of its own. Where it has none, the adapter's is still needed: the merged "
            "layer gets a bias that the old one did not have",
        ),
        Misconception(
            "zeros for None",
            zeros_for_none,
            "right but where both are None: then the merged layer has no bias either, and the result is None",
        ),
    ),
    shows="a test whose factor is 1 proves nothing about that factor.",
    derivation=(
        "(alpha / r)(up down x + up_bias) = (alpha / r) up down x + (alpha / r) up_bias: the first joins the weight, "
        "the second the bias."
    ),
)
