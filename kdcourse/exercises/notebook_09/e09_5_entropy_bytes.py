"""09.5 the entropy bound of a coded file."""

import math
from collections import Counter

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def entropy_bytes(symbols: Tensor) -> float:
    counts = symbols.unique(return_counts=True)[1].double()
    share = counts / counts.sum()
    bits = (share * torch.log2(1 / share)).sum()
    return (len(symbols) * bits / 8).item()


def entropy_by_counter(symbols: Tensor) -> float:
    n = len(symbols)
    return sum(count * math.log2(n / count) for count in Counter(symbols.tolist()).values()) / 8


def entropy_by_xlogy(symbols: Tensor) -> float:
    share = torch.bincount(symbols).double() / len(symbols)
    nats = -torch.xlogy(share, share).sum()
    return (nats / math.log(2) * len(symbols) / 8).item()


def entropy_symbol_by_symbol(symbols: Tensor) -> float:
    share = (symbols[:, None] == symbols).double().mean(dim=1)
    return -share.log2().sum().item() / 8


def _shares(symbols: Tensor) -> Tensor:
    return symbols.unique(return_counts=True)[1].double() / len(symbols)


def in_nats(symbols: Tensor) -> float:
    return entropy_bytes(symbols) * math.log(2)


def in_bits(symbols: Tensor) -> float:
    return entropy_bytes(symbols) * 8


def bits_a_symbol(symbols: Tensor) -> float:
    return entropy_bytes(symbols) * 8 / len(symbols)


def bytes_a_symbol(symbols: Tensor) -> float:
    return entropy_bytes(symbols) / len(symbols)


def as_if_all_were_as_frequent(symbols: Tensor) -> float:
    return len(symbols) * math.log2(len(symbols.unique())) / 8


def index_width(symbols: Tensor) -> float:
    return len(symbols) * math.ceil(math.log2(int(symbols.max()) + 1)) / 8


def whole_bits_each(symbols: Tensor) -> float:
    share = _shares(symbols)
    return (len(symbols) * (share * torch.ceil(-share.log2())).sum() / 8).item()


def log_of_counts(symbols: Tensor) -> float:
    counts = _shares(symbols) * len(symbols)
    return (counts * counts.log2()).sum().item() / 8


def not_weighted(symbols: Tensor) -> float:
    return (len(symbols) * -_shares(symbols).log2().mean() / 8).item()


def summed_not_weighted(symbols: Tensor) -> float:
    return (len(symbols) * -_shares(symbols).log2().sum() / 8).item()


def absent_symbols(symbols: Tensor) -> float:
    share = torch.bincount(symbols).double() / len(symbols)
    return (-(share * share.log2()).sum() * len(symbols) / 8).item()


def zeros_are_free(symbols: Tensor) -> float:
    return entropy_bytes(symbols[symbols != 0]) if symbols.any() else 0.0


def whole_bytes(symbols: Tensor) -> float:
    return float(math.ceil(entropy_bytes(symbols)))


def sign_forgotten(symbols: Tensor) -> float:
    return -entropy_bytes(symbols)


def whole_bytes_below(symbols: Tensor) -> float:
    return float(math.floor(entropy_bytes(symbols)))


def shares_of_the_sum(symbols: Tensor) -> float:
    share = symbols[symbols > 0].double() / symbols.sum()
    return (-(share * share.log2()).sum() * len(symbols) / 8).item()


def times_the_symbols(symbols: Tensor) -> float:
    return bytes_a_symbol(symbols) * len(symbols.unique())


def something_added(symbols: Tensor) -> float:
    share = torch.bincount(symbols).double() / len(symbols)
    return (-(share * (share + 1e-3).log2()).sum() * len(symbols) / 8).item()


def entropy_cases() -> list[Case]:
    return [
        case(torch.tensor([0, 0, 3, 0, 1, 0, 0, 1])),
        case(draw(300, seed=950, spread=1.2).abs().long()),
        case(torch.full((16,), 2)),
        case(draw(120, seed=951, spread=6.0).abs().long()),
    ]


def entropy_drawn(g: torch.Generator) -> Case:
    return case(draw(integer(g, 2, 60), seed=g).abs().long() * integer(g, 1, 2))


