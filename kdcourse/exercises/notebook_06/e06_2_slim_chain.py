"""06.2 a channel and all that belongs to it."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

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


def eps_forgotten(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    slim_conv, slim_norm, slim_reader = slim_by_copies(conv, norm, reader, kept)
    slim_norm.eps = 1e-5  # type: ignore[assignment]
    return slim_conv, slim_norm, slim_reader


def statistics_as_parameters(conv: Any, norm: Any, reader: Any, kept: Tensor) -> Chain:
    slim_conv, slim_norm, slim_reader = slim_by_copies(conv, norm, reader, kept)
    for name in ("running_mean", "running_var"):
        setattr(slim_norm, name, nn.Parameter(getattr(slim_norm, name)))
    return slim_conv, slim_norm, slim_reader


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
        "tensors that training changes, in each layer": [len(list(layer.parameters())) for layer in result],
    }


def chain_of(channels: int, reader: nn.Module, *, seed: int, eps: float = 1e-5) -> Chain:
    """A convolution on (N, 1, 4, 4), a batch norm that has seen images, and what reads them; float32, eval mode."""
    conv, norm = nn.Conv2d(1, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels, eps=eps)
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
        case(*chain_of(5, nn.Linear(20, 3), seed=700, eps=0.3), torch.tensor([1, 4])),
    ]


def drawn_chain(g: torch.Generator) -> Case:
    count, seed = integer(g, 3, 6), integer(g, 800, 9999)
    kept = torch.randperm(count, generator=g)[: integer(g, 1, count - 1)].sort().values
    return case(*chain_of(count, nn.Linear(4 * count, 2), seed=seed), kept)


EXERCISE = Exercise(
    id="06.2",
    title="a channel and all that belongs to it",
    question=(
        "Three layers follow one another: `conv`, a Conv2d with a bias; `norm`, its BatchNorm2d; then a ReLU; then "
        "`reader`. The reader is a Conv2d, or a Linear after a flatten from dimension 1. Write "
        "`my_slim_chain(conv, norm, reader, kept)`: three *new* layers with the channels `kept` only, as a tuple. "
        "`kept` contains ascending channel numbers, int64. In eval mode the new chain must compute what the old one "
        "does if the other channels are 0 after the ReLU. Stride, padding and eps stay. Do not modify the given "
        "layers."
    ),
    skeleton=(
        "def my_slim_chain(conv, norm, reader, kept):\n"
        '    """(conv, norm, reader) with only the channels that are kept."""\n    ...'
    ),
    reference=slim_chain,
    alternatives=(slim_by_copies, slim_by_shape, slim_by_a_mask),
    cases=chain_cases,
    drawn=drawn_chain,
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
            "you copy the norm's scale and shift, but not its running mean and variance. They are not parameters, "
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
            "after the flatten you take the columns as if the channels were interleaved. Flatten puts all "
            "positions of one channel side by side, so a channel is a block",
        ),
        Misconception(
            "channel numbers for columns",
            first_columns_of_the_flat,
            "after the flatten you use channel numbers as column numbers, repeated until the width fits. Channel k "
            "owns a block of columns that starts at k times the number of positions of a channel",
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
            "the new chain is right, but you cut the given layers. Nothing is left to compare with, and a "
            "second try would start from the cut ones",
        ),
        Misconception(
            "eps forgotten",
            eps_forgotten,
            "your new norm has the default eps. The given norm may have another one: `nn.BatchNorm2d(count, "
            "eps=norm.eps)`",
        ),
        Misconception(
            "statistics as parameters",
            statistics_as_parameters,
            "your running mean and variance have become parameters, which an optimizer would train. They are buffers: "
            "hand over the tensors themselves",
        ),
    ),
    shows="a channel is its filter, its bias, four numbers of its norm, and a block of what the next layer reads.",
    derivation=(
        "After the ReLU the reader adds Σ_k W_k h_k over the channels. If h_k is 0 for those that go, their blocks "
        "W_k add nothing and can also go. Each h_k = relu(γ_k (w_k * x + b_k - μ_k) / √(v_k + eps) + β_k) needs all of "
        "its own numbers and no others."
    ),
    forbidden=("kdcourse.pruning.prune_filters",),
    observe=both_chains,
    absolute=1e-6,
    points=2,
)
