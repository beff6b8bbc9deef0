"""Wrong answers to 13.4, each with its diagnosis."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import Misconception
from .common import norms_of


@contextmanager
def _as_before(model: nn.Module) -> Iterator[None]:
    """Afterwards modes and momenta are as before."""
    modes, momenta = [(part, part.training) for part in model.modules()], [norm.momentum for norm in norms_of(model)]
    yield
    for norm, old in zip(norms_of(model), momenta, strict=True):
        norm.momentum = old
    for part, training in modes:
        part.training = training


def _pass(model: nn.Module, images: Tensor, *, momentum: float | None = 1.0, reset: bool = False) -> nn.Module:
    """One pass with batch norm in train mode at another momentum, its own where it is None; modes as before."""
    with _as_before(model), torch.no_grad():
        model.eval()
        for norm in norms_of(model):
            norm.train()
            if reset:
                norm.reset_running_stats()
            norm.momentum = norm.momentum if momentum is None else momentum
        model(images)
    return model


def own_momentum(model: nn.Module, images: Tensor) -> nn.Module:
    return _pass(model, images, momentum=None)


def reset_then_own_momentum(model: nn.Module, images: Tensor) -> nn.Module:
    return _pass(model, images, momentum=None, reset=True)


def reset_only(model: nn.Module, images: Tensor) -> nn.Module:
    for norm in norms_of(model):
        norm.reset_running_stats()
    return model


def averaged_without_a_reset(model: nn.Module, images: Tensor) -> nn.Module:
    momenta = [norm.momentum for norm in norms_of(model)]
    for norm in norms_of(model):
        norm.momentum = None
    _pass(model, images, momentum=None)
    for norm, old in zip(norms_of(model), momenta, strict=True):
        norm.momentum = old
    return model


def nothing_moves(model: nn.Module, images: Tensor) -> nn.Module:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        model(images)
    for module, training in modes:
        module.training = training
    return model


def left_in_train_mode(model: nn.Module, images: Tensor) -> nn.Module:
    return _pass(model, images).train()


def left_in_eval_mode(model: nn.Module, images: Tensor) -> nn.Module:
    return _pass(model, images).eval()


def one_mode_for_all(model: nn.Module, images: Tensor) -> nn.Module:
    return _pass(model, images).train(model.training)


def weights_reset(model: nn.Module, images: Tensor) -> nn.Module:
    for norm in norms_of(model):
        norm.reset_parameters()
    return _pass(model, images)


def momentum_left(model: nn.Module, images: Tensor) -> nn.Module:
    _pass(model, images)
    for norm in norms_of(model):
        norm.momentum = 1.0
    return model


def _in_train_mode(model: nn.Module, images: Tensor, but: tuple[type[nn.Module], ...]) -> nn.Module:
    """One pass with all modules in train mode ``but`` those of some types."""
    with _as_before(model), torch.no_grad():
        for part in model.modules():
            part.training = not isinstance(part, but)
        for norm in norms_of(model):
            norm.momentum = 1.0
        model(images)
    return model


def all_in_train_mode(model: nn.Module, images: Tensor) -> nn.Module:
    return _in_train_mode(model, images, ())


def dropout_by_type(model: nn.Module, images: Tensor) -> nn.Module:
    return _in_train_mode(model, images, (nn.Dropout, nn.Dropout2d))


def _measured(model: nn.Module, images: Tensor, *, correction: int = 1, train: bool = True) -> nn.Module:
    """Statistics written by hooks."""
    found: list[tuple[Any, Tensor]] = []
    hooks = [
        norm.register_forward_pre_hook(lambda part, inputs: found.append((part, inputs[0]))) for norm in norms_of(model)
    ]
    look = [(part, part.training) for part in model.modules()]
    statistics = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms_of(model)]
    model.eval()
    for norm in norms_of(model):
        norm.train(train)
    with torch.no_grad():
        model(images)
    for norm, (mean, var) in zip(norms_of(model), statistics, strict=True):
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
    for norm, inputs in found:
        columns = inputs.transpose(0, 1).flatten(1)
        norm.running_mean.copy_(columns.mean(dim=1))
        norm.running_var.copy_(columns.var(dim=1, correction=correction))
    for hook in hooks:
        hook.remove()
    for part, training in look:
        part.training = training
    return model


def biased_variance(model: nn.Module, images: Tensor) -> nn.Module:
    return _measured(model, images, correction=0)


def inputs_from_old_statistics(model: nn.Module, images: Tensor) -> nn.Module:
    return _measured(model, images, train=False)


def _all_but(model: nn.Module, images: Tensor, left: list[Any]) -> nn.Module:
    """All norms, but these get their old statistics back."""
    statistics = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in left]
    _pass(model, images)
    for norm, (mean, var) in zip(left, statistics, strict=True):
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
    return model


def first_level_only(model: nn.Module, images: Tensor) -> nn.Module:
    deeper = [norm for norm in norms_of(model) if not any(norm is child for child in model.children())]
    return _all_but(model, images, deeper)


def of_images_only(model: nn.Module, images: Tensor) -> nn.Module:
    return _all_but(model, images, [norm for norm in norms_of(model) if not isinstance(norm, nn.BatchNorm2d)])


def training_norms_only(model: nn.Module, images: Tensor) -> nn.Module:
    return _all_but(model, images, [norm for norm in norms_of(model) if not norm.training])


def a_copy(model: nn.Module, images: Tensor) -> nn.Module:
    return _pass(deepcopy(model), images)


WRONG = (
    Misconception(
        "a tenth of the way",
        own_momentum,
        "one pass with the norms' own momentum moves the statistics by a tenth of the way (momentum 0.1): nine "
        "tenths are still those of the old domain. A momentum of 1 leaves nothing of them",
    ),
    Misconception(
        "reset, then a tenth of the way",
        reset_then_own_momentum,
        "you reset to mean 0 and variance 1 and then move a tenth of the way to the batch: the statistics are "
        "mostly those of no data at all. Use a momentum of 1 (or None, the plain average, after the reset)",
    ),
    Misconception(
        "reset only",
        reset_only,
        "you reset to mean 0 and variance 1, and the batch is never seen: let it pass in train mode",
    ),
    Misconception(
        "averaged with all batches before",
        averaged_without_a_reset,
        "a momentum of None is right for a norm that was reset: it takes the plain average of all batches since. Yours "
        "has counted the batches of the old domain, and this one is a small part of the average",
    ),
    Misconception(
        "nothing moves",
        nothing_moves,
        "the statistics are as before: in eval mode batch norm reads its running statistics and never updates "
        "them. The norms must be in train mode",
    ),
    Misconception(
        "train mode left on",
        left_in_train_mode,
        "the statistics are correct, but you leave the network in train mode: it then uses those of each batch, so "
        "the prediction for an image depends on its neighbours, and the next batch moves the statistics again",
    ),
    Misconception(
        "eval mode left on",
        left_in_eval_mode,
        "the statistics are correct, but you leave everything in eval mode, also what was in train mode before",
    ),
    Misconception(
        "one mode for all",
        one_mode_for_all,
        "`model.train(was_training)` gives all modules the mode of the outermost. Here some differ, as when "
        "batch norm is frozen in a network that trains: remember the mode of each",
    ),
    Misconception(
        "weights reset",
        weights_reset,
        "`reset_parameters()` also sets the trained scale and shift of the norm to 1 and 0. "
        "`reset_running_stats()` leaves them alone",
    ),
    Misconception(
        "momentum left changed",
        momentum_left,
        "the statistics are correct, but the momentum stays changed: whoever trains the network further keeps "
        "the statistics of the last batch alone",
    ),
    Misconception(
        "dropout on",
        all_in_train_mode,
        "you put the whole network into train mode. Dropout then sets inputs to 0 at random, so the statistics are "
        "of activations that do not occur in eval mode. Only the norms train: `model.eval()` first",
    ),
    Misconception(
        "dropout found by its type",
        dropout_by_type,
        "you switch off the dropout layers that you find by their type. Dropout as a function (`F.dropout(x, p, "
        "self.training)`) follows the mode of the module that calls it, and is still on. Put everything into eval mode "
        "and then the norms into train mode",
    ),
    Misconception(
        "biased variance",
        biased_variance,
        "you divide the squared deviations by n. Batch norm stores the unbiased variance, divided by n - 1, "
        "although it normalizes the batch itself with the biased one",
    ),
    Misconception(
        "inputs from the old statistics",
        inputs_from_old_statistics,
        "you measure the inputs while the norms are in eval mode. The second norm then gets what the first one "
        "makes with its *old* statistics: inputs that never occur again",
    ),
    Misconception(
        "first level only",
        first_level_only,
        "you go through the direct parts of the network only. Norms within parts keep the old statistics: "
        "`modules()` goes through all levels",
    ),
    Misconception(
        "norms of images only",
        of_images_only,
        "you look for `BatchNorm2d` only. Batch norm after a linear layer is a `BatchNorm1d` and keeps the old "
        "statistics",
    ),
    Misconception(
        "norms in train mode only",
        training_norms_only,
        "a norm that was in eval mode before keeps the old statistics. Put *every* norm into train mode for the pass, "
        "and back afterwards",
    ),
    Misconception(
        "a copy",
        a_copy,
        "you change a copy and return that. The network that was passed in is as before: change it itself",
    ),
)
