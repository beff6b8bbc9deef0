"""The running statistics of batch norm, estimated again for weights that training has not seen."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .._base.modes import Inputs, call, in_eval_mode
from .._base.weights import check_initialised

Model = TypeVar("Model", bound=nn.Module)


def reset_batchnorm(model: Model, batches: Iterable[Inputs]) -> Model:
    """Estimate the running statistics of every batch norm of ``model`` again, in place; returns ``model``.

    They become the mean over ``batches`` of each batch's mean and unbiased variance, while the batch norms normalise
    by the batch and all else is in eval mode (no dropout). ``batches`` are inputs without labels, as
    `kdcourse.quantization.calibrate` takes them: tensors, tuples of several inputs, or inputs by name; for one batch
    write ``[images]``. Weights, momentum and modes stay; frozen batch norms are reset, too; a network without batch
    norm stays as it is. For weights that were averaged, and for another domain.

    Raises ``ValueError``, and changes nothing, for no batches, a batch with one value per channel, and a batch norm
    that did not run.

    In production: `torch.optim.swa_utils.update_bn`. It gives the same numbers for a network without dropout,
    which it leaves on.

    Source: Izmailov et al. 2018, arXiv:1803.05407, section 3.2; for domains Li et al. 2016, arXiv:1603.04779.

    >>> model = nn.Sequential(nn.BatchNorm1d(1)).eval()
    >>> reset_batchnorm(model, [torch.tensor([[1.0], [3.0]])])[0].running_mean
    tensor([2.])
    >>> model[0].running_var
    tensor([2.])
    """
    check_initialised(model)
    if isinstance(batches, Tensor | Mapping):
        raise ValueError("batches must be an iterable of batches: for a single one, write [images]")
    norms = {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
    }
    if not norms:
        return model
    with in_eval_mode(model), _counting_from_zero(list(norms.values())), torch.no_grad():
        empty = True
        for batch in batches:
            empty = False
            _run(model, batch)
        if empty:
            raise ValueError("batches is empty; a generator can be read only once, make a new one")
        idle = [name for name, norm in norms.items() if not norm.num_batches_tracked]
        if idle:
            raise ValueError(f"the batch norm {idle[0]!r} did not run: give inputs that reach it, or take it out")
    return model


@contextmanager
def _counting_from_zero(norms: list[_BatchNorm]) -> Iterator[None]:
    """Inside the block the statistics are plain means from here on; they are put back where it fails."""
    before = [[buffer.clone() for buffer in norm.buffers()] for norm in norms]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum, norm.training = None, True
        yield
    except BaseException:
        for norm, buffers in zip(norms, before, strict=True):
            for buffer, old in zip(norm.buffers(), buffers, strict=True):
                buffer.copy_(old)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _run(model: nn.Module, batch: Inputs) -> None:
    try:
        call(model, batch)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "a batch has one value per channel, which has no variance: leave it out, drop_last=True in a DataLoader"
        ) from error
    except TypeError as error:
        if not isinstance(batch, tuple | list):
            raise
        raise ValueError(
            f"the model cannot be called on {len(batch)} inputs: give the inputs alone, (images for images, labels in "
            f"loader): {error}"
        ) from error