EXERCISE = Exercise(
    id="09.5",
    title="the entropy bound of a coded file",
    question=(
        "`symbols` is an int64 tensor (n,), n >= 1: each entry says which value of a codebook a weight takes, 0, 1, 2 "
        "and so on; 0 stands for a pruned weight. Not every symbol occurs. A coder that knows how often each symbol "
        "occurs, and nothing else, needs at least n·H/8 bytes, where H is the entropy of these relative "
        "frequencies in bits. Write `my_entropy_bytes(symbols)`: this bound as a float."
    ),
    skeleton=(
        "def my_entropy_bytes(symbols):\n"
        '    """Bytes that a coder needs at least if it knows only how often each symbol occurs."""\n    ...'
    ),
    reference=entropy_bytes,
    alternatives=(entropy_by_counter, entropy_by_xlogy, entropy_symbol_by_symbol),
    cases=entropy_cases,
    drawn=entropy_drawn,
    hints=(
        "How surprising is a symbol that makes up half of the file? And one that makes up all of it?",
        "A symbol of relative frequency p costs log2(1 / p) bits each time it occurs. H is the mean over the file: "
        "Σ p log2(1 / p) over the symbols that occur. 8 bits are a byte.",
        "`counts = symbols.unique(return_counts=True)[1].double()`, `p = counts / counts.sum()`, then "
        "`len(symbols) * (p * torch.log2(1 / p)).sum().item() / 8`.",
    ),
    misconceptions=(
        Misconception(
            "in nats",
            in_nats,
            "you use the natural logarithm. That gives nats, 1.443 bits each; a file is counted in bits: `log2`",
        ),
        Misconception(
            "bits for bytes",
            in_bits,
            "these are bits, eight times the bytes. Divide by 8",
        ),
        Misconception(
            "bits per symbol",
            bits_a_symbol,
            "this is H, the bits per symbol. The file contains n of them; divide by 8 for bytes",
        ),
        Misconception(
            "bytes per symbol",
            bytes_a_symbol,
            "these are the bytes per symbol. The file contains n of them",
        ),
        Misconception(
            "all symbols as frequent",
            as_if_all_were_as_frequent,
            "you take log2 of the number of symbols, as if all were as frequent. Pruning makes one symbol very "
            "frequent, and that is where the bytes are saved",
        ),
        Misconception(
            "the width of an index",
            index_width,
            "you count whole bits for an index of fixed width. That is the size before coding; a coder gives frequent "
            "symbols fewer bits",
        ),
        Misconception(
            "whole bits for each symbol",
            whole_bits_each,
            "you round each symbol's bits up. A table of codewords must, and spends a bit on a zero even where almost "
            "all are zeros; an arithmetic coder need not, and comes close to the bound",
        ),
        Misconception(
            "the logarithm of the counts",
            log_of_counts,
            "you take the logarithm of the counts, not of the frequencies. Frequent symbols then cost more than "
            "rare ones: log2(n / count)",
        ),
        Misconception(
            "each symbol counted once",
            not_weighted,
            "you take the plain mean over the symbols. A rare one then counts as much as the zero that fills the file: "
            "weight each by its frequency",
        ),
        Misconception(
            "frequencies forgotten in the sum",
            summed_not_weighted,
            "you sum log2(1 / p) over the symbols. Each must be weighted by its frequency: that is how often it occurs",
        ),
        Misconception(
            "NaN from an absent symbol",
            absent_symbols,
            "your result is NaN where a symbol does not occur: 0 · log2(0) is 0 · (-∞). What never occurs costs "
            "nothing: leave it out, or use `torch.xlogy`",
        ),
        Misconception(
            "zeros are free",
            zeros_are_free,
            "you leave the zeros out, as if they cost nothing. The reader must learn where they are, and that is most "
            "of a sparse file",
        ),
        Misconception(
            "whole bytes",
            whole_bytes,
            "you round up to whole bytes. A file must, the bound need not; over many tensors the roundings add up",
        ),
        Misconception(
            "the sign forgotten",
            sign_forgotten,
            "your sign is wrong. The logarithm of a probability is negative: H = -Σ p log2 p",
        ),
        Misconception(
            "whole bytes, rounded down",
            whole_bytes_below,
            "you round down to whole bytes. The bound is a float, and no coder gets below it",
        ),
        Misconception(
            "the symbols as counts",
            shares_of_the_sum,
            "you divide the symbols by their sum. A symbol is a label, not a count: count how often each one occurs",
        ),
        Misconception(
            "times the number of symbols",
            times_the_symbols,
            "you multiply by the number of different symbols. H is bits for each of the n entries: n · H / 8",
        ),
        Misconception(
            "something added in the logarithm",
            something_added,
            "you add a small number in the logarithm. It hides the zeros, and shifts every other term: leave out the "
            "symbols that do not occur",
        ),
    ),
    shows=(
        "n·H/8 bytes is the least for a coder that knows only the frequencies; positions and neighbours may tell "
        "it more."
    ),
    derivation=(
        "A symbol of relative frequency p needs log2(1/p) bits; it occurs n·p times: n Σ p log2(1/p) = n·H bits. "
        "No code does better on average for symbols drawn independently with these frequencies (Shannon 1948). "
        "Weights are not: a coder that looks at rows and columns can get below. Codebook and header come on top. "
        "Han et al. 2016, arXiv:1510.00149, use Huffman codewords, with whole bits."
    ),
)
