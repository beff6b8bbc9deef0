"""18.7 keys one way, values the other."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import table

Cache = tuple[Tensor, Tensor]


def round_cache(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    results = []
    for cache, dim in ((keys, 1), (values, 2)):
        filled = cache[:, :length]
        low, high = filled.amin(dim=dim, keepdim=True), filled.amax(dim=dim, keepdim=True)
        step = (high - low) / (2**bits - 1)
        step = torch.where(step > 0, step, 1.0)
        result = torch.zeros_like(cache)
        result[:, :length] = low + step * torch.round((filled - low) / step)
        results.append(result)
    return results[0], results[1]


def round_cache_by_loops(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    new_keys, new_values = torch.zeros_like(keys), torch.zeros_like(values)
    for head in range(keys.shape[0]):
        for channel in range(keys.shape[2]):
            new_keys[head, :length, channel] = _line(keys[head, :length, channel], bits)
        for token in range(length):
            new_values[head, token] = _line(values[head, token], bits)
    return new_keys, new_values


def _line(numbers: Tensor, bits: int) -> Tensor:
    low, high = min(numbers.tolist()), max(numbers.tolist())
    if low == high:
        return numbers
    step = (high - low) / (2**bits - 1)
    return low + step * torch.round((numbers - low) / step)


def round_cache_by_masking(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    """On the whole cache, with the unused slots replaced by the first token, which changes no range."""
    used = torch.arange(keys.shape[1])[:, None] < length
    found = []
    for cache, dim in ((keys, -2), (values, -1)):
        filled = torch.where(used, cache, cache[:, :1])
        low = filled.min(dim, keepdim=True).values
        span = filled.max(dim, keepdim=True).values - low
        codes = torch.round((filled - low) / span * (2**bits - 1)).nan_to_num(0.0)
        found.append((low + codes * span / (2**bits - 1)).masked_fill(~used, 0.0))
    return found[0], found[1]


def _rounded(filled: Tensor, dims: int | tuple[int, ...], bits: int) -> Tensor:
    return _on_range(filled, filled.amin(dim=dims, keepdim=True), filled.amax(dim=dims, keepdim=True), bits)


def _on_range(filled: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    step = (high - low) / (2**bits - 1)
    step = torch.where(step > 0, step, 1.0)
    return low + step * ((filled - low) / step).round()


def _placed(new_keys: Tensor, new_values: Tensor, tokens: int) -> Cache:
    """With zeros behind, up to the size of the cache."""
    short = tokens - new_keys.shape[1]
    return torch.nn.functional.pad(new_keys, (0, 0, 0, short)), torch.nn.functional.pad(new_values, (0, 0, 0, short))


def _both(
    keys: Tensor, values: Tensor, length: int, bits: int, k: int | tuple[int, ...], v: int | tuple[int, ...]
) -> Cache:
    return _placed(_rounded(keys[:, :length], k, bits), _rounded(values[:, :length], v, bits), keys.shape[1])


def the_other_way(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    return _both(keys, values, length, bits, 2, 1)


def both_per_token(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    return _both(keys, values, length, bits, 2, 2)


def both_per_channel(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    return _both(keys, values, length, bits, 1, 1)


def heads_together(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    return _both(keys, values, length, bits, (0, 1), (0, 2))


def one_range_per_head(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    return _both(keys, values, length, bits, (1, 2), (1, 2))


def unused_slots_read(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    new_keys, new_values = _rounded(keys, 1, bits), _rounded(values, 2, bits)
    return _placed(new_keys[:, :length], new_values[:, :length], keys.shape[1])


def unused_slots_as_zeros(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    cleared = _placed(keys[:, :length], values[:, :length], keys.shape[1])
    return unused_slots_read(*cleared, length=length, bits=bits)


def unused_slots_kept(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    filled = torch.arange(keys.shape[1])[:, None] < length
    new_keys, new_values = round_cache(keys, values, length=length, bits=bits)
    return torch.where(filled, new_keys, keys), torch.where(filled, new_values, values)


def zero_in_the_range(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    found = []
    for filled, dim in ((keys[:, :length], 1), (values[:, :length], 2)):
        low, high = filled.amin(dim=dim, keepdim=True), filled.amax(dim=dim, keepdim=True)
        found.append(_on_range(filled, low.clamp(max=0), high.clamp(min=0), bits))
    return _placed(found[0], found[1], keys.shape[1])


def _changed(keys: Tensor, values: Tensor, length: int, steps: int, way: str = "") -> Cache:
    """As asked for, but with another number of steps, or without one of its parts."""
    found = []
    for cache, dim in ((keys, 1), (values, 2)):
        filled = cache[:, :length]
        low = filled.amin(dim=dim, keepdim=True)
        step = (filled.amax(dim=dim, keepdim=True) - low) / steps
        codes = ((filled - low) / (step if way == "nan" else step.where(step > 0, 1.0))).round()
        found.append(codes if way == "codes" else step * codes if way == "low" else low + step * codes)
    return _placed(found[0], found[1], keys.shape[1])


def a_step_too_many(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    return _changed(keys, values, length, 2**bits)


def the_codes(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    return _changed(keys, values, length, 2**bits - 1, "codes")


def minimum_forgotten(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    return _changed(keys, values, length, 2**bits - 1, "low")


def nan_for_constants(keys: Tensor, values: Tensor, *, length: int, bits: int) -> Cache:
    return _changed(keys, values, length, 2**bits - 1, "nan")


def _case(seed: int | torch.Generator, sizes: tuple[int, int, int], length: int, bits: int, behind: float) -> Case:
    """Keys with channels far from zero, values with tokens of different sizes."""
    heads, tokens, channels = sizes
    keys = draw(heads, tokens, channels, seed=seed, spread=1.0)
    keys = keys + 10 * torch.arange(1, channels + 1) * (-1.0) ** torch.arange(channels)
    values = draw(heads, tokens, channels, seed=seed + 1 if isinstance(seed, int) else seed, spread=1.0)
    values = (values + 4) * torch.arange(1.0, tokens + 1)[:, None]
    keys[:, length:], values[:, length:] = behind, -behind
    return case(keys, values, length=length, bits=bits)


def cache_cases() -> list[Case]:
    keys = table([[1.0, -10.0], [4.0, -10.0], [2.2, -10.0]])[None]
    values = table([[0.5, 3.0], [2.0, 2.0], [-1.0, 0.0]])[None]
    ties = table([[0.0, 5.0], [0.5, 6.5], [1.5, 7.5], [3.0, 8.0]])[None]
    nan = float("nan")
    return [
        case(keys, values, length=3, bits=2),
        case(torch.cat([keys, keys + 1e6], 1), torch.cat([values, values - 1e6], 1), length=3, bits=2),
        case(ties, ties.clone() * 2, length=4, bits=2),
        _case(10, (2, 5, 4), 5, 3, 0.0),
        _case(20, (2, 6, 3), 4, 2, 1000.0),
        _case(30, (3, 5, 4), 3, 4, nan),
        _case(40, (2, 4, 6), 1, 2, nan),
        _case(50, (2, 7, 3), 5, 2, 0.0),
        _case(60, (1, 4, 5), 3, 8, 0.0),
    ]


def drawn_cache(g: torch.Generator) -> Case:
    sizes = integer(g, 1, 3), integer(g, 2, 6), integer(g, 2, 5)
    behind = (0.0, 1e4, float("nan"))[integer(g, 0, 2)]
    return _case(g, sizes, integer(g, 1, sizes[1]), integer(g, 2, 5), behind)


EXERCISE = Exercise(
    id="18.7",
    title="keys one way, values the other",
    question=(
        "`keys` and `values` are the cache of one attention layer, floating-point tensors (heads, tokens, channels). "
        "Only the first `length` tokens are filled, at least one. What stands in the slots behind them means nothing: "
        "it may be anything, NaN included. Write `my_round_cache(keys, values, *, length, bits)`: the two tensors, "
        "keys first, of the same shapes, as codes of `bits` bits would stand for them. Numbers that are rounded "
        "together have a minimum, a maximum and step = (maximum - minimum) / (2^bits - 1); each becomes minimum + step "
        "· k with the integer k nearest to (x - minimum) / step, ties to the even integer. If the maximum is equal to "
        "the minimum, they stay as they are. Keys are rounded per channel: together with the other filled tokens of "
        "the same head and channel. Values are rounded per token: together with the other channels of the same head "
        "and token. All slots behind the filled ones become 0."
    ),
    skeleton=(
        "def my_round_cache(keys, values, *, length, bits):\n"
        '    """Keys rounded per channel, values per token, and zeros behind."""\n    ...'
    ),
    reference=round_cache,
    alternatives=(round_cache_by_loops, round_cache_by_masking),
    cases=cache_cases,
    drawn=drawn_cache,
    hints=(
        "Over which dimension does a minimum per channel run? Over the one that is not named.",
        "Cut off the slots first: `filled = cache[:, :length]`. Keys take minimum and maximum over the tokens, dim=1, "
        "values over the channels, dim=2, both with `keepdim=True`.",
        "`step = torch.where(high > low, (high - low) / (2**bits - 1), 1.0)`, then `low + step * torch.round((filled - "
        "low) / step)` goes into the first `length` tokens of `torch.zeros_like(cache)`.",
    ),
    misconceptions=(
        Misconception(
            "the other way",
            the_other_way,
            "you round the keys per token and the values per channel. A few channels of the keys are large, and per "
            "token they decide the step of all others",
        ),
        Misconception(
            "both per token",
            both_per_token,
            "you round the keys per token, too. A few of their channels are large, and then decide the step of all "
            "others: keys go per channel",
        ),
        Misconception(
            "both per channel",
            both_per_channel,
            "you round the values per channel, too. Attention adds up whole tokens, so each token's values get a range "
            "of their own",
        ),
        Misconception(
            "the heads together",
            heads_together,
            "you take minimum and maximum over the heads, too. Each head has channels and ranges of its own",
        ),
        Misconception(
            "one range per head",
            one_range_per_head,
            "you take one minimum and maximum for a whole head. The largest channel decides the step of all of them",
        ),
        Misconception(
            "unused slots read",
            unused_slots_read,
            "you take minimum and maximum over the slots that are not filled, too. What stands there widens the range "
            "of every channel: cut it off first",
        ),
        Misconception(
            "unused slots as zeros",
            unused_slots_as_zeros,
            "you set the slots behind to 0 before you take minimum and maximum. A channel that lies far from 0 then "
            "gets a range up to 0: cut the slots off first",
        ),
        Misconception(
            "unused slots kept",
            unused_slots_kept,
            "you leave in the slots behind what stood there. They become 0",
        ),
        Misconception(
            "zero in the range",
            zero_in_the_range,
            "you widen the range so that it has 0 in it, as for weights. A channel of keys may lie far from 0, and all "
            "its codes would go there",
        ),
        Misconception(
            "a step too many",
            a_step_too_many,
            "you divide the range into 2^bits steps. That takes one code more than there are: 2^bits codes have 2^bits "
            "- 1 steps between them",
        ),
        Misconception("the codes", the_codes, "these are the codes. Return what they stand for: minimum + step · code"),
        Misconception(
            "the minimum forgotten",
            minimum_forgotten,
            "you do not add the minimum again. For keys that happens to change no attention, for values it does",
        ),
        Misconception(
            "NaN for constants",
            nan_for_constants,
            "where maximum and minimum are equal, the step is 0, and 0 / 0 is NaN. The first token of a text is such a "
            "case for all keys",
        ),
    ),
    shows="keys and values differ in where their large numbers lie, and so in what is rounded together.",
    derivation=(
        "The error is at most half a step, and the step follows the range of what is rounded together. Adding c to all "
        "keys of a head adds q·c to every score, and softmax takes it out again: a channel's distance from 0 carries "
        "nothing, so keys need no codes for it. Values have no such symmetry. Source: Liu et al. 2024, "
        "arXiv:2402.02750, sections 3 and 4.1."
    ),
    forbidden=("kdcourse.quantization.quantize_cache",),
)
