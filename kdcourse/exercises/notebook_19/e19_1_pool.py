"""19.1 one vector per sentence."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def pool(tokens: Tensor, mask: Tensor) -> Tensor:
    is_token = mask.bool()[:, :, None]  # (N, T, 1)
    total = torch.where(is_token, tokens.float() if tokens.itemsize == 2 else tokens, 0.0).sum(dim=1)
    count = is_token.sum(dim=1).clamp(min=1)  # a row without tokens: 0 / 1
    return (total / count).to(tokens.dtype)


def pool_row_by_row(tokens: Tensor, mask: Tensor) -> Tensor:
    means = []
    for row, ones in zip(tokens, mask, strict=True):
        kept = row[ones == 1]
        if len(kept) == 0:
            means.append(tokens.new_zeros(tokens.shape[-1]))
        else:
            means.append(kept.mean(dim=0))  # PyTorch's own mean adds half precision in float32
    return torch.stack(means)


def pool_by_matrix(tokens: Tensor, mask: Tensor) -> Tensor:
    wide = tokens.masked_fill(mask[:, :, None] == 0, 0).to(torch.float64)
    weights = mask.double() / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.einsum("nt,ntd->nd", weights, wide).to(tokens.dtype)


def _zero_padding(tokens: Tensor, mask: Tensor) -> Tensor:
    """The tokens in float32 or wider, 0 where the mask is."""
    return torch.where(mask.bool()[:, :, None], tokens.double(), 0.0)


def over_all(tokens: Tensor, mask: Tensor) -> Tensor:
    return tokens.double().mean(dim=1).to(tokens.dtype)


def by_the_length(tokens: Tensor, mask: Tensor) -> Tensor:
    return _zero_padding(tokens, mask).mean(dim=1).to(tokens.dtype)


def summed(tokens: Tensor, mask: Tensor) -> Tensor:
    return _zero_padding(tokens, mask).sum(dim=1).to(tokens.dtype)


def at_position_0(tokens: Tensor, mask: Tensor) -> Tensor:
    return tokens[:, 0]


def first_token(tokens: Tensor, mask: Tensor) -> Tensor:
    return _zero_padding(tokens, mask)[torch.arange(len(mask)), mask.argmax(dim=1)].to(tokens.dtype)


def last_token(tokens: Tensor, mask: Tensor) -> Tensor:
    last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
    return _zero_padding(tokens, mask)[torch.arange(len(mask)), last].to(tokens.dtype)


def without_the_ends(tokens: Tensor, mask: Tensor) -> Tensor:
    place = mask.cumsum(dim=1)
    inner = mask * (place > 1) * (place < mask.sum(dim=1, keepdim=True))
    return pool(tokens, inner)


def largest(tokens: Tensor, mask: Tensor) -> Tensor:
    low = tokens.masked_fill(mask[:, :, None] == 0, -torch.inf).amax(dim=1)
    return torch.where(mask.any(dim=1)[:, None], low, 0.0).to(tokens.dtype)


def multiplied(tokens: Tensor, mask: Tensor) -> Tensor:
    total = (tokens.double() * mask[:, :, None]).sum(dim=1)
    return (total / mask.sum(dim=1, keepdim=True).clamp(min=1)).to(tokens.dtype)


def multiplied_in_half(tokens: Tensor, mask: Tensor) -> Tensor:
    return (tokens * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def nan_for_none(tokens: Tensor, mask: Tensor) -> Tensor:
    return (_zero_padding(tokens, mask).sum(dim=1) / mask.sum(dim=1, keepdim=True)).to(tokens.dtype)


def by_the_longest(tokens: Tensor, mask: Tensor) -> Tensor:
    longest = mask.sum(dim=1).max().clamp(min=1)
    return (_zero_padding(tokens, mask).sum(dim=1) / longest).to(tokens.dtype)


def by_the_mean_count(tokens: Tensor, mask: Tensor) -> Tensor:
    count = (mask.sum() / len(mask)).clamp(min=1)
    return (_zero_padding(tokens, mask).sum(dim=1) / count).to(tokens.dtype)


def one_more(tokens: Tensor, mask: Tensor) -> Tensor:
    return (_zero_padding(tokens, mask).sum(dim=1) / (mask.sum(dim=1, keepdim=True) + 1)).to(tokens.dtype)


def of_the_padding(tokens: Tensor, mask: Tensor) -> Tensor:
    return pool(tokens, 1 - mask)


def cut_at_the_count(tokens: Tensor, mask: Tensor) -> Tensor:
    first = torch.arange(mask.shape[1]) < mask.sum(dim=1, keepdim=True)
    return pool(tokens, first.long())


def added_in_half(tokens: Tensor, mask: Tensor) -> Tensor:
    kept = torch.where(mask.bool()[:, :, None], tokens, 0.0)
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1).to(tokens.dtype)


def normalized(tokens: Tensor, mask: Tensor) -> Tensor:
    return F.normalize(pool(tokens, mask).double(), dim=1).to(tokens.dtype)


def zeros_left_out(tokens: Tensor, mask: Tensor) -> Tensor:
    kept = _zero_padding(tokens, mask)
    return (kept.sum(dim=1) / (kept != 0).sum(dim=1).clamp(min=1)).to(tokens.dtype)


def padded(g: torch.Generator, n: int, t: int, d: int, at_padding: float = torch.nan) -> tuple[Tensor, Tensor]:
    """Token vectors and a mask with ones anywhere; padding holds what may stand there."""
    mask = (torch.rand(n, t, generator=g) < 0.6).long()
    tokens = draw(n, t, d, seed=g)
    return tokens.masked_fill(mask[:, :, None] == 0, at_padding), mask


def large(dtype: torch.dtype) -> Case:
    """Large multiples of 128: their sums pass float16's largest value, 65504, but their means are exact."""
    tokens = torch.tensor([[[384, -40], [465, 2], [343, 8], [9, 9]], [[7, 7], [500, 6], [500, -2], [7, 7]]]) * 128
    return case(tokens.clamp(-65000, 65000).to(dtype), torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0]]))


