"""The course's networks for images, as plain ``nn.Sequential``, and the checkpoints of all its networks."""

import json
import os
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ._base.checks import check_fraction
from ._base.files import digest_of, read_whole, write_whole
from .data import data_dir
from .language import Decoder
from .seeds import seeded
from .text import Vocabulary

IMAGE_SIZE = 28
CLASSES = 10


def conv_net(channels: Sequence[int] = (16, 32, 48), *, seed: int = 0) -> nn.Sequential:
    """Convolutional network on (N, 1, 28, 28): strided 3×3 convolutions with batch norm, then one linear layer.

    Every convolution halves the side (28 → 14 → 7 → 4), so no pooling is needed. The default has 26,458
    parameters. The same ``seed`` gives the same weights and leaves the global random state untouched.

    >>> student = conv_net((4, 8))
    >>> student(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    _check_sizes("channels", channels)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    side, inputs = IMAGE_SIZE, 1
    with seeded(seed):
        for number, outputs in enumerate(channels, start=1):
            layers[f"conv{number}"] = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            layers[f"norm{number}"] = nn.BatchNorm2d(outputs)
            layers[f"relu{number}"] = nn.ReLU()
            side, inputs = (side + 1) // 2, outputs
        layers["flatten"] = nn.Flatten()
        layers["classes"] = nn.Linear(inputs * side * side, CLASSES)
    # channels last trains 1.5 times faster on a CPU
    model = _named(layers, name="conv_net", channels=list(channels))
    return model.to(memory_format=torch.channels_last)


def mlp(hidden: Sequence[int] = (128,), *, dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    """Multilayer perceptron on (N, 1, 28, 28): flatten, then linear, ReLU and dropout for every hidden size.

    ``hidden=()`` is multinomial logistic regression. The same ``seed`` gives the same weights.

    >>> mlp((300, 100))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    _check_sizes("hidden", hidden)
    check_fraction("dropout", dropout)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    inputs = IMAGE_SIZE * IMAGE_SIZE
    with seeded(seed):
        for number, outputs in enumerate(hidden, start=1):
            layers[f"linear{number}"] = nn.Linear(inputs, outputs)
            layers[f"relu{number}"] = nn.ReLU()
            if dropout:
                layers[f"dropout{number}"] = nn.Dropout(dropout)
            inputs = outputs
        layers["classes"] = nn.Linear(inputs, CLASSES)
    return _named(layers, name="mlp", hidden=list(hidden), dropout=dropout)


