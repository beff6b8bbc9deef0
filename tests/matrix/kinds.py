"""Kinds of network, one a line of `KINDS`: tiny, in float64 unless the kind is its number format."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

N, CLASSES, LENGTH, WIDTH = 4, 3, 5, 8
IMAGES, FEATURES, SEQUENCES, INDICES = "images", "features", "sequences", "indices"
SHAPES = {IMAGES: (N, 3, 6, 6), FEATURES: (N, WIDTH), SEQUENCES: (N, LENGTH, WIDTH), "digits": (N, 1, 28, 28)}
SHAPES |= {"series": (N, 3, 10), "volumes": (N, 2, 4, 4, 4)}


class Kind(NamedTuple):
    """A network of this kind, what it takes and how its logits are picked from what it returns."""

    name: str
    build: Callable[[], nn.Module]
    takes: str = FEATURES
    dtype: torch.dtype = torch.float64
    inputs: int = 1
    output: Any = None
    teacher: Callable[[nn.Module], nn.Module] | None = None
    ties: str = ""
    """a layer whose channels can only go with those of the first"""

    def network(self, seed: int = 0) -> nn.Module:
        """A fresh network in train mode, its batch norms with statistics that matter; the same for the same seed."""
        torch.default_generator.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the old weight norm
            model = self.build().to(self.dtype)
        frozen = {part for part in model.modules() if not part.training}
        for part in model.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_var is not None:
                for values in (part.running_var, part.weight.data):
                    nn.init.uniform_(values, 0.5, 1.5)
                for values in (part.running_mean, part.bias.data):
                    nn.init.normal_(values, 0, 0.3)
        model.train()
        for part in frozen:
            part.training = False
        return model

    def example(self, seed: int = 1) -> Any:
        """A batch of inputs: a tensor, or a tuple where the network takes several."""
        generator = torch.Generator().manual_seed(seed)
        if self.takes == INDICES:
            return torch.randint(0, CLASSES, (N, LENGTH), generator=generator)
        found = [torch.rand(SHAPES[self.takes], generator=generator).to(self.dtype) for _ in range(self.inputs)]
        return found[0] if self.inputs == 1 else tuple(found)

    def labels(self, logits: Tensor) -> Tensor:
        """One class for each leading position of the logits."""
        return torch.arange(logits[..., 0].numel()).reshape(logits.shape[:-1]) * 2 % CLASSES

    def pick(self, output: Any) -> Tensor:
        """The logits."""
        return output if self.output is None else self.output(output)


def flat(body: list[nn.Module], width: int) -> nn.Sequential:
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(width, CLASSES))


def conv(**options: Any) -> nn.Sequential:
    """Two convolutions, the first with a batch norm after it, and one that follows no layer it could go into."""
    body = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    body += [nn.Conv2d(4, 4, 3, **{"padding": 1, **options}), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    return flat(body, 16)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, CLASSES))


def batch_norm_after_relu() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, CLASSES))


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def residual() -> nn.Sequential:
    inner = Residual(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    return flat([nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), inner], 36)


def relu_twice() -> nn.Sequential:
    relu = nn.ReLU()
    return flat([nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), relu, nn.Conv2d(4, 4, 3), relu], 16)


def conv_twice() -> nn.Sequential:
    """One convolution with two batch norms: there is no weight that both could be folded into."""
    twice = nn.Conv2d(4, 4, 3, padding=1)
    body = [nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), twice, nn.BatchNorm2d(4), nn.ReLU(), twice, nn.BatchNorm2d(4)]
    return flat(body, 16)


class Own(nn.Module):
    """A network whose forward pass is ``compute(self, x)``."""

    def __init__(self, compute: Callable[..., Any], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.compute = compute

    def forward(self, x):
        return self.compute(self, x)


class Pair(Own):
    """A network whose forward pass is ``compute(self, x, y)``."""

    def forward(self, x, y):
        return self.compute(self, x, y)


def linear_twice() -> nn.Module:
    middle, head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
    return Own(lambda net, x: net.head(F.relu(net.middle(F.relu(net.middle(x))))), middle=middle, head=head)


def tied() -> nn.Module:
    embed, last = nn.Embedding(CLASSES, WIDTH), nn.Linear(WIDTH, CLASSES, bias=False)
    last.weight = embed.weight
    return Own(
        lambda net, ids: net.last(net.middle(net.embed(ids))), embed=embed, middle=nn.Linear(WIDTH, WIDTH), last=last
    )


def embedding() -> nn.Module:
    return Own(
        lambda net, ids: net.last(net.embed(ids) + net.place),
        embed=nn.Embedding(CLASSES, WIDTH),
        place=nn.Parameter(torch.randn(LENGTH, WIDTH)),
        last=nn.Linear(WIDTH, CLASSES),
    )


def matrix_of_its_own() -> nn.Module:
    return Own(
        lambda net, x: net.head(F.relu(x @ net.mix)),
        mix=nn.Parameter(torch.randn(WIDTH, 6)),
        head=nn.Linear(6, CLASSES),
    )


def hooked() -> nn.Sequential:
    model = conv()
    model[0].register_forward_hook(lambda module, arguments, output: 0.5 * output + 0.3)
    return model


def pre_hooked() -> nn.Sequential:
    model = conv()
    model[1].register_forward_pre_hook(lambda module, arguments: (arguments[0].square(),))
    return model


def dressed(dress: Callable[[nn.Module], object]) -> nn.Sequential:
    """`conv` with something on its first convolution and its last layer."""
    model = conv()
    dress(model[0])
    dress(model[-1])
    return model


def old_weight_norm(layer: nn.Module) -> None:
    torch.nn.utils.weight_norm(layer)


class Wavy(nn.Module):
    """A parametrization of one's own, with no way back."""

    def forward(self, stored):
        return stored.sin()


