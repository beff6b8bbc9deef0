"""20.5 a loss that no factor saturates."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    own = F.one_hot(labels, logits.shape[1]).bool()
    best_other = logits.masked_fill(own, -torch.inf).max(dim=1).values
    return (best_other - logits[own]).mean()


def margin_by_sorting(logits: Tensor, labels: Tensor) -> Tensor:
    values, classes = logits.topk(2)
    best_other = torch.where(classes[:, 0] == labels, values[:, 1], values[:, 0])
    return (best_other - logits.gather(1, labels[:, None]).squeeze(1)).mean()


def margin_row_by_row(logits: Tensor, labels: Tensor) -> Tensor:
    rows = []
    for row, label in zip(logits, labels.tolist(), strict=True):
        others = torch.cat([row[:label], row[label + 1 :]])
        rows.append(others.max() - row[label])
    return torch.stack(rows).mean()


def own_not_left_out(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.max(dim=1).values - logits.gather(1, labels[:, None])[:, 0]).mean()


def sign_turned(logits: Tensor, labels: Tensor) -> Tensor:
    return -margin_loss(logits, labels)


def mean_of_the_others(logits: Tensor, labels: Tensor) -> Tensor:
    own = logits.gather(1, labels[:, None])[:, 0]
    return ((logits.sum(dim=1) - own) / (logits.shape[1] - 1) - own).mean()


def of_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    return margin_loss(logits.softmax(dim=1), labels)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels)


def summed(logits: Tensor, labels: Tensor) -> Tensor:
    return margin_loss(logits, labels) * len(logits)


def label_alone(logits: Tensor, labels: Tensor) -> Tensor:
    return -logits.gather(1, labels[:, None]).mean()


def zero_for_the_label(logits: Tensor, labels: Tensor) -> Tensor:
    own = F.one_hot(labels, logits.shape[1]).bool()
    return (logits.masked_fill(own, 0).max(dim=1).values - logits[own]).mean()


def largest_of_the_batch(logits: Tensor, labels: Tensor) -> Tensor:
    own = F.one_hot(labels, logits.shape[1]).bool()
    return (logits.masked_fill(own, -torch.inf).max() - logits[own]).mean()


def absolute(logits: Tensor, labels: Tensor) -> Tensor:
    own = F.one_hot(labels, logits.shape[1]).bool()
    return (logits.masked_fill(own, -torch.inf).max(dim=1).values - logits[own]).abs().mean()


def least_confident_image(logits: Tensor, labels: Tensor) -> Tensor:
    own = F.one_hot(labels, logits.shape[1]).bool()
    return (logits.masked_fill(own, -torch.inf).max(dim=1).values - logits[own]).max()


def margin_cases() -> list[Case]:
    return [
        case(torch.tensor([[2.0, 1.0, -1.0], [0.5, -2.0, 3.0]], dtype=torch.float64), torch.tensor([0, 1])),
        case(torch.tensor([[-2.0, -1.0], [-5.0, -3.5]], dtype=torch.float64), torch.tensor([1, 1])),
        case(draw(5, 4, seed=1), torch.tensor([3, 0, 2, 1, 0])),
        case(draw(1, 3, seed=2), torch.tensor([1])),
        case(100 * draw(4, 5, seed=3), torch.tensor([4, 4, 0, 2])),
        case(draw(6, 3, seed=4).float() - 20, torch.tensor([0, 1, 2, 0, 1, 2])),
    ]


def drawn_margin(g: torch.Generator) -> Case:
    count, classes = integer(g, 2, 8), integer(g, 3, 6)
    return case(draw(count, classes, seed=g), torch.randint(classes, (count,), generator=g))


EXERCISE = Exercise(
    id="20.5",
    title="a loss that no factor saturates",
    question=(
        "An attack raises a loss of the image. Write `my_margin_loss(logits, labels)` for logits (N, C), C at least 2, "
        "and labels (N,): for each image the largest logit of the *other* classes minus the label's logit; return the "
        "mean over the images as a 0-dimensional tensor with a gradient to the logits. It is negative while an image "
        "is classified correctly, and it goes on growing afterwards. No row has two equal logits."
    ),
    skeleton=(
        "def my_margin_loss(logits, labels):\n"
        '    """The largest other logit minus the label\'s; the mean over images."""\n    ...'
    ),
    reference=margin_loss,
    alternatives=(margin_by_sorting, margin_row_by_row),
    cases=margin_cases,
    drawn=drawn_margin,
    hints=(
        "The label's own logit must not be among those whose maximum you take.",
        "Put -inf in the place of the label's logit (in a copy), then take `max(dim=1)`.",
        "`own = F.one_hot(labels, C).bool()`; `logits.masked_fill(own, -torch.inf).max(dim=1).values - logits[own]`.",
    ),
    misconceptions=(
        Misconception(
            "the label is not left out",
            own_not_left_out,
            "you take the maximum over all classes, or clamp at 0, which is the same. While the image is classified "
            "correctly the loss is 0, and so is its gradient. The attack never starts",
        ),
        Misconception(
            "the sign",
            sign_turned,
            "the sign is turned round: raising this makes the network *more* certain of the label",
        ),
        Misconception(
            "the mean of the others",
            mean_of_the_others,
            "you take the mean of the other logits. One class is enough to deceive the network: take the largest",
        ),
        Misconception(
            "probabilities",
            of_probabilities,
            "you take the margin of probabilities. Softmax saturates: with logits times 100 the gradient is 0 in "
            "floating point, and the network only looks robust",
        ),
        Misconception(
            "cross-entropy",
            cross_entropy,
            "this is the cross-entropy. Its gradient vanishes where the softmax is certain; that is what the margin "
            "avoids",
        ),
        Misconception(
            "summed over the batch",
            summed,
            "exactly N times too large: you sum over the images. Take their mean",
        ),
        Misconception(
            "the label's logit alone",
            label_alone,
            "you only lower the label's logit. If all logits fall together, the prediction stays",
        ),
        Misconception(
            "0 for the label's logit",
            zero_for_the_label,
            "you put 0 in the place of the label's logit. If all others are negative, 0 is the largest. Put -inf",
        ),
        Misconception(
            "one maximum for the batch",
            largest_of_the_batch,
            "you take one maximum for the whole batch. Every image has its own: `max(dim=1)`",
        ),
        Misconception(
            "absolute",
            absolute,
            "you take the absolute value. Raising it makes correctly classified images more certain",
        ),
        Misconception(
            "one image",
            least_confident_image,
            "you keep the image with the largest margin only; the others get no gradient. Take the mean",
        ),
    ),
    shows="an attack on the margin does not notice what factor the logits have.",
    derivation=(
        "The gradient of the margin with respect to the logits is +1/N at the largest other class and -1/N at the "
        "label, whatever their size. With logits c·z the gradient with respect to the image is c times as large, so "
        "its sign, all that a step of the attack uses, is the same. The gradient of the cross-entropy is p - y: it is "
        "0 in floating point once c·z is large."
    ),
    gradients=(0,),
    absolute=1e-6,
)