def pool_cases() -> list[Case]:
    g = torch.Generator().manual_seed(1)
    small = torch.tensor([[[1.0, 2.0], [4.0, 6.0], [9.0, 9.0]], [[3.0, 0.0], [5.0, 4.0], [1.0, 2.0]]])
    finite = draw(4, 5, 3, seed=2)
    bert = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 0, 0, 0, 0]])
    return [
        case(small, torch.tensor([[1, 1, 0], [1, 1, 1]])),
        case(finite, bert),
        case(finite.flip(1), bert.flip(1)),  # padding on the left
        case(finite.float(), torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 0, 1, 0, 1], [0, 0, 0, 1, 0]])),
        case(*padded(g, 3, 6, 2)),
        case(*padded(g, 5, 4, 3, at_padding=torch.inf)),
        large(torch.float16),
        large(torch.bfloat16),
        case(torch.tensor([[[1.0], [2.0], [4.0]]], dtype=torch.bfloat16), torch.tensor([[1, 1, 1]])),
        case(torch.tensor([[[256.0], [1.0], [1.0], [2.0]]], dtype=torch.bfloat16), torch.ones(1, 4, dtype=torch.int64)),
        case(torch.tensor([[[1e9], [1.5], [-1e9]]], dtype=torch.float64), torch.tensor([[1, 1, 1]])),
        case(draw(1, 1, 4, seed=3), torch.tensor([[1]])),
        case(draw(2, 3, 4, seed=3), torch.zeros(2, 3, dtype=torch.int64)),
    ]


