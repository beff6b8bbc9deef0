"""Images made worse on purpose: projected gradient descent, on any loss, through rounding, and by transfer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._base.checks import IGNORED, check_classes, check_label_range, check_labels, check_logits, widen
from .._base.gradients import NONE, check_network, input_gradient
from .._base.modes import in_eval_mode
from ..seeds import seeded
from ..training import frozen
from ..training.networks import Output, check_class_labels, logits_of
from ._checks import check_images, check_size

Loss = Literal["cross_entropy", "margin"] | Callable[[Tensor, Tensor], Tensor]
"""What an attack raises: by name, or a function of logits (M, C) and labels (M,) that returns a 0-d tensor."""


def pgd_attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int = 10,
    seed: int = 0,
    output: Output | None = None,
    loss: Loss = "cross_entropy",
) -> Tensor:
    """Images within ``epsilon`` of the given ones, in every pixel and in [0, 1], that raise the model's loss.

    Projected gradient descent: from a random start in the box, ``steps`` moves of 2.5 · epsilon / steps (enough to
    cross it) along the sign of the gradient of the ``loss``, each clipped back into the box. ``model`` runs in eval
    mode and is left as it was; ``output`` picks its logits (..., C), as in `fit`. The cross-entropy of a very confident
    network has no slope left: its logits times 100 look robust. For ``loss="margin"`` (`margin_loss`) they do not.

    A network that rounds must pass gradients, as `fake_quantize_model` does; for others see `straight_through`. An
    integer network is attacked through the one it was made from, and judged by `withstands`. Raises ``ValueError``
    where no gradient arrives.

    Source: Madry, Makelov, Schmidt, Tsipras, Vladu 2018, arXiv:1706.06083, section 2.1.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    >>> images = torch.rand(2, 1, 4, 4)
    >>> attacked = pgd_attack(network, images, torch.tensor([0, 2]), epsilon=0.1)
    >>> round((attacked - images).abs().max().item(), 3)
    0.1
    """
    check_size("epsilon", epsilon)
    check_network(model)
    check_images(images)
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    raised = _loss(loss)
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    with seeded(seed):
        start = images + epsilon * (2 * torch.rand(images.shape).to(images) - 1)
    attacked = start.clamp(low, high)
    with frozen(model), torch.enable_grad():
        for _ in range(steps):
            attacked = attacked.detach().requires_grad_(True)
            logits = logits_of(model(attacked), output)
            check_class_labels(labels, logits)
            if check_label_range(labels, logits.shape[-1]) and (labels == IGNORED).all():
                raise ValueError(f"nothing to attack: the label is {IGNORED} everywhere, give the class of one image")
            value = raised(logits.flatten(0, -2), labels.flatten())  # (M, C), (M,)
            slope = input_gradient(value, attacked)
            if not slope.any():
                raise ValueError(NONE + ". Where logits are so large that the softmax saturates, loss='margin' helps")
            attacked = (attacked + 2.5 * epsilon / steps * slope.sign()).clamp(low, high)
    return attacked.detach()


def margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the positions of the largest wrong logit less the label's: above zero the prediction is wrong.

    max_{c ≠ y} z_c - z_y, logits (..., C), labels (...) int64; -100 is left out. Multiplying all logits by a number
    multiplies its gradient, and changes no sign of it.

    Source: Carlini, Wagner 2017, arXiv:1608.04644, section V-A, objective f6 without its clamp.

    >>> margin_loss(torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]]), torch.tensor([0, 2]))  # -1 and 4
    tensor(1.5000)
    """
    check_logits("logits", logits)
    check_classes("logits", logits)
    check_labels(labels, logits)
    if check_label_range(labels, logits.shape[-1]):
        kept = labels != IGNORED
        logits, labels = logits[kept], labels[kept]
        if len(labels) == 0:
            raise ValueError(f"no position is left: the label is {IGNORED} everywhere")
    place = labels.unsqueeze(-1)
    wrong = widen(logits).scatter(-1, place, -torch.inf).amax(dim=-1)
    return (wrong - widen(logits).gather(-1, place).squeeze(-1)).mean()


def withstands(
    model: Callable[[Tensor], Any],
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    source: nn.Module | None = None,
    steps: int = 10,
    seed: int = 0,
    output: Output | None = None,
    loss: Loss = "cross_entropy",
) -> Tensor:
    """Where (N,) ``model`` is right on the image as it is and on the one that `pgd_attack` makes of it.

    With a ``source`` the images attack that network, and ``model`` is anything that maps images to logits (N, C):
    another network (a transfer attack), an `integer_network`, or ``lambda images: run(path, images)``; ``output`` picks
    from what both return. A network without gradients is at most as robust as it is against the worst of its sources:
    combine several by ``&``.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    >>> images = torch.rand(5, 1, 4, 4)
    >>> labels = network(images).argmax(dim=1)
    >>> withstands(network, images, labels, epsilon=0.001) & withstands(network, images, labels, epsilon=1.0)
    tensor([False, False, False, False, False])
    """
    if source is None:
        check_network(model)  # type: ignore[arg-type]  # which is what it finds out
        source = cast(nn.Module, model)
    attacked = pgd_attack(source, images, labels, epsilon=epsilon, steps=steps, seed=seed, output=output, loss=loss)
    with in_eval_mode(model) if isinstance(model, nn.Module) else nullcontext(), torch.no_grad():
        found = [logits_of(model(each), output) for each in (images, attacked)]
    for logits in found:
        check_class_labels(labels, logits)
    return torch.stack([logits.argmax(dim=-1) == labels for logits in found]).all(dim=0)


@contextmanager
def straight_through() -> Iterator[None]:
    """Inside the block ``torch.round``, ``floor``, ``ceil`` and ``trunc`` pass gradients on as they come.

    What they return is unchanged. So a network that rounds, and looks robust because no gradient reaches its images,
    can be attacked: the slope of its rounding is taken to be that of the identity. In-place rounding is left as it is.

    Source: Athalye, Carlini, Wagner 2018 (BPDA), arXiv:1802.00420, section 4.1; Bengio et al. 2013, arXiv:1308.3432.

    >>> value = torch.tensor(1.3, requires_grad=True)
    >>> with straight_through():
    ...     (3 * torch.round(value)).backward()
    >>> value.grad
    tensor(3.)
    """
    with _StraightThrough():
        yield


class _StraightThrough(TorchFunctionMode):
    """Takes the rounding functions in its hands wherever Python calls them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        steep = func in ROUNDING and args and isinstance(args[0], Tensor) and "out" not in given
        return _Identity.apply(args[0], func, args[1:], given) if steep else func(*args, **given)


class _Identity(torch.autograd.Function):
    """Rounding with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, func: Any, args: Any, kwargs: Any) -> Any:
        return func(values, *args, **kwargs)

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        return slopes[0], None, None, None


ROUNDING = {getattr(room, name) for room in (torch, Tensor) for name in ("round", "floor", "ceil", "trunc", "fix")}


def _loss(loss: Loss) -> Callable[[Tensor, Tensor], Tensor]:
    """What is raised, which must be one number."""
    named: dict[Any, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": F.cross_entropy, "margin": margin_loss}
    formula = loss if callable(loss) else named.get(loss)
    if formula is None:
        raise ValueError(f"loss must be 'cross_entropy', 'margin' or a function of logits and labels, got {loss!r}")

    def checked(logits: Tensor, labels: Tensor) -> Tensor:
        value = formula(logits, labels)
        if not isinstance(value, Tensor) or value.ndim != 0:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"loss must return a 0-d tensor, got {found}: take the mean")
        return value

    return checked
