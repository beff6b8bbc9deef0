"""Every helper on every kind of network, and one helper after another: right, or refused in a true sentence.

`matrix.kinds` and `matrix.helpers` are the lists; a new kind or helper is one line there.
"""

import pytest
from matrix import table
from matrix.helpers import BY_NAME, HELPERS
from matrix.judging import MEASURES, Failed, Helper, Twin, take
from matrix.kinds import KINDS, Kind

# exported on few: the exporter takes a second
EXPORTED = "conv net", "LSTM", "several inputs"
NETWORKS = {kind.name: kind for kind in KINDS}
DIFFERENT = [helper for helper in HELPERS if not helper.like]
CHANGING = [helper for helper in DIFFERENT if helper.effect != MEASURES]
# where a refusal points to bake(), it must lead out
COMPUTED = [kind for kind in KINDS if " norm" in kind.name and "batch" not in kind.name]
COMPUTED += [NETWORKS["torch's prune"], NETWORKS["own parametrization"]]

# what a mask must not change: ties, memory layout, what is frozen
MASKED = [NETWORKS[name] for name in ("tied weights", "channels last", "frozen part")]


def chain(helper: Helper) -> tuple[Helper, ...]:
    return (*(BY_NAME[name] for name in helper.after.split(" > ") if name), helper)


def cell(kind: Kind, helpers: tuple[Helper, ...], name: str, *, slow: bool = False):
    return pytest.param(kind, helpers, id=f"{kind.name} > {name}", marks=[pytest.mark.slow] if slow else [])


ALONE = [
    cell(kind, chain(helper), helper.name)
    for kind in KINDS
    for helper in HELPERS
    if helper.name != "to_onnx" or kind.name in EXPORTED
]
# networks of three sorts: layers in a row, a block that adds its input, weights that are no layer's
BASES = NETWORKS["conv net"], NETWORKS["residual Sequential"], NETWORKS["Transformer encoder"]


def base(first: Helper, second: Helper) -> Kind:
    """The network that stands for all three when tests must be quick: each helper comes first, and second, on each."""
    return BASES[(DIFFERENT.index(first) + DIFFERENT.index(second)) % 3 if first in CHANGING else 0]


def pairs(kind: Kind, firsts: list[Helper]) -> list[tuple[Kind, Helper, Helper]]:
    return [(kind, first, second) for first in firsts for second in DIFFERENT]


EVERY_PAIR = [pair for kind in BASES for pair in pairs(kind, DIFFERENT if kind is BASES[0] else CHANGING)]
EVERY_PAIR += [pair for kind in COMPUTED for pair in pairs(kind, [BY_NAME["bake"]])]
EVERY_PAIR += [pair for kind in MASKED for pair in pairs(kind, [BY_NAME["layer masks"]])]
PAIRS = [
    cell(kind, (first, second), f"{first.name} > {second.name}", slow=kind in BASES and kind is not base(first, second))
    for kind, first, second in EVERY_PAIR
    if "to_onnx" not in (first.name, second.name)
]


def judge(kind: Kind, helpers: tuple[Helper, ...]) -> str:
    """Apply the helpers in turn; the outcome is that of the last one, or of the first that refused."""
    twin, outcome = Twin(kind), ""
    for helper in helpers:
        try:
            outcome = take(helper, twin)
        except Failed as failure:
            pytest.fail(f"{helper.name}: {failure}", pytrace=False)
        if outcome == "refused":
            break
    return outcome


OUTCOMES = {}


@pytest.mark.parametrize(("kind", "helpers"), ALONE)
def test_helper_on_a_kind_of_network(kind, helpers, record_property):
    OUTCOMES[kind.name, helpers[-1].name] = outcome = judge(kind, helpers)
    record_property("matrix", outcome)


@pytest.mark.parametrize(("kind", "helpers"), PAIRS)
def test_helper_after_helper(kind, helpers, record_property):
    record_property("matrix", judge(kind, helpers))


def outcomes():
    """Of every helper on every kind: those found above, and the others anew."""
    for case in ALONE:
        kind, helpers = case.values
        if (kind.name, helpers[-1].name) not in OUTCOMES:
            OUTCOMES[kind.name, helpers[-1].name] = judge(kind, helpers)
    return OUTCOMES


def test_the_page_on_helpers_holds_the_table():
    """A helper that begins to refuse shows here; ``python tests/test_matrix.py`` writes the table anew."""
    assert table.shown() == table.render(outcomes())


if __name__ == "__main__":
    table.write(table.render(outcomes()))