EXERCISE = Exercise(
    id="19.1",
    title="one vector per sentence",
    question=(
        "A sentence encoder returns one vector per token, `tokens` (N, T, D), for N sentences that are padded to T "
        "tokens. `mask` (N, T) of integers is 1 at a token and 0 at padding, which may stand left, right or between. "
        "Write `my_pool(tokens, mask)`: for each sentence the mean of the vectors at its tokens, a tensor (N, D) of "
        "the dtype of `tokens`. A sentence without any token gets the zero vector. What stands at padding may be "
        "anything, NaN and infinity too: it changes nothing, and its gradient is 0. For float16 and bfloat16 take the "
        "mean in float32 and convert it back. The gradient flows to `tokens`."
    ),
    skeleton='def my_pool(tokens, mask):\n    """The mean of each sentence\'s token vectors: (N, D)."""\n    ...',
    reference=pool,
    alternatives=(pool_row_by_row, pool_by_matrix),
    cases=pool_cases,
    drawn=lambda g: case(*padded(g, integer(g, 2, 5), integer(g, 3, 7), integer(g, 2, 4), float(integer(g, 5, 9)))),
    hints=(
        "A mean is a sum and a count. What may enter the sum, and what is counted for each sentence?",
        "Set padding to 0 by `torch.where`, since 0 · NaN is NaN. Divide by the sentence's own number of tokens, by at "
        "least 1.",
        "`kept = torch.where(mask.bool()[:, :, None], tokens, 0.0)`, in float32 for half precision; `kept.sum(dim=1) / "
        "mask.sum(dim=1, keepdim=True).clamp(min=1)`; then `.to(tokens.dtype)`.",
    ),
    misconceptions=(
        Misconception(
            "padding enters the mean",
            over_all,
            "you take the mean over all T positions, padding too. The same sentence then gets another vector as soon "
            "as a longer one stands in its batch",
        ),
        Misconception(
            "divided by T",
            by_the_length,
            "padding does not enter your sum, but you divide by T, the padded length. Divide by the sentence's own "
            "number of tokens",
        ),
        Misconception(
            "not divided",
            summed,
            "this is the sum. A sentence of twenty tokens gets a vector ten times as long as one of two: divide by the "
            "number of tokens",
        ),
        Misconception(
            "position 0",
            at_position_0,
            "you take the vector at position 0. That is the pooling of encoders that are trained for it (CLS); this "
            "one is trained for the mean, and padding may stand first",
        ),
        Misconception(
            "the first token",
            first_token,
            "you take each sentence's first token. An encoder that is trained with the mean has nothing special there",
        ),
        Misconception(
            "the last token",
            last_token,
            "you take each sentence's last token, as decoders do, where only the last token has seen all others. Take "
            "the mean of all tokens",
        ),
        Misconception(
            "without the ends",
            without_the_ends,
            "you leave out the first and the last token of each sentence. Where the mask is 1 the token counts, the "
            "marks of beginning and end too: so the encoder was trained",
        ),
        Misconception(
            "the largest", largest, "you take the largest entry over the tokens. The question asks for the mean"
        ),
        Misconception(
            "multiplied by the mask",
            multiplied,
            "you multiply by the mask, and 0 · NaN is NaN. Replace what stands at padding, by `torch.where` or "
            "`masked_fill`",
        ),
        Misconception(
            "multiplied by the mask, in half precision",
            multiplied_in_half,
            "you multiply by the mask, and 0 · NaN is NaN: replace what stands at padding, by `torch.where` or "
            "`masked_fill`. And half precision is added in half precision: convert it to float32 first",
        ),
        Misconception(
            "NaN without tokens",
            nan_for_none,
            "for a sentence without tokens you divide 0 by 0: NaN, and so is every mean that it enters. It gets the "
            "zero vector: divide by at least 1",
        ),
        Misconception(
            "the longest sentence's count",
            by_the_longest,
            "you divide all sums by the longest sentence's number of tokens. Each sentence has its own",
        ),
        Misconception(
            "the batch's mean count",
            by_the_mean_count,
            "you divide all sums by the same count, the mean of the batch. Each sentence has its own",
        ),
        Misconception(
            "one more",
            one_more,
            "you divide by the number of tokens plus 1, perhaps to avoid 0. That shortens short sentences most: use "
            "`clamp(min=1)`",
        ),
        Misconception(
            "the mean of the padding",
            of_the_padding,
            "you take the mean where the mask is 0, which is the padding. 1 marks a token; PyTorch's own "
            "`src_key_padding_mask` has it the other way round",
        ),
        Misconception(
            "padding at the right taken for granted",
            cut_at_the_count,
            "you count the tokens and take that many positions from the left. Padding may stand left or between: the "
            "mask says where",
        ),
        Misconception(
            "added in half precision",
            added_in_half,
            "you add in half precision. The sum of a few large entries passes float16's 65504 and becomes infinite, "
            "and bfloat16 keeps 8 bits: take the mean in float32, then convert it",
        ),
        Misconception(
            "length 1",
            normalized,
            "you also scale the vectors to length 1. That is a step of its own, and the question does not ask for it",
        ),
        Misconception(
            "zeros taken for padding",
            zeros_left_out,
            "you count the entries that are not 0. A token's entry may be 0 and still counts; the mask says what is "
            "padding",
        ),
    ),
    shows="a sentence's vector does not depend on how its batch is padded.",
    derivation=(
        "v = Σ_t m_t x_t / max(1, Σ_t m_t). More padding adds terms with m_t = 0 to both sums, so v stays as it is. A "
        "mean over all positions is multiplied by (number of tokens) / T, and shifted by what stands at padding."
    ),
    gradients=(0,),
    absolute=1e-6,
)
