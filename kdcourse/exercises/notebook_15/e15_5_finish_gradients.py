"""15.5 scaled gradients, ready for the step."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Found = list[Tensor] | None


def finish_gradients(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    gradients = [gradient.float() / scale for gradient in scaled]
    if not all(gradient.isfinite().all() for gradient in gradients):
        return None
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    if norm > max_norm:
        gradients = [gradient * (max_norm / norm) for gradient in gradients]
    return gradients


def finish_by_pytorch(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    if any(not torch.isfinite(gradient).all() for gradient in scaled):
        return None
    parameters = [torch.nn.Parameter(torch.zeros(gradient.shape)) for gradient in scaled]
    for parameter, gradient in zip(parameters, scaled, strict=True):
        parameter.grad = gradient.to(torch.float32) / scale
    torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def finish_while_scaled(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    """Clip with a bound that is scaled, too: that is the same."""
    flat = torch.cat([gradient.flatten() for gradient in scaled]).float()
    if not flat.isfinite().all():
        return None
    factor = 1 / max(1.0, float(flat.norm()) / (scale * max_norm))
    return [gradient.float() * factor / scale for gradient in scaled]


def _finite(tensors: list[Tensor]) -> bool:
    return all(bool(each.isfinite().all()) for each in tensors)


def _unscaled(scaled: list[Tensor], scale: float) -> list[Tensor]:
    return [each.float() / scale for each in scaled]


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.cat([each.flatten() for each in tensors]).norm()


def _clipped(tensors: list[Tensor], max_norm: float) -> list[Tensor]:
    norm = _norm(tensors)
    return [each * (max_norm / norm) for each in tensors] if norm > max_norm else tensors


def clipped_first(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    if not _finite(scaled):
        return None
    return [each / scale for each in _clipped([each.float() for each in scaled], max_norm)]


def norm_of_each(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    if not _finite(scaled):
        return None
    return [_clipped([each], max_norm)[0] for each in _unscaled(scaled, scale)]


def entries_clamped(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    if not _finite(scaled):
        return None
    return [each.clamp(-max_norm, max_norm) for each in _unscaled(scaled, scale)]


def always_normalized(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    if not _finite(scaled):
        return None
    gradients = _unscaled(scaled, scale)
    return [each * (max_norm / _norm(gradients)) for each in gradients]


def not_clipped(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    return _unscaled(scaled, scale) if _finite(scaled) else None


def not_unscaled(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    return _clipped([each.float() for each in scaled], max_norm) if _finite(scaled) else None


def multiplied(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    return _clipped([each.float() * scale for each in scaled], max_norm) if _finite(scaled) else None


def unscaled_in_half(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    if not _finite(scaled):
        return None
    return _clipped([(each.float() / scale).half().float() for each in scaled], max_norm)


def never_skipped(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    return _clipped(_unscaled(scaled, scale), max_norm)


def replaced_by_zero(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    return _clipped([each.nan_to_num(0.0, 0.0, 0.0) for each in _unscaled(scaled, scale)], max_norm)


def only_the_first(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    return _clipped(_unscaled(scaled, scale), max_norm) if _finite(scaled[:1]) else None


def nan_passes(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    if any(each.isinf().any() for each in scaled):
        return None
    return _clipped(_unscaled(scaled, scale), max_norm)


def zeros_for_none(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    if not _finite(scaled):
        return [torch.zeros(each.shape) for each in scaled]
    return _clipped(_unscaled(scaled, scale), max_norm)


def sum_overflows(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    if not all(each.sum().isfinite() for each in scaled):
        return None
    return _clipped(_unscaled(scaled, scale), max_norm)


def norm_in_half(scaled: list[Tensor], *, scale: float, max_norm: float) -> Found:
    if not _finite(scaled):
        return None
    norm = float(sum(each.square().sum() for each in scaled)) ** 0.5 / scale
    return [each * min(1.0, max_norm / norm) if norm else each for each in _unscaled(scaled, scale)]


def _scaled(seed: int, shapes: list[tuple[int, ...]], scale: float, size: float) -> list[Tensor]:
    return [(scale * draw(*shape, seed=seed + place, spread=size)).half() for place, shape in enumerate(shapes)]


def _spoiled(gradients: list[Tensor], place: int, value: float) -> list[Tensor]:
    gradients[place].flatten()[0].fill_(value)
    return gradients


def finish_cases() -> list[Case]:
    shapes, inf = [(3,), (2, 2)], float("inf")
    large, small = torch.tensor([24.0, -40.0]), torch.tensor([8.0])
    tiny = [torch.tensor([0.011, 0.5]).half(), torch.tensor([[-0.37, 0.004]]).half()]
    return [
        case([large.half(), small.half()], scale=8.0, max_norm=2.0),  # clipped
        case([large.half(), small.half()], scale=8.0, max_norm=20.0),  # left as they are
        case([each.clone() for each in tiny], scale=2.0, max_norm=5.0),  # nor clipped if it were multiplied
        case(tiny, scale=65536.0, max_norm=1.0),  # too small for float16 once unscaled
        case(_scaled(80, shapes, 1024.0, 0.5), scale=1024.0, max_norm=0.7),
        case(_scaled(85, [(4, 5), (5,), (1,)], 500.0, 20.0), scale=500.0, max_norm=50.0),
        case(_spoiled(_scaled(90, shapes, 256.0, 0.5), 1, inf), scale=256.0, max_norm=1.0),
        case(_spoiled(_scaled(92, shapes, 256.0, 0.5), 0, -inf), scale=256.0, max_norm=1.0),
        case(_spoiled(_scaled(94, shapes, 256.0, 0.5), 1, float("nan")), scale=256.0, max_norm=1.0),
        case([torch.full((4,), 60000.0).half(), torch.ones(1).half()], scale=65536.0, max_norm=5.0),  # sums overflow
    ]


def drawn_finish(g: torch.Generator) -> Case:
    scale = 2.0 ** integer(g, 4, 12)
    shapes: list[tuple[int, ...]] = [(integer(g, 1, 4),), (integer(g, 1, 3), 2)]
    gradients = [(scale * draw(*shape, seed=g, spread=1.0)).half() for shape in shapes]
    if integer(g, 0, 3) == 0:
        _spoiled(gradients, integer(g, 0, 1), (float("inf"), float("nan"))[integer(g, 0, 1)])
    return case(gradients, scale=scale, max_norm=integer(g, 5, 30) / 10)


EXERCISE = Exercise(
    id="15.5",
    title="scaled gradients, ready for the step",
    question=(
        "The loss was multiplied by `scale` before the backward pass, so that small gradients do not vanish in "
        "float16. Write `my_finish_gradients(scaled, *, scale, max_norm)` for the list of the float16 gradients, one "
        "tensor per parameter, of any shapes. If any entry of any tensor is infinite or NaN, return None: this step is "
        "skipped. Otherwise return a list of float32 tensors: the gradients of the loss itself, clipped. Clipped "
        "means: if the norm of all entries of all tensors together exceeds `max_norm`, all tensors are multiplied by "
        "the same factor, so that it becomes `max_norm`. Rounding errors up to 1e-5 of a result do not matter."
    ),
    skeleton=(
        "def my_finish_gradients(scaled, *, scale, max_norm):\n"
        '    """The gradients of the loss itself, clipped, or None where one is not finite."""\n    ...'
    ),
    reference=finish_gradients,
    alternatives=(finish_by_pytorch, finish_while_scaled),
    cases=finish_cases,
    drawn=drawn_finish,
    hints=(
        "`max_norm` is a bound for the gradients of the loss. Are the ones you have those?",
        "Three steps, in this order: to float32 and divided by the scale; look for infinity and NaN; one norm over all "
        "tensors, and one factor.",
        "`norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()`; where it exceeds `max_norm`, "
        "multiply every tensor by `max_norm / norm`.",
    ),
    misconceptions=(
        Misconception(
            "clipped before unscaling",
            clipped_first,
            "you clip the *scaled* gradients and divide afterwards. The bound is then max_norm / scale, thousands of "
            "times smaller than what was asked for, and the network hardly moves. Unscale first",
        ),
        Misconception(
            "not unscaled",
            not_unscaled,
            "you never divide by the scale: these are gradients of scale · loss",
        ),
        Misconception("multiplied", multiplied, "you multiply by the scale once more. It has to be taken out: divide"),
        Misconception(
            "a norm for each tensor",
            norm_of_each,
            "you clip every tensor by its own norm. That changes the direction of the step: one norm over all tensors, "
            "one factor for all",
        ),
        Misconception(
            "entries clamped",
            entries_clamped,
            "you clamp the entries one by one. That changes the direction of the step: scale all of them by one factor",
        ),
        Misconception(
            "always normalized",
            always_normalized,
            "you also enlarge gradients that are smaller than the bound. Clipping only shortens",
        ),
        Misconception("not clipped", not_clipped, "the gradients are unscaled, but nothing is clipped"),
        Misconception(
            "unscaled in float16",
            unscaled_in_half,
            "you divide in float16, or round to it afterwards. The small gradients that the scale has saved vanish "
            "again: convert to float32 first, and stay there",
        ),
        Misconception(
            "never skipped",
            never_skipped,
            "you never return None. An infinite gradient makes the norm infinite, the factor 0, and infinity times 0 "
            "is NaN: one such step destroys all weights",
        ),
        Misconception(
            "infinity replaced by 0",
            replaced_by_zero,
            "you replace what is not finite by 0. The step then goes in a wrong direction, and nobody sees that the "
            "scale is too large: skip it",
        ),
        Misconception(
            "only the first tensor looked at",
            only_the_first,
            "you look for infinity and NaN in the first tensor only. Any of them may overflow",
        ),
        Misconception(
            "NaN passes",
            nan_passes,
            "you look for infinity only. NaN, from infinity minus infinity, is not finite either: `isfinite`",
        ),
        Misconception(
            "zeros instead of None",
            zeros_for_none,
            "you return zeros where a step has to be skipped. With momentum or weight decay a step on zeros "
            "still moves the weights: return None",
        ),
        Misconception(
            "a sum that overflows",
            sum_overflows,
            "you test whether the *sum* is finite. In float16 a sum of finite numbers may overflow: such a step is "
            "skipped for no reason",
        ),
        Misconception(
            "the norm in float16",
            norm_in_half,
            "you compute the norm in float16. The squares of scaled gradients overflow there: the norm is infinite, "
            "and every gradient becomes 0",
        ),
    ),
    shows="a bound on the gradient means something only after the scale is taken out.",
    derivation=(
        "The gradient of S · L is S · g. Clipping S · g at c is clipping g at c / S: with S = 65,536 and c = 1 every "
        "gradient is cut to 0.000015. PyTorch: `scaler.unscale_(optimizer)` before `clip_grad_norm_`. If S is a power "
        "of two it changes only exponents, and dividing it out is exact."
    ),
    relative=1e-5,
    absolute=1e-12,
)
