"""Wrong answers to 21.3, each with its diagnosis."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Misconception

Inputs = dict[str, Tensor]
Number = int | Tensor | None


def _loss(
    model: nn.Module,
    inputs: Inputs,
    *,
    teacher: nn.Module,
    temperature: float,
    return_outputs: bool = False,
    num_items_in_batch: Number = None,
    counted: Tensor | None = None,
    places: slice | None = None,
    student_at: float | None = None,
    teacher_at: float | None = None,
    factor: float | None = None,
    turned: bool = False,
    tokens: Any = None,
    quiet: bool = True,
    at_rest: bool = True,
) -> Any:
    """The right loss, but for what the options say."""
    outputs = model(**inputs)
    if at_rest:
        teacher.eval()
    with torch.set_grad_enabled(not quiet):
        soft = teacher(**inputs).logits
    counted = inputs["labels"][:, 1:] != -100 if counted is None else counted
    places = places or slice(None, -1)
    log_q = (outputs.logits[:, places][counted] / (student_at or temperature)).log_softmax(dim=-1)
    log_p = (soft[:, places][counted] / (teacher_at or temperature)).log_softmax(dim=-1)
    log_q, log_p = (log_p, log_q) if turned else (log_q, log_p)
    total = (factor or temperature**2) * F.kl_div(log_q, log_p, log_target=True, reduction="sum")
    if tokens is None:
        tokens = counted.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    loss = total / tokens
    return (loss, outputs) if return_outputs else loss


def not_shifted(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, counted=inputs["labels"] != -100, places=slice(None), **how)


def shifted_the_other_way(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, counted=inputs["labels"][:, :-1] != -100, places=slice(1, None), **how)


def labels_shifted_alone(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, places=slice(1, None), **how)


def padding_counted(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, counted=torch.ones_like(inputs["labels"][:, 1:], dtype=torch.bool), **how)


def attention_for_labels(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, counted=inputs["attention_mask"][:, 1:] == 1, **how)


def mean_over_all_positions(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, tokens=how.get("num_items_in_batch") or inputs["labels"][:, 1:].numel(), **how)


def factor_missing(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, factor=1.0, **how)


def factor_once(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, factor=how["temperature"], **how)


def reversed_divergence(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, turned=True, **how)


def student_not_softened(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, student_at=1.0, **how)


def teacher_not_softened(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, teacher_at=1.0, **how)


def items_ignored(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, **(how | {"num_items_in_batch": None}))


def divided_twice(model: Any, inputs: Inputs, **how: Any) -> Any:
    here = (inputs["labels"][:, 1:] != -100).sum().clamp(min=1)
    given = how.get("num_items_in_batch")
    return _loss(model, inputs, tokens=here if given is None else here * given, **how)


def per_text(model: Any, inputs: Inputs, **how: Any) -> Any:
    given = how.get("num_items_in_batch")
    return _loss(model, inputs, tokens=len(inputs["labels"]) if given is None else given, **how)


def teacher_as_it_comes(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, at_rest=False, **how)


def teacher_with_gradients(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, quiet=False, **how)


def student_in_eval_mode(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model.eval(), inputs, **how)


def student_in_train_mode(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model.train(), inputs, **how)


def always_a_pair(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, **(how | {"return_outputs": True}))


def never_a_pair(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, **(how | {"return_outputs": False}))


def outputs_of_the_teacher(model: Any, inputs: Inputs, **how: Any) -> Any:
    loss = _loss(model, inputs, **(how | {"return_outputs": False}))
    with torch.no_grad():
        return (loss, how["teacher"](**inputs)) if how.get("return_outputs") else loss


@torch.no_grad()
def both_without_gradients(model: Any, inputs: Inputs, **how: Any) -> Any:
    return _loss(model, inputs, **how)


def zero_by_zero(model: Any, inputs: Inputs, **how: Any) -> Any:
    given = how.get("num_items_in_batch")
    return _loss(model, inputs, tokens=(inputs["labels"][:, 1:] != -100).sum() if given is None else given, **how)


def labels_alone(model: Any, inputs: Inputs, **how: Any) -> Any:
    how["teacher"].eval()
    outputs = model(**inputs)
    return (outputs["loss"], outputs) if how.get("return_outputs") else outputs["loss"]


WRONG = (
    Misconception(
        "not shifted",
        not_shifted,
        "you compare the mask of position t with the logits of position t. Logits at t predict the *next* token: "
        "`labels[:, 1:]` belongs to `logits[:, :-1]`. As it is, the first predicted token of every text is left out, "
        "and the prediction after its end is counted",
    ),
    Misconception(
        "shifted the wrong way",
        shifted_the_other_way,
        "you shift the wrong way: `labels[:, :-1]` with `logits[:, 1:]`. Logits at t predict `labels[:, t + 1]`",
    ),
    Misconception(
        "only the labels shifted",
        labels_shifted_alone,
        "you cut off the first position of labels and logits. Then they are not shifted at all: of the logits the "
        "*last* position has to go",
    ),
    Misconception(
        "padding counts",
        padding_counted,
        "you count all positions. Where the next label is -100, prompt or padding, nothing is to be learned",
    ),
    Misconception(
        "the attention mask for the labels",
        attention_for_labels,
        "you count where the attention mask is 1. It leaves out padding, but not the prompt: -100 in the labels says "
        "what counts",
    ),
    Misconception(
        "a mean over all positions",
        mean_over_all_positions,
        "the sum is over the counted positions, but you divide by all of them: the loss gets smaller the more padding "
        "there is",
    ),
    Misconception(
        "T² missing",
        factor_missing,
        "the factor temperature² is missing: the gradient is too small by it",
    ),
    Misconception("T once", factor_once, "you multiply by the temperature once. It is temperature²"),
    Misconception(
        "the divergence reversed",
        reversed_divergence,
        "this is KL(student ‖ teacher). `F.kl_div` takes the student's log-probabilities first and the teacher's as "
        "the target",
    ),
    Misconception(
        "the student not softened",
        student_not_softened,
        "the student's logits are not divided by the temperature, only the teacher's",
    ),
    Misconception(
        "the teacher not softened",
        teacher_not_softened,
        "the teacher's logits are not divided by the temperature, only the student's",
    ),
    Misconception(
        "num_items_in_batch ignored",
        items_ignored,
        "you take the mean over this micro-batch also where `num_items_in_batch` is given. With gradient accumulation "
        "that is a mean of means, where tokens of short texts count more: divide the sum by `num_items_in_batch`",
    ),
    Misconception(
        "divided twice",
        divided_twice,
        "you divide by `num_items_in_batch` and by the number counted here. Of the two only one: the sum over "
        "`num_items_in_batch`",
    ),
    Misconception(
        "a mean over texts",
        per_text,
        "where `num_items_in_batch` is None you divide by the number of texts, as `reduction='batchmean'` does for "
        "three dimensions. The loss then grows with their length",
    ),
    Misconception(
        "the teacher in train mode",
        teacher_as_it_comes,
        "you leave the teacher in the mode that it comes in. In train mode its dropout makes the targets random: "
        "`teacher.eval()`",
    ),
    Misconception(
        "the teacher with gradients",
        teacher_with_gradients,
        "the value is correct, but the teacher runs with gradients: its whole graph is kept in memory, and its "
        "parameters get gradients. Call it under `torch.no_grad()`",
    ),
    Misconception(
        "the student in eval mode",
        student_in_eval_mode,
        "you put the student into eval mode: it is trained without its dropout. Only the teacher is for eval mode",
    ),
    Misconception(
        "the student in train mode",
        student_in_train_mode,
        "you put the student into train mode. The Trainer calls this also to evaluate: leave the mode to it",
    ),
    Misconception(
        "always a pair",
        always_a_pair,
        "you return the outputs also where they are not asked for. The Trainer then calls `backward()` on a pair",
    ),
    Misconception(
        "never a pair",
        never_a_pair,
        "you return the loss alone also with `return_outputs=True`. The Trainer needs the pair to evaluate",
    ),
    Misconception(
        "the teacher's outputs",
        outputs_of_the_teacher,
        "the loss is correct, but you return the teacher's outputs with it. The metrics would be the teacher's",
    ),
    Misconception(
        "both without gradients",
        both_without_gradients,
        "the value is correct, but the student runs without gradients as well: nothing would be learned. `no_grad` is "
        "for the teacher's call alone",
    ),
    Misconception(
        "0 / 0",
        zero_by_zero,
        "correct, but where no position is counted you divide 0 by 0, which is NaN, and one such step destroys all "
        "weights. The loss is 0 there",
    ),
    Misconception(
        "the labels alone",
        labels_alone,
        "this is the student's own loss on the labels. The teacher has no part in it",
    ),
)