def frozen(name: str) -> nn.Module:
    """`conv` with one part frozen: no gradient, eval mode."""
    model = conv()
    model.get_submodule(name).requires_grad_(False).eval()
    return model


def quiet(model: nn.Module) -> nn.Module:
    """In eval mode: in train mode a spectral norm changes its weight each time that anyone looks at it."""
    return model.eval()


def attention() -> nn.Module:
    def compute(net, x):
        return net.head(net.attend(net.enter(x), x, x)[0])

    parts = {"enter": nn.Linear(WIDTH, WIDTH), "attend": nn.MultiheadAttention(WIDTH, 2, batch_first=True)}
    return Own(compute, **parts, head=nn.Linear(WIDTH, CLASSES))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 12, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(WIDTH, CLASSES))


def recurrent(cell: type[nn.RNNBase], **options: Any) -> nn.Module:
    size = 6 * (1 + options.get("bidirectional", False))
    return Own(lambda net, x: net.head(net.cell(x)[0]), cell=cell(WIDTH, 6, batch_first=True, **options),
               head=nn.Linear(size, CLASSES))  # fmt: skip


def lstm_cell() -> nn.Module:
    def compute(net, x):
        state = None
        for step in x.unbind(1):
            state = net.cell(step, state)
        return net.head(state[0])

    return Own(compute, cell=nn.LSTMCell(WIDTH, 6), head=nn.Linear(6, CLASSES))


def transposed(channels: int, groups: int) -> nn.Sequential:
    up = nn.ConvTranspose2d(4, channels, 2, stride=2, groups=groups)
    rest = [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    return flat([nn.Conv2d(3, 4, 3), up, *rest], 4 * channels)


def convolved(kind: type[nn.Module], norm: type[nn.Module], channels: int, width: int) -> nn.Sequential:
    return flat([kind(channels, 4, 3), norm(4), nn.ReLU()], width)


def channelwise() -> nn.Sequential:
    body = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU()]
    return flat([*body, nn.Conv2d(4, 3, 1)], 12)


def several(pack: Callable[[Tensor, Tensor], Any]) -> nn.Module:
    parts = {"body": nn.Linear(WIDTH, 6), "head": nn.Linear(6, CLASSES), "side": nn.Linear(6, 2)}
    return Own(lambda net, x: pack(net.head(F.relu(net.body(x))), net.side(F.relu(net.body(x)))), **parts)


def two_inputs() -> nn.Module:
    parts = {"left": nn.Linear(WIDTH, 6), "right": nn.Linear(WIDTH, 6), "head": nn.Linear(6, CLASSES)}
    return Pair(lambda net, x, y: net.head(F.relu(net.left(x) + net.right(y))), **parts)


