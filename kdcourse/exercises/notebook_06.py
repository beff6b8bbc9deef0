"""Exercises of notebook 06: filters scored, channels removed with all that belongs to them, and what that is worth."""

import math
from copy import deepcopy
from statistics import fmean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from kdcourse.metrics import paired_interval

from .core import Case, Exercise, Misconception, case, draw

# --- 06.1 -------------------------------------------------------------------------------------------------------------


def filter_scores(weight: Tensor) -> Tensor:
    return weight.abs().sum(dim=(1, 2, 3))


def scores_by_norm(weight: Tensor) -> Tensor:
    return torch.linalg.vector_norm(weight.flatten(1), ord=1, dim=1)


def scores_one_by_one(weight: Tensor) -> Tensor:
    return torch.stack([sum(kernel.abs().sum() for kernel in filter) for filter in weight])


def scores_of_inputs(weight: Tensor) -> Tensor:
    return weight.abs().sum(dim=(0, 2, 3))


def sum_with_signs(weight: Tensor) -> Tensor:
    return weight.sum(dim=(1, 2, 3))


def sign_taken_last(weight: Tensor) -> Tensor:
    return weight.sum(dim=(1, 2, 3)).abs()


def root_of_squares(weight: Tensor) -> Tensor:
    return weight.square().sum(dim=(1, 2, 3)).sqrt()


def largest_weight(weight: Tensor) -> Tensor:
    return weight.abs().amax(dim=(1, 2, 3))


def mean_weight(weight: Tensor) -> Tensor:
    return weight.abs().mean(dim=(1, 2, 3))


def filter_cases() -> list[Case]:
    small = torch.tensor([[[[1.0, -2.0]], [[3.0, 0.0]]], [[[-4.0, 1.0]], [[0.0, -2.0]]]], dtype=torch.float64)
    return [case(small), case(draw(4, 3, 3, 3, seed=600, spread=1.0)), case(draw(3, 3, 5, 5, seed=601, spread=1.0))]


FILTER_SCORES = Exercise(
    id="06.1",
    title="a score for every filter",
    question=(
        "`weight` belongs to a convolution and has the shape (outputs, inputs, height, width). Each output channel has "
        "one filter. Write `my_filter_scores(weight)`: the L1 norm of every filter, a tensor (outputs,)."
    ),
    skeleton=(
        'def my_filter_scores(weight):\n    """The L1 norm of each filter of a convolution, (outputs,)."""\n    ...'
    ),
    reference=filter_scores,
    alternatives=(scores_by_norm, scores_one_by_one),
    cases=filter_cases,
    hints=(
        "Which dimension of `weight` tells the filters apart? The others are summed over.",
        "The L1 norm is the sum of the absolute values. Take them before you sum.",
        "`weight.abs().sum(dim=(1, 2, 3))`.",
    ),
    misconceptions=(
        Misconception(
            "scores of the input channels",
            scores_of_inputs,
            "you score the input channels: what all filters together read from each. A filter is `weight[k]`, so "
            "dimension 0 must stay",
        ),
        Misconception(
            "signs not taken off",
            sum_with_signs,
            "you sum the weights with their signs. Positive and negative ones cancel, so a strong edge filter would "
            "score near 0 and go first",
        ),
        Misconception(
            "absolute value of the sum",
            sign_taken_last,
            "the absolute value comes too late: inside the sum the weights have already cancelled. A strong edge "
            "filter would score near 0",
        ),
        Misconception(
            "L2 for L1",
            root_of_squares,
            "this is the L2 norm. It counts one large weight for more than many middling ones, and can order the "
            "filters differently",
        ),
        Misconception(
            "the largest weight alone",
            largest_weight,
            "this is each filter's largest weight. A filter with one spike then beats one that is strong all over",
        ),
        Misconception(
            "the mean instead of the sum",
            mean_weight,
            "this is the mean of the absolute values. Within a layer the order is the same, but layers "
            "with filters of another size compare differently",
        ),
    ),
    shows="a filter is all that one output channel reads, and its L1 norm is the sum of its absolute weights.",
    derivation=(
        "Filter k is weight[k], with inputs · height · width numbers: s_k = Σ |w| over them. "
        "Source: Li et al. 2017, arXiv:1608.08710."
    ),
    forbidden=("kdcourse.pruning.channel_scores",),
)

# --- 06.2 -------------------------------------------------------------------------------------------------------------

Chain = tuple[nn.Module, nn.Module, nn.Module]


