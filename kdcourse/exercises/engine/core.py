"""What an exercise is: a question, a right answer, cases to try answers on, and the wrong answers we know."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Answer = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """One call of the learner's function. ``refused`` says why a right answer raises here, where it does."""

    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    refused: str = ""


def case(*arguments: Any, **keywords: Any) -> Case:
    """An ordinary call: ``case(student, teacher, temperature=2.0)``."""
    return Case(arguments, keywords)


def refusal(why: str, *arguments: Any, **keywords: Any) -> Case:
    """A call that a right answer refuses by raising; ``why`` ends the sentence "it accepts …"."""
    return Case(arguments, keywords, why)


def draw(*shape: int, seed: int | torch.Generator = 0, spread: float = 3.0) -> Tensor:
    """Normal random numbers, float64: the same each time from a number, the next ones from a generator."""
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * spread


def integer(generator: torch.Generator, low: int, high: int) -> int:
    """A random integer from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


DRAWN = 12
"""how many drawn cases stand beside the fixed ones"""

SHAPES = "shapes that differ: {} and {}"
"""why a pair of tensors is refused"""


@dataclass(frozen=True)
class Misconception:
    """A common wrong answer, and what to tell a learner who gives it."""

    name: str
    wrong: Answer
    diagnosis: str
    replaces: str | None = None
    """dotted name of the `kdcourse` function that this is a wrong variant of: then the package's own tests must fail"""


def as_returned(result: Any, case: Case) -> Any:
    """What is compared, by default: the result itself."""
    return result


@dataclass(frozen=True)
class Exercise:
    """All that is known of one exercise; checking, proving and teaching read it from here."""

    id: str
    title: str
    question: str
    skeleton: str
    reference: Answer
    alternatives: tuple[Answer, ...]
    """the same, written differently: each must pass"""
    cases: Callable[[], list[Case]]
    """fresh tensors each time, the same numbers each time; the smallest cases first"""
    hints: tuple[str, ...]
    """from vague to plain"""
    misconceptions: tuple[Misconception, ...]
    shows: str
    """what a right answer has shown, one sentence"""
    derivation: str
    drawn: Callable[[torch.Generator], Case] | None = None
    """one random case: ``lambda g: case(draw(4, integer(g, 2, 5), seed=g))``; a dozen are tried after the fixed ones"""
    gradients: tuple[int, ...] = ()
    """places of the tensor arguments for which gradients are compared"""
    forbidden: tuple[str, ...] = ()
    """dotted names that an answer may not call: what it is to build"""
    observe: Callable[[Any, Case], Any] = as_returned
    """from result and case to what is compared, for answers that are networks"""
    may_change: bool = False
    """whether the answer is meant to change its arguments"""
    relative: float = 1e-5
    absolute: float = 1e-8
    points: int = 1

    def tried(self, seed: int = 0) -> list[Case]:
        """The fixed cases and a dozen drawn from ``seed``: fresh values each time, the same for the same seed."""
        return list(self.one_by_one(seed))

    def one_by_one(self, seed: int = 0) -> Iterator[Case]:
        """What `tried` lists, each case drawn when it is asked for."""
        yield from self.cases()
        if self.drawn:
            generator = torch.Generator().manual_seed(seed)
            for _ in range(DRAWN):
                yield self.drawn(generator)

    @property
    def notebook(self) -> str:
        """The notebook's number, "03" for "03.2"."""
        return self.id.split(".")[0]

    @property
    def name(self) -> str:
        """The name of the function that the learner writes."""
        return self.skeleton.split("def ", 1)[1].split("(", 1)[0]