def course() -> nn.Module:
    from kdcourse.models import conv_net

    return conv_net((4, 3))


class Late(nn.LazyLinear):
    """Does not know its weights before its first batch; then they are always the same."""

    def initialize_parameters(self, input):
        if self.has_uninitialized_params():
            super().initialize_parameters(input)
            with torch.no_grad():
                for value in (self.weight, self.bias):
                    value.copy_(torch.arange(1.0, 1 + value.numel()).sin().reshape(value.shape) / 2)


def late() -> nn.Module:
    return nn.Sequential(Late(6), nn.ReLU(), nn.Linear(6, CLASSES))


def teacher_that_shares(student: nn.Module) -> nn.Module:
    """A teacher that computes with the very body of its student."""
    torch.manual_seed(5)
    return nn.Sequential(student[0], nn.ReLU(), nn.Linear(7, CLASSES).double())


weight_norm, spectral_norm = parametrizations.weight_norm, parametrizations.spectral_norm
KINDS = [
    Kind("conv net", conv, IMAGES),
    Kind("float32", conv, IMAGES, torch.float32),
    Kind("bfloat16", conv, IMAGES, torch.bfloat16),
    Kind("the course's", course, "digits", torch.float32),
    Kind("channels last", lambda: conv().to(memory_format=torch.channels_last), IMAGES),
    Kind("MLP", mlp),
    Kind("batch norm after ReLU", batch_norm_after_relu),
    Kind("residual Sequential", residual, IMAGES, ties="2.0"),
    Kind("ReLU used twice", relu_twice, IMAGES),
    Kind("convolution used twice", conv_twice, IMAGES),
    Kind("Linear used twice", linear_twice),
    Kind("tied weights", tied, INDICES),
    Kind("embedding", embedding, INDICES),
    Kind("matrix of its own", matrix_of_its_own),
    Kind("forward hook", hooked, IMAGES),
    Kind("forward pre-hook", pre_hooked, IMAGES),
    Kind("weight norm", lambda: dressed(weight_norm), IMAGES),
    Kind("weight norm, old", lambda: dressed(old_weight_norm), IMAGES),
    Kind("spectral norm", lambda: quiet(dressed(spectral_norm)), IMAGES),
    Kind("spectral norm, old", lambda: quiet(dressed(torch.nn.utils.spectral_norm)), IMAGES),
    Kind("torch's prune", lambda: dressed(lambda part: prune.l1_unstructured(part, "weight", 0.3)), IMAGES),
    Kind(
        "own parametrization",
        lambda: dressed(lambda part: parametrize.register_parametrization(part, "weight", Wavy())),
        IMAGES,
    ),  # noqa: E501
    Kind("attention", attention, SEQUENCES),
    Kind("Transformer encoder", encoder, SEQUENCES),
    Kind("LSTM", lambda: recurrent(nn.LSTM, bidirectional=True), SEQUENCES),
    Kind("GRU", lambda: recurrent(nn.GRU, num_layers=2), SEQUENCES),
    Kind("LSTMCell", lstm_cell, SEQUENCES),
    Kind("Conv1d", lambda: convolved(nn.Conv1d, nn.BatchNorm1d, 3, 32), "series"),
    Kind("Conv3d", lambda: convolved(nn.Conv3d, nn.BatchNorm3d, 2, 32), "volumes"),
    Kind("ConvTranspose2d", lambda: transposed(4, 1), IMAGES),
    Kind("grouped ConvTranspose2d", lambda: transposed(6, 2), IMAGES),
    Kind("grouped convolution", lambda: conv(groups=2), IMAGES),
    Kind("depthwise convolution", channelwise, IMAGES, ties="3"),
    Kind("dilated convolution", lambda: conv(dilation=2, padding=2), IMAGES),
    Kind("frozen part", lambda: frozen("0"), IMAGES),
    Kind("frozen batch norm", lambda: frozen("1"), IMAGES),
    Kind("several inputs", two_inputs, inputs=2, ties="right"),
    Kind("tuple of outputs", lambda: several(lambda *pair: pair), output=lambda out: out[0]),
    Kind("dict of outputs", lambda: several(lambda a, b: {"logits": a, "side": b}), output=lambda out: out["logits"]),
    Kind("part of its teacher", mlp, teacher=teacher_that_shares),
    Kind("LazyLinear", late),
]
