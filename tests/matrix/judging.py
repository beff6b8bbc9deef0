"""One cell of the matrix: apply a helper to a network and hold what comes out against `oracles`, or its refusal
against what is so. A cell is "right", "warned" (right, and said what was left out) or "refused"; else it fails."""

import copy
import re
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

import kdcourse

from . import oracles
from .kinds import Kind

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.05}
PACKAGE = Path(kdcourse.__file__).parent
VERBS = "first|leave|pass|use|give|name|call|convert|ask|take|remove|make|write|run|load|ends?|needs?|must"
WAY_OUT = re.compile(rf"\w\(\)|torch-pruning|\b({VERBS})\b")


def is_lazy(model: nn.Module) -> bool:
    """Some layer waits for its first batch to know its shape."""
    return any(isinstance(value, UninitializedParameter) for value in model.parameters())


class Failed(AssertionError):
    """A cell that is neither right nor refused as it should."""


HELD: list[Kind] = []
"""kinds whose plain copy was found to be right: a kind's network is the same each time"""


class Twin:
    """A network as the helpers leave it, and beside it what it must compute, by hand in float64."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.real, self.example = kind, kind.network(), kind.example()
        self.masks: dict[str, Tensor] = {}
        self.inputs_rounded: dict[str, tuple[oracles.Bounds, int]] = {}
        self.outputs_rounded: dict[str, tuple[oracles.Bounds, int]] = {}
        self.before_rounding: dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]] = {}
        self.traits = {} if is_lazy(self.real) else traits(self.real)
        self.in_order = not any(COMPUTED.search(name) for name, _ in self.real.named_parameters())
        self.read()
        if kind not in HELD and not is_lazy(self.real):
            self.hold(self.real, "the matrix itself: a plain copy")
            HELD.append(kind)

    def read(self) -> None:
        """Take the plain network from the real one: after a step that trains or builds anew."""
        found = self.real
        if is_lazy(found):  # its copy is initialized
            found = copy.deepcopy(found)
            oracles.run(found, self.example)
        self.plain = oracles.strip(found).double()
        self.before_rounding = {}

    def aside(self, *, untied: bool = False) -> "Twin":
        """This twin with a plain network of its own, to try something on."""
        other = copy.copy(self)
        other.masks, other.before_rounding = dict(self.masks), dict(self.before_rounding)
        other.plain = oracles.untied(self.plain) if untied else copy.deepcopy(self.plain)
        return other

    @property
    def slack(self) -> float:
        """The relative error beside that of the number format: rounded activations have scales in float32."""
        return 1e-6 if self.inputs_rounded else 0.0

    @property
    def wide(self) -> Any:
        """The example in float64."""
        parts = self.example if isinstance(self.example, tuple) else (self.example,)
        parts = tuple(part.double() if part.is_floating_point() else part for part in parts)
        return parts if isinstance(self.example, tuple) else parts[0]

    def expected(self, example: Any = None, *, gradient: bool = True) -> Any:
        """What the network must return."""
        handles = []
        for name, how in self.inputs_rounded.items():
            layer = self.plain.get_submodule(name)
            handles.append(layer.register_forward_pre_hook(_rounding_inputs(*how)))
        for name, how in self.outputs_rounded.items():
            layer = self.plain.get_submodule(name)
            handles.append(layer.register_forward_hook(_rounding_outputs(*how)))
        try:
            return oracles.run(self.plain, self.wide if example is None else example, gradient=gradient)
        finally:
            for handle in handles:
                handle.remove()

    def logits(self, model: nn.Module, example: Any = None) -> Tensor:
        """Of the network as it stands, with gradient."""
        example = self.example if example is None else example
        return self.kind.pick(model(*example) if isinstance(example, tuple) else model(example))

    def loss(self, output: Any) -> Tensor:
        logits = self.kind.pick(output)
        return F.cross_entropy(logits.flatten(0, -2), self.kind.labels(logits).flatten())

    def hold(self, model: nn.Module, what: str) -> None:
        """Fail unless ``model`` computes what must be, with gradient and without."""
        expected = oracles.tensors(self.expected())
        for gradient in (False, True):
            found = oracles.tensors(oracles.run(model, self.example, gradient=gradient))
            near(found, expected, self.kind, f"{what}: outputs", self.slack)


def near(found: Any, expected: Any, kind: Kind, what: str, tolerance: float = 0.0) -> None:
    """Fail unless both agree to the number format's relative error."""
    found, expected = (torch.as_tensor(part, dtype=torch.float64).detach() for part in (found, expected))
    if found.shape != expected.shape:
        raise Failed(f"{what} have shape {tuple(found.shape)}, must have {tuple(expected.shape)}")
    error = ((found - expected).norm() / expected.norm().clamp(min=1e-12)).item()
    if not error <= max(tolerance, TOLERANCE[kind.dtype]):
        raise Failed(f"{what} are off by a relative {error:.2g}")


def demand(right: object, what: str) -> None:
    if not right:
        raise Failed(what)


class Refusal(NamedTuple):
    """Words that a refusal may use, and whether the network is as they say."""

    words: str
    so: Callable[[Twin], bool]


CHANGES, COPIES, MEASURES = "changes the network", "returns another", "measures"


