"""17.1 one total in three units: bits per token, per character and per byte."""

import math

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal

Units = tuple[float, float, float]


def bits(log_probs: Tensor, pieces: list[str]) -> Units:
    text = "".join(pieces)
    if not text:
        raise ValueError("a text without a character has no bits per character")
    total = -log_probs.sum().item() / math.log(2)
    return total / len(pieces), total / len(text), total / len(text.encode())


def bits_by_loop(log_probs: Tensor, pieces: list[str]) -> Units:
    characters = size = 0
    total = 0.0
    for place, piece in enumerate(pieces):
        total -= float(log_probs[place]) * math.log2(math.e)
        characters += len(piece)
        size += len(bytes(piece, "utf-8"))
    if characters == 0:
        raise ValueError("no characters")
    return total / len(pieces), total / characters, total / size


def bits_from_the_mean(log_probs: Tensor, pieces: list[str]) -> Units:
    if not any(pieces):
        raise ValueError("all pieces are empty")
    per_token = -log_probs.mean() / math.log(2)
    tokens_per_character = len(pieces) / sum(map(len, pieces))
    tokens_per_byte = len(pieces) / sum(len(piece.encode("utf-8")) for piece in pieces)
    return float(per_token), float(per_token * tokens_per_character), float(per_token * tokens_per_byte)


def _counts(pieces: list[str]) -> tuple[int, int, int]:
    """Tokens, characters and bytes."""
    text = "".join(pieces)
    if not text:
        raise ValueError("no characters")
    return len(pieces), len(text), len(text.encode())


def _spread(total: float, pieces: list[str]) -> Units:
    tokens, characters, size = _counts(pieces)
    return total / tokens, total / characters, total / size


def in_nats(log_probs: Tensor, pieces: list[str]) -> Units:
    return _spread(-log_probs.sum().item(), pieces)


def in_digits(log_probs: Tensor, pieces: list[str]) -> Units:
    return _spread(-log_probs.sum().item() / math.log(10), pieces)


def times_ln_2(log_probs: Tensor, pieces: list[str]) -> Units:
    return _spread(-log_probs.sum().item() * math.log(2), pieces)


def minus_forgotten(log_probs: Tensor, pieces: list[str]) -> Units:
    return _spread(log_probs.sum().item() / math.log(2), pieces)


def mean_divided_again(log_probs: Tensor, pieces: list[str]) -> Units:
    per_token, _, _ = bits(log_probs, pieces)
    _, characters, size = _counts(pieces)
    return per_token, per_token / characters, per_token / size


def mean_of_ratios(log_probs: Tensor, pieces: list[str]) -> Units:
    per_token, _, _ = bits(log_probs, pieces)
    each = [(-value / math.log(2), piece) for value, piece in zip(log_probs.tolist(), pieces, strict=True) if piece]
    per_character = sum(value / len(piece) for value, piece in each) / len(each)
    return per_token, per_character, sum(value / len(piece.encode()) for value, piece in each) / len(each)


def ratio_inverted(log_probs: Tensor, pieces: list[str]) -> Units:
    per_token, _, _ = bits(log_probs, pieces)
    tokens, characters, size = _counts(pieces)
    return per_token, per_token * characters / tokens, per_token * size / tokens


def characters_for_bytes(log_probs: Tensor, pieces: list[str]) -> Units:
    per_token, per_character, _ = bits(log_probs, pieces)
    return per_token, per_character, per_character


def two_bytes_each(log_probs: Tensor, pieces: list[str]) -> Units:
    per_token, per_character, _ = bits(log_probs, pieces)
    return per_token, per_character, -log_probs.sum().item() / math.log(2) / len("".join(pieces).encode("utf-16-le"))


def characters_and_bytes_swapped(log_probs: Tensor, pieces: list[str]) -> Units:
    per_token, per_character, per_byte = bits(log_probs, pieces)
    return per_token, per_byte, per_character


