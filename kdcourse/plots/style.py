"""Colours that the colour-blind tell apart, and the marks that go with them."""

from collections.abc import Mapping
from typing import Any

# Okabe and Ito's palette, told apart in the common kinds of colour blindness
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip


def check_count(what: str, things: Mapping[str, Any], most: int) -> None:
    if len(things) > most:
        raise ValueError(f"at most {most} {what} can be told apart in one figure, got {len(things)}")
