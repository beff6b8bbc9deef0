"""Which of a model's weights are meant, and the checks that masks share."""

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from torch import Tensor, nn

from .._base.weights import COVERED, Place, all_places, matrices, owners, warn_left_out


def places(model: nn.Module, layers: Iterable[str] | None = None) -> dict[str, Place]:
    """Places of all `matrices`, or of ``layers``: modules (their weight) or full parameter names.

    Without ``layers`` tied weights come once, and what is left out is named in a warning.
    """
    if layers is None:
        found = {id(place.stored): (name, place) for name, place in reversed(matrices(model).items())}
        if not found:
            raise ValueError("the model has no Linear or Conv2d layer: name what to prune with layers=[...]")
        ties = owners(model)
        covered = [place for key in found for place in ties[key].values()]
        warn_left_out(model, covered, f"{COVERED}; name others with layers=[...]")
        return dict(reversed(found.values()))
    known = all_places(model)
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of names, got the string {layers!r}: write [{layers!r}]")
    names = [_known_name(name, known) for name in layers]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"layers must name at least one layer, and each once, got {names}")
    return {name: known[name] for name in names}


def _known_name(name: str, known: Mapping[str, Place]) -> str:
    short = name.removesuffix("weight").removesuffix(".")
    if name in known or (name.endswith("weight") and short in known):
        return name if name in known else short
    nearest = get_close_matches(name, known, n=3, cutoff=0.0)
    raise ValueError(f"the model has no layer {name!r} with a weight; the nearest names are {', '.join(nearest)}")


def check_sparsity(sparsity: float, name: str = "sparsity") -> None:
    """Raise unless ``sparsity`` is in [0, 1)."""
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(
            f"{name} must lie in [0, 1): the fraction of weights to prune, not a percentage; got {sparsity}"
        )


def check_not_emptied(layer: str, mask: Tensor) -> None:
    """Raise if ``mask`` keeps nothing: a layer without weights passes no information on."""
    if not mask.any():
        raise ValueError(
            f"layer {layer!r} would lose all of its {math.prod(mask.shape)} weights: "
            "ask for less sparsity, leave the layer out, or give each layer a sparsity of its own"
        )