class Helper(NamedTuple):
    """``act`` applies it; ``check`` fails unless what came out, and what was said, is right."""

    name: str
    act: Callable[[Twin], Any]
    check: Callable[[Twin, Any, str], None]
    effect: str
    refusals: tuple[Refusal, ...] = ()
    after: str = ""
    """what comes first where it stands alone"""
    like: str = ""
    """a helper that leaves a network as it does: one of them is enough to put another after"""
    must: str = ""
    """a regular expression: kinds of network on which it may not refuse"""


def take(helper: Helper, twin: Twin) -> str:
    """Apply the helper to the network: "right", "warned" or "refused", or `Failed`."""
    before = None if is_lazy(twin.real) else condition(twin.real)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = helper.act(twin)
        except Exception as error:
            check_refusal(helper, twin, error)
            demand(before is None or condition(twin.real) == before, "refused, and yet changed the network")
            return "refused"
    said = "\n".join(str(warning.message) for warning in caught)
    if helper.effect != CHANGES and before is not None:
        changed = [part for part, was, now in zip(CONDITIONS, before, condition(twin.real), strict=True) if was != now]
        demand(not changed, f"the network's {', '.join(changed)} changed")
        twin.hold(twin.real, "the network it was given")
    try:
        helper.check(twin, result, said)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{Path(where.filename).name}:{where.lineno}"
        raise Failed(f"what came out cannot be checked: {type(error).__name__} at {at}: {error}") from error
    check_traits(twin)
    return "warned" if said else "right"


def check_refusal(helper: Helper, twin: Twin, error: Exception) -> None:
    """Fail unless the package refused on purpose, in a sentence that is true and names a way out."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if PACKAGE in Path(frame.filename).parents]
    text = f"{type(error).__name__}: {error}"
    at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
    if not ours or ours[-1] is not frames[-1] or not isinstance(error, ValueError | TypeError | NotImplementedError):
        raise Failed(f"raised, not refused, at {at}: {text[:300]}") from error
    message = str(error)
    demand(len(message) >= 40 and WAY_OUT.search(message), f"a refusal without a way out: {text}")
    known = [refusal for refusal in helper.refusals if re.search(refusal.words, message)]
    demand(known, f"refused in words that the matrix does not know: {text}")
    demand(any(refusal.so(twin) for refusal in known), f"refused for what is not so: {text}")
    must = re.fullmatch(helper.must, twin.kind.name) if helper.must else None
    demand(not must, f"refused what it must do: {text}")


CONDITIONS = "values", "modes", "frozen parts", "hooks", "classes"


def condition(model: nn.Module) -> tuple[Any, ...]:
    """All of a network that a helper must leave as it was."""
    values = [(name, value.dtype, value.double().numpy().tobytes()) for name, value in model.state_dict().items()]
    modes = [part.training for part in model.modules()]
    wanted = [value.requires_grad for value in model.parameters()]
    hooks = [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in model.modules()]
    return values, modes, wanted, hooks, [type(part).__name__ for part in model.modules()]


COMPUTED = re.compile(r"parametrizations\.(\w+)\.original\d*|(?<=weight)_(orig|v|g)$")


class Trait(NamedTuple):
    """What is so of a parameter beside its values."""

    trained: bool
    channels_last: bool | None
    """none where it is no image filter"""
    tied: frozenset[str]


def traits(model: nn.Module) -> dict[str, Trait]:
    """Of each parameter, in their order, under the names that they have where nothing computes them."""
    named = [(COMPUTED.sub(r"\1", name), value) for name, value in model.named_parameters(remove_duplicate=False)]
    return {
        name: Trait(
            value.requires_grad,
            value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()
            if value.ndim == 4 else None,
            frozenset(other for other, their in named if their is value),
        )
        for name, value in named
    }  # fmt: skip


def check_traits(twin: Twin) -> None:
    """Fail where a parameter that is still there is not as it was; ties may part where the values have."""
    now, values = traits(twin.real), dict(twin.real.named_parameters(remove_duplicate=False))
    for name in twin.traits.keys() & now.keys():
        before, after = twin.traits[name], now[name]
        demand(after.trained == before.trained, f"{name!r} takes a gradient where it took none, or none any more")
        demand(after.channels_last in (before.channels_last, None), f"{name!r} is laid out in memory in another way")
        for other in (before.tied - after.tied) & values.keys():
            parted = name in values and not torch.equal(values[name], values[other])
            demand(parted, f"{name!r} and {other!r} are equal, and no longer tied")
    if set(now) == set(twin.traits) and twin.in_order and set(now) <= set(values):
        demand(list(now) == list(twin.traits), "the parameters stand in another order")


def named(name: str, said: str) -> bool:
    """Whether a warning speaks of this parameter."""
    return re.search(rf"(?<![\w.]){re.escape(oracles.short(name))}(?![\w.]*\w)", said) is not None


def said_of(names: list[str], said: str, what: str) -> None:
    """Fail unless each of the weights that were left out is named, and no warning comes when there is none."""
    silent = [name for name in names if not named(name, said)]
    demand(not silent, f"{what} left out without a word: {', '.join(silent)}")


def _rounding_inputs(bounds: oracles.Bounds, bits: int) -> Callable[..., Any]:
    return lambda part, given: (oracles.straight_through(given[0], bounds, bits), *given[1:])


def _rounding_outputs(bounds: oracles.Bounds, bits: int) -> Callable[..., Any]:
    return lambda part, given, found: oracles.straight_through(found, bounds, bits)
