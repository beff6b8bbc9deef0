"""19.3 a table of token vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Ids = list[list[int]]


def embed(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    vectors = []
    for sentence in ids:
        known = [token for token in sentence if token != -1]
        total = (weights[known, None] * table[known]).sum(dim=0)
        vectors.append(F.normalize(total, dim=-1))  # divides by at least 1e-12: zeros stay zeros
    return torch.stack(vectors)


def embed_by_counts(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    counts = torch.zeros(len(ids), len(table), dtype=table.dtype)  # (N, V)
    for row, sentence in enumerate(ids):
        for token in sentence:
            if token >= 0:
                counts[row, token] += 1
    total = (counts * weights) @ table
    squares = total.square().sum(dim=1, keepdim=True)
    is_zero = squares == 0
    return total / torch.where(is_zero, 1, squares).sqrt()


def embed_in_one_go(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    tokens = torch.tensor([token for sentence in ids for token in sentence])
    row = torch.tensor([n for n, sentence in enumerate(ids) for _ in sentence])
    is_known = tokens >= 0
    tokens, row = tokens[is_known], row[is_known]
    total = table.new_zeros(len(ids), table.shape[1]).index_add(0, row, table[tokens] * weights[tokens].unsqueeze(1))
    return total / total.norm(dim=1, keepdim=True).clamp(min=1e-12)


def _known(sentence: list[int]) -> list[int]:
    return [token for token in sentence if token >= 0]


def _totals(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return torch.stack([weights[_known(s)] @ table[_known(s)] for s in ids])


def not_normalized(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return _totals(ids, table, weights)


def weighted_mean(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    sums = torch.stack([weights[_known(s)].sum() for s in ids])[:, None]
    return _totals(ids, table, weights) / torch.where(sums > 0, sums, 1.0)


def rows_normalized_first(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return embed(ids, F.normalize(table, dim=1), weights)


def without_weights(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return embed(ids, table, torch.ones_like(weights))


def squared_weights(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return embed(ids, table, weights.square())


def softmax_weights(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return embed(ids, table, weights.exp())


def unknown_is_the_last(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return embed([[token % len(table) for token in sentence] for sentence in ids], table, weights)


def unknown_is_the_first(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return embed([[max(token, 0) for token in sentence] for sentence in ids], table, weights)


def cut_at_the_unknown(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return embed([s[: s.index(-1)] if -1 in s else s for s in ids], table, weights)


def each_token_once(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return embed([sorted(set(s)) for s in ids], table, weights)


def token_0_is_padding(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return embed([[token for token in s if token > 0] for s in ids], table, weights)


def by_the_sum_of_entries(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return F.normalize(_totals(ids, table, weights), p=1, dim=1)


def by_the_squared_length(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    total = _totals(ids, table, weights)
    return total / total.square().sum(dim=1, keepdim=True).clamp(min=1e-24)


def per_column(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    return F.normalize(_totals(ids, table, weights), dim=0)


def by_the_batch(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    total = _totals(ids, table, weights)
    return total / total.norm().clamp(min=1e-12)


def nan_without_tokens(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    total = _totals(ids, table, weights)
    return total / total.norm(dim=1, keepdim=True)


def nan_hidden(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    total = _totals(ids, table, weights)
    return torch.nan_to_num(total / total.square().sum(dim=1, keepdim=True).sqrt())


def not_quite_length_1(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    total = _totals(ids, table, weights)
    return total / (total.norm(dim=1, keepdim=True) + 0.01)


def length_detached(ids: Ids, table: Tensor, weights: Tensor) -> Tensor:
    total = _totals(ids, table, weights)
    return total / total.detach().norm(dim=1, keepdim=True).clamp(min=1e-12)


def embed_cases() -> list[Case]:
    small = torch.tensor([[3.0, 0.0], [0.0, 4.0], [1.0, 1.0]])
    table, weights = draw(5, 3, seed=1), torch.tensor([0.5, 2.0, 0.0, 1.5, 0.25], dtype=torch.float64)
    sentences = [[3, 0, 3], [1, -1, 4, 0], [], [-1, -1], [2], [4, 2, -1], [0], [3, 3, 3, 1, 3]]
    return [
        case([[0, 1]], small, torch.tensor([1.0, 1.0, 2.0])),
        case([[2, -1, 0], [1, 1, 0, 1]], small, torch.tensor([1.0, 0.5, 2.0])),
        case(sentences, table, weights),
        case(sentences[::-1], table.float(), weights.float()),
        case([[0, 1, 2], [-1], [2, 0]], table[:3], weights[:3]),
        case([[], [2]], table, weights),
        case(
            [[0, 1]],
            torch.tensor([[1e9 + 1, 1.0], [-1e9, 1.0]], dtype=torch.float64),
            torch.ones(2, dtype=torch.float64),
        ),
        case([[1, 0], [3]], 1e-5 * table, weights),
        case([[1, 4], [3, 0]], table, 1e-4 * weights),
    ]


def drawn_embed(g: torch.Generator) -> Case:
    size = integer(g, 3, 8)
    ids = [[integer(g, -1, size - 1) for _ in range(integer(g, 0, 6))] for _ in range(integer(g, 2, 5))]
    return case([*ids, [size - 1, 0]], draw(size, integer(g, 2, 4), seed=g), draw(size, seed=g).abs() + 0.1)


EXERCISE = Exercise(
    id="19.3",
    title="a table of token vectors",
    question=(
        "A static encoder is a `table` (V, D) with one row per token, and `weights` (V,), none of them negative. `ids` "
        "is a list of N lists of integers, the tokens of N sentences; -1 is a token that the table does not have, and "
        "is left out. Write `my_embed(ids, table, weights)`. A sentence's vector is the sum over its tokens of weight "
        "times row, where a repeated token counts each time, divided by its own Euclidean length. A sentence with no "
        "token of positive weight gets the zero vector. Return a tensor (N, D) of the dtype of `table`. The gradient "
        "flows to `table`, through the division too; nothing in the gradient is NaN, and a zero vector passes none on. "
        "No other sum is zero."
    ),
    skeleton=(
        "def my_embed(ids, table, weights):\n"
        '    """Weighted sums of rows, each divided by its own length: (N, D)."""\n    ...'
    ),
    reference=embed,
    alternatives=(embed_by_counts, embed_in_one_go),
    cases=embed_cases,
    drawn=drawn_embed,
    hints=(
        "One sentence first: which rows of the table does it take, and how often? What does `table[-1]` read?",
        "Leave out -1, then `(weights[known, None] * table[known]).sum(dim=0)`. What is its length if `known` is "
        "empty?",
        "`F.normalize(total, dim=0)` divides by the length, but by at least 1e-12, so that 0 stays 0. Stack the N "
        "vectors.",
    ),
    misconceptions=(
        Misconception(
            "not normalized",
            not_normalized,
            "you never divide by the length. A long sentence gets a long vector, and a product of two vectors is not "
            "their cosine",
        ),
        Misconception(
            "a weighted mean",
            weighted_mean,
            "you divide by the sum of the weights: a mean. It has the right direction, but not the length 1",
        ),
        Misconception(
            "the rows normalized first",
            rows_normalized_first,
            "you scale each row of the table to length 1 before you add. The length of a row says how much its token "
            "counts, and training sets it: normalize the sum only",
        ),
        Misconception(
            "without weights",
            without_weights,
            "you leave the weights out: the most frequent tokens, which say least, then decide",
        ),
        Misconception(
            "weights squared", squared_weights, "you use the weights twice, so they are squared: once is enough"
        ),
        Misconception(
            "weights through a softmax",
            softmax_weights,
            "you take the exponential of the weights, as a softmax does. They are weights already, and 0 means 0",
        ),
        Misconception(
            "-1 reads the last row",
            unknown_is_the_last,
            "-1 reads the table's last row: Python counts from the end, and no error tells you. Leave -1 out first",
        ),
        Misconception(
            "-1 reads row 0",
            unknown_is_the_first,
            "you replace -1 by 0, perhaps by a clamp. Row 0 is a token like any other: leave -1 out",
        ),
        Misconception(
            "cut at the first unknown token",
            cut_at_the_unknown,
            "you stop at the first -1. The tokens after it belong to the sentence, too",
        ),
        Misconception(
            "each token once",
            each_token_once,
            "you count each different token once. A token that occurs three times counts three times",
        ),
        Misconception(
            "token 0 left out",
            token_0_is_padding,
            "you leave token 0 out, as padding. In these lists there is no padding; only -1 is left out",
        ),
        Misconception(
            "divided by the sum of the entries",
            by_the_sum_of_entries,
            "you divide by the sum of the absolute entries. The Euclidean length is the root of the sum of squares",
        ),
        Misconception(
            "divided by the squared length",
            by_the_squared_length,
            "you divide by the sum of the squares: the root is missing",
        ),
        Misconception(
            "each column normalized",
            per_column,
            "you normalize each column over the sentences (dimension 0). A sentence's vector then depends on its batch",
        ),
        Misconception(
            "one length for the batch",
            by_the_batch,
            "you divide all vectors by one length, that of the whole batch. Each sentence has its own: `norm(dim=1)`",
        ),
        Misconception(
            "NaN without tokens",
            nan_without_tokens,
            "for a sentence without known tokens you divide 0 by 0, which is NaN. Divide by at least a tiny number",
        ),
        Misconception(
            "NaN hidden",
            nan_hidden,
            "the values are correct: you turn NaN into 0 afterwards. But its gradient is still NaN, and one step ruins "
            "the table. Avoid 0 / 0 before you divide",
        ),
        Misconception(
            "not quite length 1",
            not_quite_length_1,
            "you add a small number to the length, so that no vector has length 1, and the shorter the sum, the "
            "shorter the vector. Use `clamp(min=1e-12)`",
        ),
        Misconception(
            "the length detached",
            length_detached,
            "the values are correct, but you take the length as a constant. Its gradient keeps the step from only "
            "making the vector longer, which changes no cosine",
        ),
    ),
    shows="an encoder can be a table: all it does is to look up a few rows, add them and divide.",
    derivation=(
        "v = Σ w_t e_t / ‖Σ w_t e_t‖. With u = Σ w_t e_t and the gradient g of v, that of u is (g - (g·v) v) / ‖u‖: "
        "only what turns v is learned. A common factor of all weights cancels."
    ),
    gradients=(1,),
    absolute=1e-6,
)