def bits_per_byte_as_eighths(log_probs: Tensor, pieces: list[str]) -> Units:
    per_token, per_character, per_byte = bits(log_probs, pieces)
    return per_token, per_character, per_byte / 8


def perplexities(log_probs: Tensor, pieces: list[str]) -> Units:
    per_token, per_character, per_byte = bits(log_probs, pieces)
    return 2**per_token, 2**per_character, 2**per_byte


def empty_pieces_free(log_probs: Tensor, pieces: list[str]) -> Units:
    full = torch.tensor([bool(piece) for piece in pieces], dtype=torch.bool)
    return bits(log_probs[full], [piece for piece in pieces if piece])


def empty_pieces_one_character(log_probs: Tensor, pieces: list[str]) -> Units:
    per_token, *_ = bits(log_probs, pieces)
    _, per_character, per_byte = bits(log_probs, [piece or "x" for piece in pieces])
    return per_token, per_character, per_byte


def mean_probability(log_probs: Tensor, pieces: list[str]) -> Units:
    per_token = -math.log2(log_probs.exp().mean().item())
    return _spread(per_token * len(pieces), pieces)


def weighted_by_probability(log_probs: Tensor, pieces: list[str]) -> Units:
    return _spread(torch.special.entr(log_probs.exp()).sum().item() / math.log(2), pieces)


def first_left_out(log_probs: Tensor, pieces: list[str]) -> Units:
    return _spread(-log_probs[1:].sum().item() / math.log(2), pieces)


def bits_cases() -> list[Case]:
    two = torch.tensor([0.25, 0.6], dtype=torch.float64).log()
    return [
        case(two, ["ça", ""]),
        case(torch.tensor([0.3, 0.05, 0.8], dtype=torch.float64).log(), ["th", "e", " end"]),
        case(-draw(4, seed=1).abs(), ["naïve", "", "…", "🙂"]),
        case(torch.tensor([0.5, 0.0, 0.25], dtype=torch.float64).log(), ["a", "bé", "c"]),  # impossible: infinite
        case(torch.zeros(2, dtype=torch.float64), ["ß", "sure"]),  # certain: nothing is left to say
        case(torch.tensor([0.2], dtype=torch.float64).log(), ["¿qué?"]),
        refusal("a text of no pieces", torch.zeros(0, dtype=torch.float64), []),
        refusal("pieces without a single character", -draw(2, seed=2).abs(), ["", ""]),
    ]


def drawn_bits(g: torch.Generator) -> Case:
    words = ["a", "the ", "", "é", "déjà ", "€", "tion", "—", "🙂", "Ω "]
    pieces = [words[integer(g, 0, len(words) - 1)] for _ in range(integer(g, 1, 7))]
    return case(-draw(len(pieces) + 1, seed=g).abs(), [*pieces, "no"])


