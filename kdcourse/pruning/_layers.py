"""Where a model's weights live, with or without a mask on them, and the checks that masks share."""

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Place(NamedTuple):
    """A parameter of a module, by its attribute's name."""

    module: nn.Module
    attribute: str

    @property
    def effective(self) -> Tensor:
        """What the forward pass uses: the parameter, or its masked view computed anew."""
        value = getattr(self.module, self.attribute)
        assert isinstance(value, Tensor)
        return value

    @property
    def stored(self) -> Tensor:
        """The leaf that the optimizer holds: under a mask, what the mask is applied to."""
        if not parametrize.is_parametrized(self.module, self.attribute):
            return self.effective
        stored = getattr(self.module.parametrizations, self.attribute).original
        assert isinstance(stored, Tensor)
        return stored


def places(model: nn.Module, layers: Iterable[str] | None = None) -> dict[str, Place]:
    """Places of the Linear and Conv2d weights, or of ``layers``: modules (their weight) or full parameter names."""
    known = all_places(model)
    if layers is None:
        kinds = nn.Linear, nn.Conv2d
        found = {n: p for n, p in known.items() if isinstance(p.module, kinds) and p.attribute == "weight"}
        if not found:
            raise ValueError("the model has no Linear or Conv2d layer: name what to prune with layers=[...]")
        return found
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of names, got the string {layers!r}: write [{layers!r}]")
    names = [_known_name(name, known) for name in layers]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"layers must name at least one layer, and each once, got {names}")
    return {name: known[name] for name in names}


def all_places(model: nn.Module) -> dict[str, Place]:
    """Every parameter: under its module's name if it is a weight, otherwise under its own full name."""
    found: dict[str, Place] = {}
    for path, module in model.named_modules():
        if isinstance(module, parametrize.ParametrizationList):
            continue  # the stored original is reached through the module that it belongs to
        attributes = [name for name, value in module._parameters.items() if value is not None]
        if parametrize.is_parametrized(module):
            assert isinstance(module.parametrizations, nn.ModuleDict)
            attributes += list(module.parametrizations)
        for attribute in attributes:
            name = path if attribute == "weight" else f"{path}.{attribute}".lstrip(".")
            found[name] = Place(module, attribute)
    return found


def _known_name(name: str, known: Mapping[str, Place]) -> str:
    short = name.removesuffix("weight").removesuffix(".")
    if name in known or (name.endswith("weight") and short in known):
        return name if name in known else short
    nearest = get_close_matches(name, known, n=3, cutoff=0.0)
    raise ValueError(f"the model has no layer {name!r} with a weight; the nearest names are {', '.join(nearest)}")


def check_sparsity(sparsity: float, name: str = "sparsity") -> None:
    """Raise unless ``sparsity`` lies in [0, 1)."""
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"{name} must lie in [0, 1): the share of weights to prune, not a percentage; got {sparsity}")


def check_weight(name: str, weight: Tensor) -> None:
    """Raise unless ``weight`` is a non-empty floating-point tensor of finite numbers."""
    if not weight.is_floating_point() or weight.numel() == 0:
        raise ValueError(f"{name} must be a non-empty floating-point tensor, got {weight.dtype} {tuple(weight.shape)}")
    if not torch.isfinite(weight).all():
        raise ValueError(f"{name} contains NaN or infinity: it cannot be ranked; look for a diverged model")


def check_not_emptied(layer: str, mask: Tensor) -> None:
    """Raise if ``mask`` keeps nothing: a layer without weights passes no information on."""
    if not mask.any():
        raise ValueError(
            f"layer {layer!r} would lose all of its {math.prod(mask.shape)} weights: "
            "ask for less sparsity, leave the layer out, or give each layer a sparsity of its own"
        )
