"""21.3 a distillation loss for the Trainer."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, Exercise, case, draw, integer
from .wrong_21_3 import WRONG, Inputs, Number


class Output(dict[str, Tensor]):
    """What a language model returns: `output.logits` is `output["logits"]`, and the model's own loss is there, too."""

    @property
    def logits(self) -> Tensor:
        return self["logits"]


class Language(nn.Module):
    """The next token from the sum of those before it; in train mode one channel is dropped. It counts some calls."""

    def __init__(self, seed: int, vocabulary: int, kind: torch.dtype) -> None:
        super().__init__()
        self.table = nn.Parameter(draw(vocabulary, 3, seed=seed, spread=0.8).to(kind))
        self.head = nn.Parameter(draw(3, vocabulary, seed=seed + 1, spread=0.8).to(kind))
        self.kept = torch.tensor([1.5, 0.0, 1.5], dtype=kind)
        self.calls_in_train_mode = self.calls_with_gradients = 0

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> Output:
        self.calls_in_train_mode += self.training
        self.calls_with_gradients += torch.is_grad_enabled()
        hidden = (self.table[input_ids] * attention_mask[..., None]).cumsum(dim=1)
        logits = (hidden * self.kept if self.training else hidden) @ self.head
        if labels is None:
            return Output(logits=logits)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return Output(loss=loss, logits=logits)


def compute_loss(
    model: nn.Module,
    inputs: Inputs,
    *,
    teacher: nn.Module,
    temperature: float,
    return_outputs: bool = False,
    num_items_in_batch: Number = None,
) -> Any:
    outputs = model(**inputs)
    teacher.eval()
    with torch.no_grad():
        teacher_logits = teacher(**inputs).logits
    counted = inputs["labels"][:, 1:] != -100
    log_q = (outputs.logits[:, :-1][counted] / temperature).log_softmax(dim=-1)
    log_p = (teacher_logits[:, :-1][counted] / temperature).log_softmax(dim=-1)
    total = temperature**2 * F.kl_div(log_q, log_p, log_target=True, reduction="sum")
    tokens = counted.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    loss = total / tokens
    return (loss, outputs) if return_outputs else loss


def compute_loss_by_weights(
    model: nn.Module,
    inputs: Inputs,
    *,
    teacher: nn.Module,
    temperature: float,
    return_outputs: bool = False,
    num_items_in_batch: Number = None,
) -> Any:
    rest = {name: value for name, value in inputs.items() if name != "labels"}
    outputs = model(**rest)
    with torch.inference_mode():
        probabilities = (teacher.train(False)(**rest)["logits"] / temperature).softmax(dim=2)
    p = probabilities.clone()[:, :-1]
    log_q = F.log_softmax(outputs["logits"] / temperature, dim=2)[:, :-1]
    per_token = (torch.special.xlogy(p, p) - p * log_q).sum(dim=2)
    weights = (inputs["labels"][:, 1:] >= 0).to(per_token.dtype)
    tokens = max(1, int(weights.sum())) if num_items_in_batch is None else int(num_items_in_batch)
    loss = (per_token * weights).sum() * temperature * temperature / tokens
    if return_outputs:
        return loss, outputs
    return loss


def compute_loss_text_by_text(
    model: nn.Module,
    inputs: Inputs,
    *,
    teacher: nn.Module,
    temperature: float,
    return_outputs: bool = False,
    num_items_in_batch: Number = None,
) -> Any:
    with torch.no_grad():
        targets = teacher.eval()(**inputs).logits.div(temperature).softmax(dim=-1)
    outputs = model(**inputs)
    loss, tokens = outputs.logits.sum() * 0, 0
    for logits, target, labels in zip(outputs.logits, targets, inputs["labels"], strict=True):
        for at in range(len(labels) - 1):
            if labels[at + 1] != -100:
                q = torch.distributions.Categorical(logits=logits[at] / temperature)
                p = torch.distributions.Categorical(probs=target[at])
                loss = loss + temperature**2 * torch.distributions.kl_divergence(p, q)
                tokens += 1
    if num_items_in_batch is not None:
        tokens = int(num_items_in_batch)
    loss = loss / max(tokens, 1)
    return (loss, outputs) if return_outputs else loss


def what_a_trainer_needs(result: Any, case: Case) -> Any:
    """The loss, what came with it, and how the two models were called."""
    student, teacher, wanted = case.arguments[0], case.keywords["teacher"], case.keywords.get("return_outputs", False)
    pair = isinstance(result, tuple | list)
    if pair and len(result) != 2:
        raise TypeError("a loss, or a pair of loss and outputs, is needed")
    loss, outputs = result if pair else (result, None)
    if not isinstance(loss, Tensor):
        raise TypeError("the loss has to be a tensor: `backward()` is called on it")
    if pair and not isinstance(outputs, Mapping):
        raise TypeError("with the loss comes what the student returned, as it is")
    return {
        "a pair is returned": pair,
        "loss": loss,
        "logits in the outputs": outputs["logits"] if wanted and outputs else None,
        "the student ran with gradients": student.calls_with_gradients > 0,
        "the student was in train mode": student.calls_in_train_mode > 0,
        "the student is in train mode": student.training,
        "the teacher was in train mode": teacher.calls_in_train_mode > 0,
        "the teacher ran with gradients": teacher.calls_with_gradients > 0,
    }


def texts(seed: int | torch.Generator, shape: tuple[int, int], vocabulary: int, lengths: list[int]) -> Inputs:
    """A batch of token ids; of every text the first two tokens are its prompt, which is not counted."""
    g = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    ids = torch.randint(vocabulary, shape, generator=g)
    there = torch.arange(shape[1])[None] < torch.tensor(lengths)[:, None]
    labels = torch.where(there & (torch.arange(shape[1]) >= 2), ids, -100)
    return {"input_ids": ids * there, "attention_mask": there.long(), "labels": labels}