EXERCISE = Exercise(
    id="17.1",
    title="bits per token, per character, per byte",
    question=(
        "A model has predicted a text piece by piece. `pieces` is the list of its pieces, the tokens as strings; "
        "`log_probs` is a float64 tensor (n,) with the natural logarithm of the probability that the model gave to "
        "each of these n pieces before it saw it. Write `my_bits(log_probs, pieces)`: three Python numbers, the bits "
        "that the model needs per token, per character and per byte. All three are the bits of the whole text, divided "
        "by how many tokens, characters (as `len` counts them) or bytes (in UTF-8) the whole text has. A piece may be "
        'empty, `""`, as the end-of-text token is: it is a token and costs bits, but has no character. A piece of '
        "probability 0 makes the results infinite. Raise a `ValueError` if the text has no character."
    ),
    skeleton=(
        'def my_bits(log_probs, pieces):\n    """The bits of a text per token, per character and per byte."""\n    ...'
    ),
    reference=bits,
    alternatives=(bits_by_loop, bits_from_the_mean),
    cases=bits_cases,
    drawn=drawn_bits,
    hints=(
        "Compute one total for the whole text first. Only then divide it, three times, by three counts.",
        "The total in nats is minus the sum of the log-probabilities. One bit is ln 2 = 0.693 nats: are there more "
        "bits or more nats?",
        '`total = -log_probs.sum().item() / math.log(2)`, `text = "".join(pieces)`, and the counts are '
        "`len(pieces)`, `len(text)` and `len(text.encode())`.",
    ),
    misconceptions=(
        Misconception(
            "nats",
            in_nats,
            "these are nats, because the logarithms are natural. A bit is the logarithm to base 2: divide by ln 2. "
            "Reported as bits, nats make every model look 31 % better than it is",
        ),
        Misconception(
            "times ln 2",
            times_ln_2,
            "you multiply by ln 2. A bit is a smaller unit than a nat (0.693 nats), so there are more bits than nats: "
            "divide",
        ),
        Misconception(
            "decimal digits",
            in_digits,
            "you divide by ln 10, which gives decimal digits. Bits are logarithms to base 2",
        ),
        Misconception(
            "minus forgotten",
            minus_forgotten,
            "the sign is wrong: the logarithm of a probability is never positive, and the bits are minus that",
        ),
        Misconception(
            "a mean divided again",
            mean_divided_again,
            "you divide the *mean* per token by the number of characters or bytes. The mean is divided already: use "
            "the total of the whole text",
        ),
        Misconception(
            "mean of the ratios",
            mean_of_ratios,
            "you take bits per character of each piece and average these. A long piece then counts as much as a short "
            "one, so cutting the same text differently changes the result. Divide the total by the total",
        ),
        Misconception(
            "the ratio inverted",
            ratio_inverted,
            "you multiply the bits per token by characters per token. A token holds several characters, so each "
            "character has fewer bits than the token: divide",
        ),
        Misconception(
            "characters for bytes",
            characters_for_bytes,
            "your third number divides by characters. In UTF-8 a character outside ASCII takes two to four bytes: "
            "count `text.encode()`",
        ),
        Misconception(
            "two bytes per character",
            two_bytes_each,
            "you count the bytes of UTF-16, two for most characters. The text is stored as UTF-8, where ASCII takes "
            "one byte",
        ),
        Misconception(
            "characters and bytes swapped",
            characters_and_bytes_swapped,
            "the second and the third number are swapped: per token, per character, per byte is the order",
        ),
        Misconception(
            "bits of storage",
            bits_per_byte_as_eighths,
            "you divide by eight bits per byte, which gives the ratio of a compressed file to the original one. The "
            "bits here are the model's, counted once per byte of the text",
        ),
        Misconception(
            "perplexities",
            perplexities,
            "these are perplexities, 2 to the power of the bits. Their logarithms are asked for, and they add up "
            "over a text, which perplexities do not",
        ),
        Misconception(
            "empty pieces left out",
            empty_pieces_free,
            "you leave the empty pieces out. The model had to predict the end of the text as well: it costs bits and "
            "is a token",
        ),
        Misconception(
            "empty pieces as characters",
            empty_pieces_one_character,
            "you count an empty piece as a character and a byte. It is a token, but nothing of it is in the text",
        ),
        Misconception(
            "logarithm of the mean",
            mean_probability,
            "you average the probabilities and then take the logarithm. One confident guess then hides many bad ones. "
            "The probability of a text is a product, so the logarithms are added",
        ),
        Misconception(
            "weighted by probability",
            weighted_by_probability,
            "you weight each logarithm by its probability, as an entropy does. The text is already a sample: each of "
            "its pieces counts once",
        ),
        Misconception(
            "the first left out",
            first_left_out,
            "you leave out the first piece. Its probability is given too, so it counts like any other",
        ),
    ),
    shows="one total of bits per text; only per byte can models with different tokens be compared.",
    derivation=(
        "P(text) = Π_i p(piece i | pieces before), so its code length is -log₂ P = -(1 / ln 2) Σ_i ln p_i bits. How "
        "many tokens this is depends on the tokenizer, and how many characters on what counts as one; the bytes of "
        "UTF-8 depend on neither. Perplexity per token = 2^(bits per token) inherits the tokenizer."
    ),
)
