"""21.1 weights that make many micro-batches one batch."""

from fractions import Fraction

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer, refusal

Counts = list[list[int]]
Weights = list[list[float]]


def loss_weights(counts: Counts) -> Weights:
    total = sum(sum(worker) for worker in counts)
    if total == 0:
        raise ValueError("there is no token in this step")
    return [[tokens * len(counts) / total for tokens in worker] for worker in counts]


def weights_as_fractions(counts: Counts) -> Weights:
    flat = [tokens for worker in counts for tokens in worker]
    if not any(flat):
        raise ValueError("all counts are 0")
    one = Fraction(len(counts), sum(flat))
    weights: Weights = []
    for worker in counts:
        weights.append([])
        for tokens in worker:
            weights[-1].append(float(tokens * one))
    return weights


def weights_by_tensors(counts: Counts) -> Weights:
    tensors = [torch.tensor(worker, dtype=torch.float64) for worker in counts]
    total = torch.cat(tensors).sum()
    if not total > 0:
        raise ValueError("nothing to average over")
    return [(tensor / total * len(tensors)).tolist() for tensor in tensors]


def _total(counts: Counts) -> int:
    total = sum(map(sum, counts))
    if not total:
        raise ValueError("no token")
    return total


def mean_of_means(counts: Counts) -> Weights:
    _total(counts)
    return [[1 / len(worker) for _ in worker] for worker in counts]


def all_equal(counts: Counts) -> Weights:
    _total(counts)
    return [[len(counts) / sum(map(len, counts)) for _ in worker] for worker in counts]


def workers_forgotten(counts: Counts) -> Weights:
    return [[tokens / _total(counts) for tokens in worker] for worker in counts]


def workers_twice(counts: Counts) -> Weights:
    return [[tokens * len(counts) ** 2 / _total(counts) for tokens in worker] for worker in counts]


def own_tokens_only(counts: Counts) -> Weights:
    _total(counts)
    return [[tokens / max(1, sum(worker)) for tokens in worker] for worker in counts]


def steps_multiplied(counts: Counts) -> Weights:
    return [[tokens * len(worker) * len(counts) / _total(counts) for tokens in worker] for worker in counts]


def steps_divided(counts: Counts) -> Weights:
    return [[tokens * len(counts) / _total(counts) / len(worker) for tokens in worker] for worker in counts]


def workers_with_tokens(counts: Counts) -> Weights:
    busy = sum(any(worker) for worker in counts)
    return [[tokens * busy / _total(counts) for tokens in worker] for worker in counts]


def workers_with_batches(counts: Counts) -> Weights:
    busy = sum(bool(worker) for worker in counts)
    return [[tokens * busy / _total(counts) for tokens in worker] for worker in counts]


def upside_down(counts: Counts) -> Weights:
    total = _total(counts)
    return [[total / (len(counts) * tokens) if tokens else 0.0 for tokens in worker] for worker in counts]


def tokens_themselves(counts: Counts) -> Weights:
    _total(counts)
    return [[float(tokens) for tokens in worker] for worker in counts]


def sums_to_means(counts: Counts) -> Weights:
    return [[len(counts) / _total(counts) for _ in worker] for worker in counts]


def flattened(counts: Counts) -> list[float]:
    return [tokens * len(counts) / _total(counts) for worker in counts for tokens in worker]


def empty_dropped(counts: Counts) -> Weights:
    return [[tokens * len(counts) / _total(counts) for tokens in worker if tokens] for worker in counts]