def batch(
    seed: int, vocabulary: int, inputs: Inputs, *, train: bool = True, kind: torch.dtype = torch.float64, **options: Any
) -> Case:
    student, teacher = Language(seed, vocabulary, kind), Language(seed + 50, vocabulary, kind)
    return case(student.train(train), inputs, teacher=teacher.train(seed % 2 == 1), **options)


def all_counted(seed: int, shape: tuple[int, int], vocabulary: int) -> Inputs:
    inputs = texts(seed, shape, vocabulary, [shape[1]] * shape[0])
    return inputs | {"labels": inputs["input_ids"].clone()}


def compute_loss_cases() -> list[Case]:
    return [
        batch(1, 3, texts(11, (1, 4), 3, [4]), temperature=2.0),
        batch(2, 4, texts(12, (2, 5), 4, [5, 4]), temperature=3.0, num_items_in_batch=7),
        batch(3, 4, texts(13, (3, 6), 4, [6, 3, 5]), temperature=1.5, return_outputs=True, train=False),
        batch(4, 5, all_counted(14, (2, 4), 5), temperature=2.0, num_items_in_batch=torch.tensor(11)),
        batch(5, 4, texts(15, (2, 4), 4, [2, 1]), temperature=2.0),  # nothing counts
        batch(6, 4, texts(16, (2, 5), 4, [1, 2]), temperature=2.0, num_items_in_batch=5, return_outputs=True),
        batch(7, 5, texts(17, (2, 6), 5, [5, 6]), temperature=4.0, kind=torch.float32, num_items_in_batch=9),
        batch(8, 4, texts(18, (4, 5), 4, [5, 3, 2, 4]), temperature=1.0, train=False),
        batch(9, 3, texts(19, (2, 4), 3, [3, 2]), temperature=2.0),  # a single position counts
    ]


def drawn_batch(g: torch.Generator) -> Case:
    shape = (integer(g, 2, 3), integer(g, 5, 6))
    lengths = [shape[1], *(integer(g, 2, shape[1]) for _ in range(shape[0] - 1))]
    vocabulary = integer(g, 3, 5)
    options: dict[str, Any] = {"return_outputs": bool(integer(g, 0, 1))}
    if integer(g, 0, 1):
        options["num_items_in_batch"] = integer(g, 9, 20)
    inputs = texts(g, shape, vocabulary, lengths)
    return batch(integer(g, 100, 900), vocabulary, inputs, temperature=integer(g, 3, 9) / 2, **options)


EXERCISE = Exercise(
    id="21.3",
    title="a loss for the Trainer",
    question=(
        "Hugging Face's `Trainer` calls a method `compute_loss` on every micro-batch. Write what it needs for "
        "distillation: `my_compute_loss(model, inputs, *, teacher, temperature, return_outputs=False, "
        "num_items_in_batch=None)`. `model` (the student) and `teacher` are causal language models: "
        "`model(**inputs).logits` is a tensor (B, L, V), and the logits at position t predict `labels[:, t + 1]`. "
        "`inputs` is a dict of tensors with `input_ids`, `attention_mask` and `labels`, (B, L) each; a position whose "
        "next label is -100 is not counted, nor is the last one, which predicts nothing. The loss is temperature² "
        "times the sum of KL(teacher ‖ student), both softened with `temperature`, over the counted positions, divided "
        "by `num_items_in_batch` (an integer or a tensor: the tokens of *all* micro-batches of this step), or, where "
        "that is None, by the number of positions counted here. Where none is counted, the loss is 0. Run the teacher "
        "in eval mode, whatever mode it comes in, and without gradient, so that no graph is kept for it; leave the "
        "student in the mode that it is in. Return the loss, a tensor through which a gradient flows to the student, "
        "or, with `return_outputs=True`, the pair (loss, what the student returned). Do not change `inputs`."
    ),
    skeleton=(
        "def my_compute_loss(\n"
        "    model, inputs, *, teacher, temperature, return_outputs=False, num_items_in_batch=None\n"
        "):\n"
        '    """Distillation loss of a micro-batch, for a Trainer."""\n    ...'
    ),
    reference=compute_loss,
    alternatives=(compute_loss_by_weights, compute_loss_text_by_text),
    cases=compute_loss_cases,
    drawn=drawn_batch,
    hints=(
        "Which logits belong to which label? Look at the last position of the logits, and at the first label.",
        "`counted = inputs['labels'][:, 1:] != -100` fits `logits[:, :-1]`. `teacher.eval()`, and the call under "
        "`torch.no_grad()`. `F.kl_div` takes the student's log-probabilities first.",
        "`log_q = (outputs.logits[:, :-1][counted] / temperature).log_softmax(-1)`, log_p likewise, `temperature**2 * "
        "F.kl_div(log_q, log_p, log_target=True, reduction='sum')`, divided by `num_items_in_batch` or by "
        "`counted.sum().clamp(min=1)`.",
    ),
    misconceptions=WRONG,
    shows="a distillation loss fits into a Trainer when it counts what the Trainer counts.",
    derivation=(
        "Let N tokens count in a step of M micro-batches. Σ_m (1/N) Σ_t ℓ_mt is the mean over all of them, while "
        "(1/M) Σ_m (1/n_m) Σ_t ℓ_mt weights a token by 1/n_m. So each micro-batch gives its *sum* over N. The Trainer "
        "must not divide by M once more: `loss_is_scaled_for_ga = True`."
    ),
    observe=what_a_trainer_needs,
    points=2,
)