def save_model(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the weights, and what `load_model` needs to rebuild the network, as one safetensors file.

    ``torch.compile`` and data-parallel wrappers are taken off. Modes and ``requires_grad`` are not kept. Raises
    ``ValueError`` naming the first difference for a network that is not what its ``.architecture`` says: masked,
    rounded, with tied or other layers, hooks, another dtype or other settings. The file is written beside ``path`` and
    renamed, so an interruption leaves the old one whole.

    >>> save_model(mlp((16,)), "student.safetensors")
    """
    network = _unwrapped(model)
    architecture = getattr(network, "architecture", None)
    if architecture is None:
        raise ValueError(
            "the model has no .architecture: only those made by conv_net(), mlp() or Decoder() can be rebuilt"
        )
    try:
        rebuilt = _build(architecture)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"no network can be rebuilt from the model's .architecture {architecture}: {error}") from error
    found = _first_difference(network, rebuilt)
    if found:
        raise ValueError(f"the model cannot be rebuilt from its .architecture {architecture}: {found}")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    about = {"architecture": json.dumps(architecture), "crc32": _checksum(tensors)}
    # PyTorch chooses its kernels by them, and other kernels round otherwise
    orders = {name: tensor.stride() for name, tensor in network.state_dict().items() if _dense(tensor, tensor.stride())}
    about |= {f"strides of {name}": json.dumps(order) for name, order in orders.items()
              if order != rebuilt.state_dict()[name].stride()}  # fmt: skip
    write_whole(path, save(tensors, metadata=about))


def load_model(path: str | os.PathLike[str]) -> nn.Module:
    """Rebuild a network written by `save_model`, on the CPU and in eval mode.

    Raises ``FileNotFoundError``, or ``ValueError`` that tells a damaged file from one that `save_model` has not written
    and from one whose network cannot be rebuilt.

    >>> network = mlp((16,), seed=3)
    >>> save_model(network, "student.safetensors")
    >>> torch.equal(load_model("student.safetensors").classes.weight, network.classes.weight)
    True
    """
    try:
        content = read_whole(path)
        tensors, about = load(content), _metadata(content)
    except FileNotFoundError:
        raise FileNotFoundError(f"no checkpoint at {path}") from None
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or no safetensors file: {error}") from error
    if "architecture" not in about:
        raise ValueError(
            f"{path} was not written by kdcourse.models.save_model: it does not say which network it holds"
        )
    if about.get("crc32", _checksum(tensors)) != _checksum(tensors):
        raise ValueError(f"{path} is damaged: its checksum differs")
    try:
        architecture = json.loads(about["architecture"])
        _check_fits(tensors, _build(architecture, device="meta").state_dict())
        model = _build(architecture)
        model.load_state_dict(tensors)
        for name, parameter in model.named_parameters():
            _restride(parameter, json.loads(about.get(f"strides of {name}", "null")))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        raise ValueError(f"{path} holds a network that cannot be rebuilt here: {error!r}") from error
    return model.eval()


def language_teacher() -> tuple[Decoder, Vocabulary]:
    """The course's language model in eval mode, and its tokens: the characters of the speeches.

    ``data/language_teacher.json`` says how it was trained on the train split of `kdcourse.text.load_speeches`, and
    how many bits it needs per character.

    Raises ``FileNotFoundError`` where its files are not there, ``ValueError`` where one is damaged.

    >>> teacher, vocabulary = language_teacher()
    >>> teacher(vocabulary.encode("Fellow-Citizens of")[None]).shape
    torch.Size([1, 18, 97])
    """
    path = data_dir() / "language_teacher.json"
    try:
        record = json.loads(read_whole(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"no language model at {path}: it comes with the course's checkout") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: git restore {path.name}") from error
    if not isinstance(record, dict) or record.get("digest") != digest_of(record):
        raise ValueError(f"{path} is not as its job stored it: git restore {path.name}")
    teacher, vocabulary = load_model(path.with_suffix(".safetensors")), Vocabulary(record["characters"])
    if not isinstance(teacher, Decoder) or teacher.token.num_embeddings != len(vocabulary):
        raise ValueError(f"{path.with_suffix('.safetensors')} is not the model that {path.name} describes")
    return teacher, vocabulary


def _first_difference(model: nn.Module, rebuilt: nn.Module) -> str:
    """In what ``model`` is another network than ``rebuilt``, whatever their weights; empty if in nothing."""
    theirs, ours = (dict(network.named_modules(remove_duplicate=False)) for network in (rebuilt, model))
    for name, layer in ours.items():
        if parametrize.is_parametrized(layer):
            return f"layer {name!r} computes its weights: remove masks, or bake what is rounded, first"
    for name, other in zip_longest(ours, theirs):
        if name != other:
            return f"there is {'no layer' if name is None else f'layer {name!r}'} where it has {other!r}"
    seen: dict[int, str] = {}
    for name in theirs:
        found = _layer_difference(ours[name], theirs[name]) or _tensor_difference(ours[name], theirs[name])
        if found:
            return f"layer {name!r} {found}" if name else f"it {found}"
        for part in (ours[name], *_tensors(ours[name]).values()):
            where = part.data_ptr() if isinstance(part, Tensor) else id(part)
            if where in seen:
                return f"layer {name!r} is tied to {seen[where]!r}, and would not be afterwards"
            seen[where] = name
    return ""


def _layer_difference(layer: nn.Module, other: nn.Module) -> str:
    if type(layer) is not type(other):
        return f"is {type(layer).__name__}, not {type(other).__name__}"
    if "forward" in vars(layer):
        return "has a forward of its own"
    if any(value for name, value in vars(layer).items() if name.endswith(("_hooks", "_pre_hooks"))):
        return "has hooks: remove them first"
    for name, value in vars(other).items():
        own = vars(layer).get(name)
        if not name.startswith("_") and name not in ("training", "architecture") and own != value:
            return f"has {name} = {own}, not {value}"
    return ""


def _tensor_difference(layer: nn.Module, other: nn.Module) -> str:
    ours, theirs = _tensors(layer), _tensors(other)
    if ours.keys() != theirs.keys():
        return f"has {', '.join(sorted(ours.keys() ^ theirs.keys()))} more or less"
    for name, tensor in ours.items():
        if type(tensor) is not type(theirs[name]) or tensor.is_meta:
            return f"has no plain {name}, but one of type {type(tensor).__name__} on {tensor.device}"
        if tensor.dtype != theirs[name].dtype:
            return f"has {name} in {tensor.dtype}, not {theirs[name].dtype}: convert a copy of the model first"
        if tensor._backward_hooks:
            return f"has a hook on {name}: remove it first"
        if tensor.shape != theirs[name].shape:
            return f"has {name} of shape {tuple(tensor.shape)}, not {tuple(theirs[name].shape)}"
    return ""


def _tensors(layer: nn.Module) -> dict[str, Tensor]:
    found = {**layer._parameters, **layer._buffers}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _unwrapped(model: nn.Module) -> nn.Module:
    """The network inside wrappers that only change how it is run."""
    while True:
        if not isinstance(model, nn.Module):
            raise TypeError(f"save_model() needs an nn.Module, got {type(model).__name__}")
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif "_orig_mod" in model._modules:  # torch.compile's
            model = model.get_submodule("_orig_mod")
        else:
            return model


def _build(architecture: dict[str, Any], *, device: str = "cpu") -> nn.Module:
    """The network that an ``.architecture`` describes, in float32 whatever the default is."""
    builders: dict[str, Callable[..., nn.Module]] = {"conv_net": conv_net, "mlp": mlp, "decoder": Decoder}
    sizes = dict(architecture)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device(device):
            return builders[sizes.pop("name")](**sizes)
    finally:
        torch.set_default_dtype(before)


def _check_fits(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Raise before a damaged size takes all memory, and where loading would round."""
    if tensors.keys() != wanted.keys():
        raise ValueError(f"{', '.join(sorted(tensors.keys() ^ wanted.keys()))} more or less than it has")
    for name, tensor in tensors.items():
        if (tensor.shape, tensor.dtype) != (wanted[name].shape, wanted[name].dtype):
            raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}, and it has {wanted[name].dtype} "
                             f"{tuple(wanted[name].shape)}")  # fmt: skip


def _restride(parameter: nn.Parameter, order: Sequence[int] | None) -> None:
    """Put the numbers in the order in memory that they were saved in."""
    if order is not None:
        if not _dense(parameter, order):
            raise ValueError(f"no order in memory is {order}")
        parameter.data = torch.empty_strided(parameter.shape, order).copy_(parameter.data)


def _dense(tensor: Tensor, order: Sequence[int]) -> bool:
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, order, strict=True))
    return reach + 1 == tensor.numel()


def _metadata(content: bytes) -> dict[str, str]:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header.get("__metadata__", {}))


def _checksum(tensors: dict[str, Tensor]) -> str:
    found = 0
    for name in sorted(tensors):
        found = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes(), found)
    return f"{found:08x}"


def _named(layers: OrderedDict[str, nn.Module], **architecture: Any) -> nn.Sequential:
    model = nn.Sequential(layers)
    model.architecture = architecture  # type: ignore[assignment]
    return model


def _check_sizes(name: str, sizes: Sequence[int]) -> None:
    if isinstance(sizes, int) or any(not isinstance(size, int) or size < 1 for size in sizes):
        raise ValueError(f"{name} must be a sequence of integers >= 1, got {sizes!r}")