def integers(counts: Counts) -> Weights:
    return [[tokens * len(counts) // _total(counts) for tokens in worker] for worker in counts]


def weights_cases() -> list[Case]:
    return [
        case([[3, 1], [2]]),
        case([[5, 2, 1]]),  # one process
        case([[4], [4], [4]]),
        case([[7, 0, 2], [1, 1, 1], [30, 12, 5]]),
        case([[2, 6], [], [0, 0, 0], [9]]),  # workers without tokens, and one without a micro-batch
        case([[0], [0], [11]]),
        case([[0, 1], [0]]),
        refusal("a step without any token", [[0, 0], [0]]),
        refusal("a step without any micro-batch", [[], []]),
    ]


def drawn_weights(g: torch.Generator) -> Case:
    counts = [[integer(g, 0, 40) for _ in range(integer(g, 1, 4))] for _ in range(integer(g, 2, 4))]
    return case([*counts, [integer(g, 1, 9)]])


EXERCISE = Exercise(
    id="21.1",
    title="one batch in many parts",
    question=(
        "One step of training is split: each worker (process) has a list of micro-batches, and `counts` has one list "
        "per worker with the number of tokens that count in each of them, for example `[[3, 1], [2]]`. The loss of a "
        "micro-batch is the *mean* over its tokens, or 0 if it has none. Each worker multiplies every loss by a weight "
        "and adds up the gradients of its micro-batches; then the gradients are *averaged* over all workers, as "
        "`DistributedDataParallel` does. Write `my_loss_weights(counts)`: the weights, as a list of lists of floats in "
        "the form of `counts`, with which the result is the gradient of the mean over all tokens of the step. Workers "
        "may have different numbers of micro-batches. A worker that has no token, or no micro-batch at all, still "
        "takes part in the average. Raise a `ValueError` if there is no token in the whole step."
    ),
    skeleton=(
        "def my_loss_weights(counts):\n"
        '    """Weights of the micro-batches of all workers, for the mean over all tokens."""\n    ...'
    ),
    reference=loss_weights,
    alternatives=(weights_as_fractions, weights_by_tensors),
    cases=weights_cases,
    drawn=drawn_weights,
    hints=(
        "A mean of n tokens, times n, is their sum. By what would you divide the sum over all of them?",
        "The sum over all tokens, divided by their number N, is the aim. The average over W workers divides by W: undo "
        "that in advance.",
        "`n * len(counts) / total` for each n, with `total` over all workers and micro-batches; the `ValueError` where "
        "it is 0.",
    ),
    misconceptions=(
        Misconception(
            "a mean of means",
            mean_of_means,
            "you divide by the number of micro-batches: a mean of means. A token in a short micro-batch then counts "
            "more than one in a long micro-batch. Weight by the numbers of tokens",
        ),
        Misconception(
            "all micro-batches equal",
            all_equal,
            "you give every micro-batch of the step the same weight. A token in a short one then counts more than one "
            "in a long one. Weight by the numbers of tokens",
        ),
        Misconception(
            "the workers forgotten",
            workers_forgotten,
            "n / N is correct in one process. With W workers the gradients are averaged, that is divided by W, so that "
            "yours are W times too small: multiply by W",
        ),
        Misconception(
            "the workers twice",
            workers_twice,
            "you multiply by the number of workers twice. The average divides by it once",
        ),
        Misconception(
            "own tokens only",
            own_tokens_only,
            "you divide by the worker's own number of tokens. The average over workers is then a mean of means again: "
            "N is over all workers, so that they have to tell each other their numbers",
        ),
        Misconception(
            "times the micro-batches",
            steps_multiplied,
            "you multiply by the number of micro-batches. Gradients of micro-batches are added up, not averaged: there "
            "is nothing to undo",
        ),
        Misconception(
            "divided by the micro-batches",
            steps_divided,
            "you also divide by the number of micro-batches. N already counts all tokens of all of them",
        ),
        Misconception(
            "only workers with tokens",
            workers_with_tokens,
            "you count only the workers that have tokens. A worker without any contributes a gradient of zero, but the "
            "average still divides by all of them",
        ),
        Misconception(
            "only workers with micro-batches",
            workers_with_batches,
            "you count only the workers that have a micro-batch. The average divides by all of them",
        ),
        Misconception(
            "upside down",
            upside_down,
            "the fraction is upside down: a micro-batch with many tokens has to count more, not less",
        ),
        Misconception(
            "the tokens themselves",
            tokens_themselves,
            "you weight by n alone. That makes sums of the means; the sum over all tokens has to be divided by N, and "
            "the average by W to be undone",
        ),
        Misconception(
            "weights for sums",
            sums_to_means,
            "W / N is the weight for a *sum* over a micro-batch. Here each loss is a mean over its n tokens",
        ),
        Misconception(
            "one flat list", flattened, "the weights are correct, but in one flat list. Return one list per worker"
        ),
        Misconception(
            "empty ones dropped",
            empty_dropped,
            "you drop the micro-batches without tokens, so that the later weights stand at wrong positions. Their "
            "weight is 0",
        ),
        Misconception(
            "rounded down", integers, "you divide with `//`, which rounds down to an integer. Weights are fractions"
        ),
    ),
    shows="a batch may be cut anywhere, as long as every token has the same weight.",
    derivation=(
        "(1/W) Σ_r Σ_m w_rm · (1/n_rm) Σ_t g_rmt with w_rm = n_rm W / N is (1/N) Σ_r Σ_m Σ_t g_rmt, the gradient of "
        "the mean over all N tokens."
    ),
)
