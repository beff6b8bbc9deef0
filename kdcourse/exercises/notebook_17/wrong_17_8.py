"""Wrong answers to 17.8, each with its diagnosis."""

from torch import Tensor

from ..engine.core import Misconception


def _costs(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return ((s - t) * mask).detach()


def _to_go(costs: Tensor) -> Tensor:
    return costs.flip(1).cumsum(dim=1).flip(1)


def _loss(s: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    return (s * mask * weights).sum(dim=1).mean()


def sampled_divergence(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return ((s - t.detach()) * mask).sum(dim=1).mean()


def own_token_only(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s, mask, _costs(s, t, mask))


def nothing_detached(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s, mask, _to_go((s - t) * mask))


def student_not_detached(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s, mask, _to_go((s - t.detach()) * mask))


def teacher_not_detached(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s, mask, _to_go((s.detach() - t) * mask))


def weight_only_not_detached(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s.detach(), mask, _to_go((s - t.detach()) * mask))


def what_came_before(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s, mask, _costs(s, t, mask).cumsum(dim=1))


def later_tokens_only(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    costs = _costs(s, t, mask)
    return _loss(s, mask, _to_go(costs) - costs)


def whole_text(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s, mask, _costs(s, t, mask).sum(dim=1, keepdim=True))


def mean_to_go(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s, mask, _to_go(_costs(s, t, mask)) / _to_go(mask.to(s.dtype)).clamp(min=1))


def mean_over_tokens(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return (s * mask * _to_go(_costs(s, t, mask))).sum() / mask.sum()


def mean_within_texts(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    each = (s * mask * _to_go(_costs(s, t, mask))).sum(dim=1)
    return (each / mask.sum(dim=1).clamp(min=1)).mean()


def mean_over_positions(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return (s * mask * _to_go(_costs(s, t, mask))).mean()


def summed_over_texts(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return (s * mask * _to_go(_costs(s, t, mask))).sum()


def sign_of_the_cost(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s, mask, _to_go(_costs(t, s, mask)))


def mask_forgotten_in_the_cost(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s, mask, _to_go((s - t).detach()))


def mask_forgotten_in_the_sum(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return (s * _to_go(_costs(s, t, mask))).sum(dim=1).mean()


def mask_forgotten(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return (s * _to_go((s - t).detach())).sum(dim=1).mean()


def along_the_batch(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s, mask, _costs(s, t, mask).flip(0).cumsum(dim=0).flip(0))


def weighted_by_probability(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s, mask, _to_go(_costs(s, t, mask)) * s.detach().exp())


def probabilities_for_logarithms(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s.exp(), mask, _to_go(_costs(s, t, mask)))


def teacher_as_reward_alone(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return _loss(s, mask, _to_go((-t * mask).detach()))


WRONG = (
    Misconception(
        "the sampled divergence",
        sampled_divergence,
        "you return the costs themselves. Their mean is the divergence, but not their gradient: it is that of "
        "ln q, which is 0 on average. What changes the divergence is *which* texts the student writes",
    ),
    Misconception(
        "its own cost only",
        own_token_only,
        "you multiply by the token's own cost. This is what a reverse divergence at each token does on the "
        "student's text: a token that leads into trouble later is not told so. Add all later costs",
    ),
    Misconception(
        "nothing detached",
        nothing_detached,
        "the value is correct, but R is not a constant: the gradient flows through the costs too, into student "
        "and teacher",
    ),
    Misconception(
        "the student's costs not detached",
        student_not_detached,
        "the value is correct, but the gradient also flows through ln q inside R. The sum of both is the gradient of "
        "something else, not of the divergence: detach R",
    ),
    Misconception(
        "the teacher not detached",
        teacher_not_detached,
        "the value is correct, but the teacher gets a gradient through the costs: detach R",
    ),
    Misconception(
        "the wrong factor detached",
        weight_only_not_detached,
        "the value is correct, but you detached ln q and let the gradient flow through R. It is the other way "
        "round: R says how good the token was, ln q is what can change",
    ),
    Misconception(
        "what came before",
        what_came_before,
        "you add the costs up to the token instead of those from it on. A token cannot change what was written "
        "before it",
    ),
    Misconception(
        "later tokens only",
        later_tokens_only,
        "the token's own cost is missing: R begins with it",
    ),
    Misconception(
        "the whole text",
        whole_text,
        "you multiply each token by the cost of the whole text. That is correct on average, too, but what came "
        "before a token only adds noise to its gradient. R begins at the token itself",
    ),
    Misconception(
        "mean of the later costs",
        mean_to_go,
        "you average the costs instead of adding them up. Then a token in a long text answers for less than the "
        "trouble it causes",
    ),
    Misconception(
        "mean over tokens",
        mean_over_tokens,
        "you divide by the number of written tokens. The divergence of whole texts is a sum over tokens; only the "
        "texts are averaged",
    ),
    Misconception(
        "mean within each text",
        mean_within_texts,
        "you divide by the length of each text. A token of a long text then counts less, and the gradient is no "
        "longer that of the divergence. Sum within a text",
    ),
    Misconception(
        "mean over all positions",
        mean_over_positions,
        "you average over all positions, prompt and padding included: append padding, and the loss shrinks. Sum "
        "within a text, average over texts",
    ),
    Misconception(
        "summed over texts",
        summed_over_texts,
        "exactly N times too large: the texts are averaged",
    ),
    Misconception(
        "the sign of the cost",
        sign_of_the_cost,
        "the cost has the wrong sign: ln q - ln p. Your loss makes texts more probable that the teacher finds "
        "improbable",
    ),
    Misconception(
        "mask forgotten in R",
        mask_forgotten_in_the_cost,
        "the mask is applied to the outer sum only. The costs at padding still enter R of every token before it",
    ),
    Misconception(
        "mask forgotten in the sum",
        mask_forgotten_in_the_sum,
        "R is correct, but the outer sum runs over prompt and padding too: the tokens of the prompt were not "
        "written by the student",
    ),
    Misconception(
        "mask forgotten",
        mask_forgotten,
        "the mask has no effect: prompt and padding count as if the student had written them",
    ),
    Misconception(
        "along the batch",
        along_the_batch,
        "the cumulative sum runs over the texts, dimension 0. It has to run over the tokens of each text",
    ),
    Misconception(
        "weighted by the probability",
        weighted_by_probability,
        "you also multiply by q. The texts were drawn from the student, so a probable token comes more frequently "
        "already: its probability would count twice",
    ),
    Misconception(
        "probabilities for logarithms",
        probabilities_for_logarithms,
        "the factor is q instead of ln q. The gradient of a mean over q is the mean of the gradient of ln q",
    ),
    Misconception(
        "the teacher's logarithm alone",
        teacher_as_reward_alone,
        "the costs are -ln p alone. Then the student is driven to the one most probable text of the teacher: ln q, "
        "which pays for variety, is missing",
    ),
)