def slim_chain(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    count = len(kept)
    slim_conv = nn.Conv2d(conv.in_channels, count, conv.kernel_size, stride=conv.stride, padding=conv.padding)
    slim_conv.load_state_dict({name: tensor[kept] for name, tensor in conv.state_dict().items()})
    slim_norm = nn.BatchNorm2d(count, eps=norm.eps)
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(slim_norm, name).data = getattr(norm, name).detach()[kept]
    features = reader.weight.shape[1] // conv.out_channels  # of one channel: more than 1 after a flatten
    inputs = (kept[:, None] * features + torch.arange(features)).flatten()
    slim_reader = deepcopy(reader)
    slim_reader.weight = nn.Parameter(reader.weight.detach()[:, inputs])
    if isinstance(reader, nn.Linear):
        slim_reader.in_features = len(inputs)
    else:
        slim_reader.in_channels = len(inputs)
    return slim_conv, slim_norm, slim_reader


def _take(layer: nn.Module, dimension: int, places: Tensor, *names: str) -> nn.Module:
    """A copy of a layer with some places of the tensors that are named."""
    smaller = deepcopy(layer)
    for name in names:
        part = getattr(layer, name).detach().index_select(dimension, places)
        setattr(smaller, name, nn.Parameter(part) if isinstance(getattr(layer, name), nn.Parameter) else part)
    return smaller


def _blocks(conv: nn.Conv2d, reader: nn.Module, channels: Tensor) -> Tensor:
    """The inputs of the reader that belong to the channels."""
    features = reader.get_parameter("weight").shape[1] // conv.out_channels
    return torch.cat([torch.arange(features) + int(channel) * features for channel in channels])


NORM = ("weight", "bias", "running_mean", "running_var")


def slim_by_copies(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    inputs = _blocks(conv, reader, kept)
    return _take(conv, 0, kept, "weight", "bias"), _take(norm, 0, kept, *NORM), _take(reader, 1, inputs, "weight")


def slim_by_shape(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    slim_conv, slim_norm, slim_reader = deepcopy(conv), deepcopy(norm), deepcopy(reader)
    for layer in (slim_conv, slim_norm):
        for parameter in layer.parameters():
            parameter.data = parameter.data[kept]
    slim_norm.running_mean, slim_norm.running_var = norm.running_mean[kept], norm.running_var[kept]
    weight = reader.weight.data
    by_channel = weight.reshape(len(weight), len(conv.weight), -1)[:, kept]
    slim_reader.weight.data = by_channel.reshape(len(weight), -1, *weight.shape[2:])
    return slim_conv, slim_norm, slim_reader


def slim_by_a_mask(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    chosen = torch.isin(torch.arange(conv.out_channels), kept)
    columns = chosen.repeat_interleave(reader.weight.shape[1] // conv.out_channels).nonzero().flatten()
    places = chosen.nonzero().flatten()
    return _take(conv, 0, places, "weight", "bias"), _take(norm, 0, places, *NORM), _take(reader, 1, columns, "weight")


def first_norm_entries(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    slim_conv, _, slim_reader = slim_by_copies(conv, norm, reader, kept)
    return slim_conv, _take(norm, 0, torch.arange(len(kept)), *NORM), slim_reader


def statistics_forgotten(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    slim_conv, _, slim_reader = slim_by_copies(conv, norm, reader, kept)
    fresh = nn.BatchNorm2d(len(kept), eps=norm.eps)
    fresh.weight.data, fresh.bias.data = norm.weight.data[kept], norm.bias.data[kept]
    return slim_conv, fresh, slim_reader


def fresh_norm(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    slim_conv, _, slim_reader = slim_by_copies(conv, norm, reader, kept)
    return slim_conv, nn.BatchNorm2d(len(kept), eps=norm.eps), slim_reader


def first_inputs(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    slim_conv, slim_norm, _ = slim_by_copies(conv, norm, reader, kept)
    return slim_conv, slim_norm, _take(reader, 1, _blocks(conv, reader, torch.arange(len(kept))), "weight")


def columns_interleaved(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    slim_conv, slim_norm, _ = slim_by_copies(conv, norm, reader, kept)
    features = reader.weight.shape[1] // conv.out_channels
    columns = torch.cat([kept + place * conv.out_channels for place in range(features)])
    return slim_conv, slim_norm, _take(reader, 1, columns, "weight")


def first_columns_of_the_flat(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    slim_conv, slim_norm, _ = slim_by_copies(conv, norm, reader, kept)
    features = reader.weight.shape[1] // conv.out_channels
    return slim_conv, slim_norm, _take(reader, 1, kept.repeat_interleave(features), "weight")


def bias_forgotten(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    slim_conv, slim_norm, slim_reader = slim_by_copies(conv, norm, reader, kept)
    slim_conv.bias = None  # type: ignore[assignment]
    return slim_conv, slim_norm, slim_reader


def given_layers_cut(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    slim = slim_by_copies(conv, norm, reader, kept)
    for layer, smaller in zip((conv, norm, reader), slim, strict=True):
        for name in {**layer._parameters, **layer._buffers}:
            setattr(layer, name, getattr(smaller, name))
    return conv, norm, reader


def run_chain(layers: Any, images: Tensor) -> Tensor:
    """What the three layers compute in eval mode and float64; nothing where they do not fit together."""
    conv, norm, reader = (deepcopy(layer).double().eval() for layer in layers)
    try:
        with torch.no_grad():
            hidden = F.relu(norm(conv(images)))
            result: Tensor = reader(hidden.flatten(1) if isinstance(reader, nn.Linear) else hidden)
    except RuntimeError:
        return torch.zeros(0, dtype=torch.float64)
    return result.flatten(1)


def both_chains(result: Any, case: Case) -> Any:
    """Sizes and output of the smaller layers, and whether those given still compute what they did."""
    given = case.arguments[:3]
    conv, norm, reader = result
    sizes = [len(conv.weight), len(norm.running_mean), reader.weight.shape[1]]
    images = draw(2, given[0].in_channels, 4, 4, seed=610, spread=1.0)
    return {
        "channels of conv and norm, inputs of reader": sizes,
        "output (empty: the layers do not fit together)": run_chain(result, images),
        "output of the layers given": run_chain(given, images),
    }


def chain_of(channels: int, reader: nn.Module, *, seed: int) -> Chain:
    """A convolution on (N, 1, 4, 4), a batch norm that has seen images, and what reads them; float32, eval mode."""
    conv, norm = nn.Conv2d(1, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels)
    layers = (conv.float().eval(), norm.float().eval(), reader.float().eval())
    with torch.no_grad():
        for place, layer in enumerate(layers):
            for number, tensor in enumerate([*layer.parameters(), *layer.buffers()]):
                if tensor.ndim:
                    tensor.copy_(draw(*tensor.shape, seed=seed + 10 * place + number, spread=1.0))
        for positive in (norm.weight, norm.running_var):
            assert positive is not None
            positive.abs_().add_(0.5)
    return layers


def chain_cases() -> list[Case]:
    return [
        case(*chain_of(3, nn.Linear(12, 2), seed=620), torch.tensor([0, 2])),
        case(*chain_of(5, nn.Conv2d(5, 2, 3, stride=2, padding=1), seed=660), torch.tensor([1, 2, 4])),
        case(*chain_of(5, nn.Linear(20, 3), seed=700), torch.tensor([1, 4])),
    ]


SLIM_CHAIN = Exercise(
    id="06.2",
    title="a channel and all that belongs to it",
    question=(
        "Three layers follow one another: `conv`, a Conv2d with a bias; `norm`, its BatchNorm2d; then a ReLU; then "
        "`reader`. The reader is a Conv2d, or a Linear behind a flatten from dimension 1. Write "
        "`my_slim_chain(conv, norm, reader, kept)`: three *new* layers with the channels `kept` only, as a tuple. "
        "`kept` holds ascending channel numbers, int64. In eval mode the new chain must compute what the old one does "
        "if the other channels are 0 behind the ReLU. Stride, padding and eps stay. Leave the layers given as they are."
    ),
    skeleton=(
        "def my_slim_chain(conv, norm, reader, kept):\n"
        '    """(conv, norm, reader) with only the channels that are kept."""\n    ...'
    ),
    reference=slim_chain,
    alternatives=(slim_by_copies, slim_by_shape, slim_by_a_mask),
    cases=chain_cases,
    hints=(
        "Go through every tensor that has one entry, one row or one column for each channel. There are more than two.",
        "conv: weight and bias. norm: scale, shift, running mean and variance. reader: dimension 1 of its weight, "
        "where a flatten makes a block of neighbouring columns out of each channel.",
        "With f = inputs of the reader // channels of conv, channel k owns the columns k·f to k·f + f - 1: "
        "`(kept[:, None] * f + torch.arange(f)).flatten()`.",
    ),
    misconceptions=(
        Misconception(
            "the first entries of the norm",
            first_norm_entries,
            "you keep the first entries of the norm, not those of the channels kept. All shapes fit, and each filter "
            "meets the statistics of another",
        ),
        Misconception(
            "running statistics forgotten",
            statistics_forgotten,
            "the norm's scale and shift are taken over, its running mean and variance are not. They are no parameters, "
            "but in eval mode they decide what comes out",
        ),
        Misconception(
            "a new norm",
            fresh_norm,
            "your norm is a new one: scale 1, shift 0, mean 0, variance 1. A channel takes its entries of the norm "
            "with it",
        ),
        Misconception(
            "the first inputs of the reader",
            first_inputs,
            "the reader keeps its first inputs, not those of the channels kept. All shapes fit, and its weights read "
            "channels that they were not trained for",
        ),
        Misconception(
            "columns interleaved",
            columns_interleaved,
            "behind the flatten you take the columns as if the channels took turns. Flatten puts all places of one "
            "channel side by side, so a channel is a block",
        ),
        Misconception(
            "channel numbers for columns",
            first_columns_of_the_flat,
            "behind the flatten you use channel numbers as column numbers, repeated until the width fits. Channel k "
            "owns a block of columns that starts at k times the places of a channel",
        ),
        Misconception(
            "the bias of conv forgotten",
            bias_forgotten,
            "the convolution lost its bias. The norm's running mean was measured with it, so every channel is now "
            "shifted",
        ),
        Misconception(
            "the layers given were cut",
            given_layers_cut,
            "the new chain is right, but you cut the layers that were given. Nothing is left to compare with, and a "
            "second try would start from the cut ones",
        ),
    ),
    shows="a channel is its filter, its bias, four numbers of its norm, and a block of what the next layer reads.",
    derivation=(
        "Behind the ReLU the reader adds Σ_k W_k h_k over the channels. If h_k is 0 for those that go, their blocks "
        "W_k add nothing and can go too. Each h_k = relu(γ_k (w_k * x + b_k - μ_k) / √(v_k + eps) + β_k) needs all of "
        "its own numbers and no others."
    ),
    forbidden=("kdcourse.pruning.prune_filters",),
    observe=both_chains,
    absolute=1e-6,
    points=2,
)

# --- 06.3 -------------------------------------------------------------------------------------------------------------


def constant_channels(weight: Tensor, norm: Any) -> Tensor:
    constant = (weight == 0).flatten(1).all(dim=1) | (norm.weight == 0)
    spread = torch.sqrt(norm.running_var + norm.eps)
    left = torch.relu(norm.bias - norm.weight * norm.running_mean / spread)
    return torch.where(constant, left, torch.nan)


def constants_by_the_norm(weight: Tensor, norm: Any) -> Tensor:
    left = F.relu(norm(torch.zeros(1, len(weight), 1, 1, dtype=weight.dtype))).flatten()
    reads = weight.abs().sum(dim=(1, 2, 3)) * norm.weight.abs()
    return left.masked_fill(reads > 0, float("nan"))


def constants_one_by_one(weight: Tensor, norm: Any) -> Tensor:
    found = []
    for filter, g, b, m, v in zip(weight, norm.weight, norm.bias, norm.running_mean, norm.running_var, strict=True):
        depends = bool(filter.any()) and bool(g != 0)
        found.append(math.nan if depends else max(0.0, float(b - g * m / math.sqrt(v + norm.eps))))
    return torch.tensor(found, dtype=torch.float64)


def constants_by_images(weight: Tensor, norm: Any) -> Tensor:
    images = draw(3, weight.shape[1], 5, 5, seed=640)
    seen = norm(F.conv2d(images, weight)).transpose(0, 1).flatten(1)
    left = seen[:, 0].clamp(min=0)
    return torch.where(seen.amax(dim=1) == seen.amin(dim=1), left, torch.nan)


def _masked(weight: Tensor) -> Tensor:
    return (weight == 0).flatten(1).all(dim=1)


def _off(weight: Tensor, norm: Any) -> Tensor:
    return _masked(weight) | (norm.weight == 0)


def zero_filter_gives_zero(weight: Tensor, norm: Any) -> Tensor:
    return torch.where(_masked(weight), 0.0, constant_channels(weight, norm))


def dead_means_zero(weight: Tensor, norm: Any) -> Tensor:
    return torch.where(_off(weight, norm), 0.0, constant_channels(weight, norm))


def shift_alone(weight: Tensor, norm: Any) -> Tensor:
    return torch.where(_off(weight, norm), norm.bias.relu(), torch.nan)


def shift_pruned_too(weight: Tensor, norm: Any) -> Tensor:
    spread = torch.sqrt(norm.running_var + norm.eps)
    return torch.where(_off(weight, norm), (-norm.weight * norm.running_mean / spread).relu(), torch.nan)


def without_eps(weight: Tensor, norm: Any) -> Tensor:
    left = norm.bias - norm.weight * norm.running_mean / norm.running_var.sqrt()
    return torch.where(_off(weight, norm), left.relu(), torch.nan)


def variance_for_deviation(weight: Tensor, norm: Any) -> Tensor:
    left = norm.bias - norm.weight * norm.running_mean / (norm.running_var + norm.eps)
    return torch.where(_off(weight, norm), left.relu(), torch.nan)


def relu_forgotten(weight: Tensor, norm: Any) -> Tensor:
    left = norm(torch.zeros(1, len(weight), 1, 1, dtype=weight.dtype)).flatten()
    return torch.where(_off(weight, norm), left, torch.nan)


def scales_not_looked_at(weight: Tensor, norm: Any) -> Tensor:
    return torch.where(_masked(weight), constant_channels(weight, norm), torch.nan)


def norm_with(scale: list[float], shift: list[float], mean: list[float], variance: list[float], eps: float) -> Any:
    """A batch norm in eval mode with these numbers, float64, that takes no gradient."""
    norm = nn.BatchNorm2d(len(scale), eps=eps).double().eval().requires_grad_(False)
    names = ("weight", "bias", "running_mean", "running_var")
    for name, values in zip(names, (scale, shift, mean, variance), strict=True):
        getattr(norm, name).copy_(torch.tensor(values, dtype=torch.float64))
    return norm


def constant_cases() -> list[Case]:
    few = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, -1.0], [2.0, 0.0]], dtype=torch.float64).reshape(4, 1, 1, 2)
    many = draw(6, 2, 3, 3, seed=641, spread=1.0)
    many[[0, 2, 3]] = 0
    return [
        case(few, norm_with([2.0, 1.0, 1.0, 0.0], [0.5, 0.25, 0.5, 0.75], [-0.5, 1.0, 0.5, 1.0], [0.25] * 4, 1e-3)),
        case(
            many,
            norm_with(
                [1.0, 0.5, 1.5, 0.8, 0.0, 0.0],
                [0.2, 0.4, -0.1, 0.3, 0.6, -0.2],
                [-0.3, 0.1, -0.4, 0.2, 0.5, 0.1],
                [0.04, 0.09, 0.16, 0.25, 0.36, 0.01],
                1e-4,
            ),
        ),
    ]


CONSTANT_CHANNELS = Exercise(
    id="06.3",
    title="what a masked filter leaves behind",
    question=(
        "A convolution without bias, its batch norm in eval mode, then a ReLU. `weight` has the shape "
        "(outputs, inputs, height, width), `norm` is the BatchNorm2d, both float64. Some filters are masked: all of "
        "their weights are 0. Some scales (`norm.weight`) are 0 as well. Write "
        "`my_constant_channels(weight, norm)`: a float64 tensor (outputs,). For a channel whose filter or scale is 0 "
        "it holds the one value that the next layer reads from it behind the ReLU, whatever the image. For every "
        "other channel it holds NaN."
    ),
    skeleton=(
        "def my_constant_channels(weight, norm):\n"
        '    """The value of each channel that reads nothing of the image, NaN for the others."""\n    ...'
    ),
    reference=constant_channels,
    alternatives=(constants_by_the_norm, constants_one_by_one, constants_by_images),
    cases=constant_cases,
    hints=(
        "What does the norm receive from a filter of zeros? And what does it make of that?",
        "In eval mode the norm computes scale · (z - mean) / √(variance + eps) + shift. Put in z = 0. With scale 0 any "
        "z gives the same.",
        "`torch.relu(norm.bias - norm.weight * norm.running_mean / torch.sqrt(norm.running_var + norm.eps))`, and "
        "`torch.where(constant, left, torch.nan)`.",
    ),
    misconceptions=(
        Misconception(
            "a zero filter gives zero",
            zero_filter_gives_zero,
            "you believe that a filter of zeros gives a channel of zeros. The norm behind it subtracts its mean and "
            "adds its shift, and the next layer reads what is left",
        ),
        Misconception(
            "dead means zero",
            dead_means_zero,
            "you take a channel that reads nothing for one that says nothing. It is constant, not 0: the shift is "
            "added behind filter and scale. Only a channel at exactly 0 can go without a change",
        ),
        Misconception(
            "scales pruned like weights",
            scales_not_looked_at,
            "you look at the filters only. A scale of 0, as when batch-norm weights are pruned like weights, switches "
            "its channel off silently: the filter is whole, and nothing of it arrives",
        ),
        Misconception(
            "the shift pruned too",
            shift_pruned_too,
            "you leave the shift out, as if the mask held it at 0, too. A mask on the filter does not touch the norm",
        ),
        Misconception(
            "the running mean forgotten",
            shift_alone,
            "you count only the shift. In eval mode the norm subtracts its running mean from the filter's zeros first, "
            "and that was measured before the mask",
        ),
        Misconception(
            "eps forgotten",
            without_eps,
            "eps is missing below the root. The error is small where the variance is large, and that is why it stays "
            "unseen",
        ),
        Misconception(
            "variance for deviation",
            variance_for_deviation,
            "you divide by the variance. The norm divides by its root, the standard deviation",
        ),
        Misconception(
            "the ReLU forgotten",
            relu_forgotten,
            "this is the value before the ReLU. The next layer never reads a negative one",
        ),
    ),
    shows="a masked filter leaves relu(shift - scale · mean / √(variance + eps)), and a scale of 0 leaves relu(shift).",
    derivation=(
        "norm(z) = γ (z - μ) / √(v + eps) + β. At z = 0 it is β - γμ / √(v + eps); at γ = 0 it is β, the same formula. "
        "So a mask that is to equal removal sets filter, bias, scale and shift to 0."
    ),
)

# --- 06.4 -------------------------------------------------------------------------------------------------------------


def macs_of(widths: list[int], side: int, classes: int) -> int:
    total, inputs = 0, 1
    for outputs in widths:
        side = (side + 1) // 2
        total += 9 * inputs * outputs * side**2
        inputs = outputs
    return total + inputs * side**2 * classes


def macs(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    return macs_of(channels, side, classes), macs_of(kept, side, classes)


def macs_by_layers(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    found = []
    for widths in (channels, kept):
        image, total = torch.zeros(1, 1, side, side), 0
        for outputs in widths:
            conv = nn.Conv2d(image.shape[1], outputs, 3, stride=2, padding=1)
            image = conv(image)
            total += image.numel() * conv.weight[0].numel()
        found.append(total + image.numel() * classes)
    return found[0], found[1]


def macs_by_pairs(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    def count(widths: list[int]) -> int:
        areas = [math.ceil(side / 2**layer) ** 2 for layer in range(1, len(widths) + 1)]
        convolutions = sum(9 * a * b * area for a, b, area in zip([1, *widths], widths, areas, strict=False))
        return convolutions + widths[-1] * areas[-1] * classes

    return count(channels), count(kept)


def masks_save(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    return macs_of(kept, side, classes), macs_of(kept, side, classes)


def _with_full_inputs(channels: list[int], kept: list[int], side: int, read: int) -> int:
    """Kept outputs, but all inputs; ``read`` products for each place of the last output."""
    total = 0
    for inputs, outputs in zip([1, *channels], kept, strict=False):
        side = (side + 1) // 2
        total += 9 * inputs * outputs * side**2
    return total + read * side**2


def only_outputs_shrink(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    return macs_of(channels, side, classes), _with_full_inputs(channels, kept, side, channels[-1] * classes)


def only_the_linear_layer_reads_less(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    return macs_of(channels, side, classes), _with_full_inputs(channels, kept, side, kept[-1] * classes)


def share_squared(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    whole = macs_of(channels, side, classes)
    return whole, whole * sum(kept) ** 2 // sum(channels) ** 2


def _miscounted(widths: list[int], side: int, classes: int, *, mistake: str) -> int:
    total, inputs = 0, 1
    for outputs in widths:
        before, side = side, side // 2 if mistake == "down" else (side + 1) // 2
        places = {"parameters": 1, "input side": before**2}.get(mistake, side**2)
        total += 9 * inputs * outputs * places
        inputs = outputs
    return total + (0 if mistake == "no linear" else inputs * side**2 * classes)


def parameters_counted(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    one, other = (_miscounted(widths, side, classes, mistake="parameters") for widths in (channels, kept))
    return one, other


def input_side(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    one, other = (_miscounted(widths, side, classes, mistake="input side") for widths in (channels, kept))
    return one, other


def rounded_down(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    one, other = (_miscounted(widths, side, classes, mistake="down") for widths in (channels, kept))
    return one, other


def linear_forgotten(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    one, other = (_miscounted(widths, side, classes, mistake="no linear") for widths in (channels, kept))
    return one, other


MACS = Exercise(
    id="06.4",
    title="half the channels, a quarter of the work",
    question=(
        "The course's network takes an image (1, side, side). For each entry of `channels` it has a 3×3 convolution "
        "with so many outputs, without bias. Each reads the outputs of the one before and halves the side, "
        "rounded *up*: 28 → 14 → 7 → 4. A flatten and one linear layer to `classes` outputs follow. `kept`, a list "
        "as long as `channels`, says how many channels are kept in each layer. Write "
        "`my_macs(channels, kept, side, classes)`: two whole numbers, the multiply-accumulates for one image that "
        "PyTorch carries out (first) if the other channels are masked with zeros, (second) if they are removed. "
        "Multiplications with the padding count. Norms, ReLUs and biases do not."
    ),
    skeleton=(
        "def my_macs(channels, kept, side, classes):\n"
        '    """Multiply-accumulates for one image: (masked, removed)."""\n    ...'
    ),
    reference=macs,
    alternatives=(macs_by_layers, macs_by_pairs),
    cases=lambda: [case([4, 6], [1, 3], 7, 3), case([16, 32, 48], [8, 16, 24], 28, 10), case([5, 8], [5, 2], 10, 4)],
    hints=(
        "How many multiplications make one number of a convolution's output? How many such numbers are there?",
        "A layer: 9 · inputs · outputs · (side of its **output**)². The linear layer: inputs · side² · classes. Does a "
        "dense convolution look whether a weight is 0?",
        "One function `count(widths)` that goes through the layers with `side = (side + 1) // 2`. The answer is "
        "`count(channels), count(kept)`.",
    ),
    misconceptions=(
        Misconception(
            "masks save time",
            masks_save,
            "you expect masked channels to cost nothing. A dense convolution multiplies with zeros as with any other "
            "number, and stores them: a mask saves neither time nor memory",
        ),
        Misconception(
            "only the outputs shrink",
            only_outputs_shrink,
            "you shrink each layer's outputs, but let the next layer read as many inputs as before. They go as well, "
            "which is why half the channels are about a quarter of the work",
        ),
        Misconception(
            "convolutions read as before",
            only_the_linear_layer_reads_less,
            "the linear layer reads fewer channels in your count, but each convolution still reads all of the layer "
            "before. What is removed as an output is missing there as an input",
        ),
        Misconception(
            "the share squared",
            share_squared,
            "you square the share of the channels. That holds between two pruned layers only: the image's own channel "
            "and the classes stay, and layers may keep different shares",
        ),
        Misconception(
            "parameters counted",
            parameters_counted,
            "you count a convolution's weights. Each is used again at every place of the output, so the work is the "
            "weights times the output's side squared",
        ),
        Misconception(
            "the side of the input",
            input_side,
            "you multiply by the side of the input. With stride 2 a filter is computed at every second place, once for "
            "each number of the output",
        ),
        Misconception(
            "sides rounded down",
            rounded_down,
            "you round an odd side down. With padding 1 the last place still counts: 7 becomes 4",
        ),
        Misconception(
            "the linear layer forgotten",
            linear_forgotten,
            "the linear layer is missing. It multiplies, too: each of its inputs with one weight a class",
        ),
    ),
    shows="work goes with inputs times outputs, so removing half of both leaves a quarter; a mask leaves all of it.",
    derivation=(
        "Each of outputs · side² numbers is a sum of 9 · inputs products. A removed channel is missing as an output "
        "here and as an input there. Between two layers that keep the share a, a² of the work is left; in the first "
        "and in the linear layer a is, for the image's channel and the classes stay."
    ),
    forbidden=("kdcourse.metrics.count_macs",),
)

# --- 06.5 -------------------------------------------------------------------------------------------------------------


def compare(pruned: list[float], scratch: list[float]) -> str:
    interval = paired_interval(pruned, scratch)
    if interval.low > 0:
        return "pruned"
    return "scratch" if interval.high < 0 else "not told apart"


def compare_by_hand(pruned: list[float], scratch: list[float]) -> str:
    gains = [one - other for one, other in zip(pruned, scratch, strict=True)]
    reach = stats.t.ppf(0.975, len(gains) - 1) * stdev(gains) / math.sqrt(len(gains))
    if abs(fmean(gains)) <= reach:
        return "not told apart"
    return "pruned" if fmean(gains) > 0 else "scratch"


def compare_by_test(pruned: list[float], scratch: list[float]) -> str:
    found = stats.ttest_rel(pruned, scratch)
    return ("scratch", "pruned")[int(found.statistic > 0)] if found.pvalue < 0.05 else "not told apart"


def _named(low: float, high: float) -> str:
    return "pruned" if low > 0 else "scratch" if high < 0 else "not told apart"


def means_only(pruned: list[float], scratch: list[float]) -> str:
    gain = fmean(pruned) - fmean(scratch)
    return _named(gain, gain)


def best_seeds(pruned: list[float], scratch: list[float]) -> str:
    gain = max(pruned) - max(scratch)
    return _named(gain, gain)


def one_seed(pruned: list[float], scratch: list[float]) -> str:
    gain = pruned[0] - scratch[0]
    return _named(gain, gain)


def unpaired_interval(pruned: list[float], scratch: list[float]) -> str:
    found = stats.ttest_ind(pruned, scratch, equal_var=False).confidence_interval(0.95)
    return _named(found.low, found.high)


def intervals_apart(pruned: list[float], scratch: list[float]) -> str:
    ends = []
    for values in (pruned, scratch):
        reach = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
        ends.append((fmean(values) - reach, fmean(values) + reach))
    return _named(ends[0][0] - ends[1][1], ends[0][1] - ends[1][0])


def normal_quantile(pruned: list[float], scratch: list[float]) -> str:
    gains = [one - other for one, other in zip(pruned, scratch, strict=True)]
    reach = 1.96 * stdev(gains) / math.sqrt(len(gains))
    return _named(fmean(gains) - reach, fmean(gains) + reach)


def which_word(result: Any, case: Case) -> Any:
    """The answer, if it is one of the three words."""
    if not isinstance(result, str) or result not in ("pruned", "scratch", "not told apart"):
        raise ValueError("none of the three words")
    return {"better": result}


def compare_cases() -> list[Case]:
    return [
        case([0.942, 0.951, 0.949], [0.94, 0.944, 0.945]),
        case([0.951, 0.972, 0.94, 0.963, 0.958], [0.947, 0.966, 0.935, 0.956, 0.954]),
        case([0.944, 0.961, 0.949, 0.953, 0.957], [0.951, 0.95, 0.946, 0.958, 0.945]),
        case([0.93, 0.934, 0.938, 0.932, 0.936], [0.935, 0.94, 0.942, 0.937, 0.94]),
        case([0.948, 0.952, 0.95, 0.946, 0.954], [0.953, 0.951, 0.953, 0.952, 0.949]),
        case([0.95, 0.953, 0.951, 0.955], [0.906, 0.911, 0.908, 0.909]),
    ]


COMPARE = Exercise(
    id="06.5",
    title="pruned, or trained small",
    question=(
        "A network was pruned and trained on. A network of the same small size was trained from scratch, with the same "
        "epochs in all. Two lists of at least two test accuracies, seed by seed in the same order. Write "
        "`my_compare(pruned, scratch)`: return `'pruned'` or `'scratch'`, whichever is better, or `'not told apart'`. "
        "Decide by the 95 % interval by Student's t of the mean of pruned minus scratch, *paired by seed*: one is "
        "better if the whole interval lies on its side of 0. You may use `paired_interval` from `kdcourse.metrics`."
    ),
    skeleton=(
        "def my_compare(pruned, scratch):\n"
        "    \"\"\"'pruned', 'scratch' or 'not told apart', from results seed by seed.\"\"\"\n    ..."
    ),
    reference=compare,
    alternatives=(compare_by_hand, compare_by_test),
    cases=compare_cases,
    hints=(
        "Could the difference of the means be the luck of these few seeds?",
        "`paired_interval(pruned, scratch)` has a `.low` and a `.high`. Where must 0 lie?",
        "`'pruned'` if `low > 0`, `'scratch'` if `high < 0`, else `'not told apart'`.",
    ),
    misconceptions=(
        Misconception(
            "means only",
            means_only,
            "you compare the means only. Of two equal methods one always has the higher mean; the interval says "
            "whether luck explains it",
        ),
        Misconception(
            "the best seeds",
            best_seeds,
            "you compare the best seed of each. The maximum rewards the method whose luck varies more, and nobody can "
            "order a best seed",
        ),
        Misconception(
            "one seed",
            one_seed,
            "you compare the first seed alone. One pair holds the gain and its own luck, and cannot tell them apart",
        ),
        Misconception(
            "arms not paired",
            unpaired_interval,
            "you treat the two lists as unrelated. The luck that a seed gives to both arms alike then stays in the "
            "interval. Take the differences seed by seed first",
        ),
        Misconception(
            "intervals that overlap",
            intervals_apart,
            "you ask whether the intervals of the two arms overlap. They can overlap although the difference is clear: "
            "only the interval of the difference answers the question",
        ),
        Misconception(
            "normal for Student's t",
            normal_quantile,
            "you use 1.96, as if the spread were known. It is estimated from a few seeds, and with three of them the "
            "factor is 4.3",
        ),
    ),
    shows="a pruned network must beat the small one trained from scratch over paired seeds, or nothing is shown.",
    derivation=(
        "Differences d_i seed by seed; mean ± t(0.975, n-1) · s/√n. Above 0: pruned; below: scratch; with 0 inside the "
        "data allow both. Why this control: Liu et al. 2019, arXiv:1810.05270."
    ),
    observe=which_word,
)

EXERCISES = (FILTER_SCORES, SLIM_CHAIN, CONSTANT_CHANNELS, MACS, COMPARE)
