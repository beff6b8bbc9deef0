"""22.09 a loss that is always zero."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal
from .common import GRADIENT_TOO, divergence

Stored = dict[int, Tensor] | dict[str, Tensor]
ABSENT = "a task whose logits are not stored, where a loss of 0 would say that all is well"


def loss_of_the_task(student_logits: Tensor, stored: Stored, task: int, *, temperature: float) -> Tensor:
    by_number = {int(key): logits for key, logits in stored.items()}
    if task not in by_number:
        raise ValueError(f"no logits are stored for task {task}, only for {sorted(by_number)}")
    p_t = F.softmax(by_number[task] / temperature, dim=1)
    log_p_s = F.log_softmax(student_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(log_p_s, p_t, reduction="batchmean")


def by_both_keys(student_logits: Tensor, stored: Stored, task: int, *, temperature: float) -> Tensor:
    anything: dict[object, Tensor] = dict(stored.items())
    found = anything.get(task, anything.get(str(task)))
    if found is None:
        raise ValueError("unknown task")
    return divergence(student_logits, found, temperature)


def by_searching(student_logits: Tensor, stored: Stored, task: int, *, temperature: float) -> Tensor:
    for key, logits in stored.items():
        if str(key) == f"{task}":
            return divergence(student_logits, logits.detach(), temperature)
    raise ValueError(f"task {task} is missing")


def never_found(s: Tensor, stored: Stored, task: int, *, temperature: float) -> Tensor:
    loss = s.sum() * 0
    for key, logits in stored.items():
        if key == task:
            loss = loss + divergence(s, logits, temperature)
    return loss


def strings_alone(s: Tensor, stored: Stored, task: int, *, temperature: float) -> Tensor:
    anything: dict[object, Tensor] = dict(stored.items())
    if str(task) not in anything:
        raise ValueError("missing")
    return divergence(s, anything[str(task)], temperature)


def integers_alone(s: Tensor, stored: Stored, task: int, *, temperature: float) -> Tensor:
    anything: dict[object, Tensor] = dict(stored.items())
    if task not in anything:
        raise ValueError("missing")
    return divergence(s, anything[task], temperature)


def by_position(s: Tensor, stored: Stored, task: int, *, temperature: float) -> Tensor:
    if task >= len(stored):
        raise ValueError("missing")
    return divergence(s, list(stored.values())[task], temperature)


def all_tasks(s: Tensor, stored: Stored, task: int, *, temperature: float) -> Tensor:
    if str(task) not in map(str, stored):
        raise ValueError("missing")
    losses = [divergence(s, logits, temperature) for logits in stored.values()]
    return torch.stack(losses).sum()


def beginning_of_the_name(s: Tensor, stored: Stored, task: int, *, temperature: float) -> Tensor:
    for key, logits in stored.items():
        if str(key).startswith(str(task)):
            return divergence(s, logits, temperature)
    raise ValueError("missing")


def itself_where_missing(s: Tensor, stored: Stored, task: int, *, temperature: float) -> Tensor:
    by_number = {int(key): logits for key, logits in stored.items()}
    return divergence(s, by_number.get(task, torch.zeros_like(s)), temperature)


def no_square(s: Tensor, stored: Stored, task: int, *, temperature: float) -> Tensor:
    return loss_of_the_task(s, stored, task, temperature=temperature) / temperature**2


def swapped(s: Tensor, stored: Stored, task: int, *, temperature: float) -> Tensor:
    by_number = {int(key): logits for key, logits in stored.items()}
    if task not in by_number:
        raise ValueError("missing")
    return divergence(by_number[task], s, temperature)


def stored_logits(shape: tuple[int, int], tasks: list[int], seed: int) -> dict[int, Tensor]:
    return {task: draw(*shape, seed=seed + place) for place, task in enumerate(tasks)}


def as_json(stored: dict[int, Tensor]) -> dict[str, Tensor]:
    return {str(task): logits for task, logits in stored.items()}


def task_cases() -> list[Case]:
    small, three = draw(2, 3, seed=252), draw(4, 5, seed=253)
    return [
        case(small, as_json(stored_logits((2, 3), [1, 0], 260)), 1, temperature=1.0),
        case(small, stored_logits((2, 3), [1, 0], 260), 0, temperature=2.0),
        case(three, as_json(stored_logits((4, 5), [11, 1, 10, 2], 264)), 1, temperature=2.0),
        case(three, stored_logits((4, 5), [3, 11, 1, 0], 268), 1, temperature=3.0),
        refusal(ABSENT, small, as_json(stored_logits((2, 3), [1, 0], 260)), 7, temperature=1.0),
        refusal(ABSENT, small, stored_logits((2, 3), [10, 12], 272), 1, temperature=1.0),
        refusal(ABSENT, small, {}, 0, temperature=1.0),
    ]


def drawn_task(g: torch.Generator) -> Case:
    shape, count = (integer(g, 1, 4), integer(g, 2, 4)), integer(g, 1, 5)
    tasks = torch.randperm(15, generator=g)[:count].tolist()
    stored = {task: draw(*shape, seed=g) for task in tasks}
    task = tasks[integer(g, 0, count - 1)]
    return case(draw(*shape, seed=g), as_json(stored) if integer(g, 0, 1) else stored, task, temperature=2.0)


EXERCISE = Exercise(
    id="22.09",
    title="a loss that is always zero",
    question=(
        "Fix `case_9` as `fixed_9(student_logits, stored, task, *, temperature)`. `stored` is a dict of old logits "
        "(N, C) by task. Its keys are the task numbers, all of them integers or, read back from a JSON file, all of "
        'them strings such as `"3"`; `task` is an integer. Return T² · KL(p_old ‖ p_s), the mean over the N images, '
        "for the logits of that task, a 0-dimensional tensor. If the task is not stored, raise a `ValueError`. "
        f"{GRADIENT_TOO}"
    ),
    skeleton=(
        "def fixed_9(student_logits, stored, task, *, temperature):\n"
        '    """The distillation loss of one task, from stored logits."""\n    ...'
    ),
    reference=loss_of_the_task,
    alternatives=(by_both_keys, by_searching),
    cases=task_cases,
    drawn=drawn_task,
    hints=(
        "The loss does not depend on the student at all. Which line of the program never runs?",
        'JSON has no integer keys. Is `3 in {"3": …}` true?',
        "`{int(key): logits for key, logits in stored.items()}`, and an error instead of a loss of 0 where the task is "
        "missing.",
    ),
    misconceptions=(
        Misconception(
            "never found",
            never_found,
            'an integer is compared with strings: `3 == "3"` is False, the loop finds nothing, and the loss keeps the '
            "0 that it began with. Nothing is learned from the old network, and nothing raises",
        ),
        Misconception(
            "strings alone",
            strings_alone,
            "right for keys that are strings. Before they went through a file they were integers: accept both",
        ),
        Misconception(
            "integers alone",
            integers_alone,
            "now a missing key raises instead of giving 0, which shows the mistake but does not fix it: the keys that "
            "come from a file are strings",
        ),
        Misconception(
            "by position",
            by_position,
            "you take the logits by their position in the dict. The tasks need not be stored in order, or all of them",
        ),
        Misconception(
            "all tasks",
            all_tasks,
            "you add up the losses of all tasks. Only the logits of `task` belong to these images",
        ),
        Misconception(
            "by the beginning of the name",
            beginning_of_the_name,
            'you compare the beginning of the keys: task 1 then finds `"11"` as well',
        ),
        Misconception(
            "uniform where it is missing",
            itself_where_missing,
            "a task that is not stored gets logits of 0, so the student is pulled to the uniform distribution. Raise a "
            "`ValueError`",
        ),
        Misconception(
            "T² lost on the way",
            no_square,
            "the key is right now, but T² is gone. It was right",
        ),
        Misconception(
            "student and old network swapped",
            swapped,
            "the key is right now, but this is KL(p_s ‖ p_old), the other direction",
        ),
    ),
    shows="a loss that does not depend on the student is exactly as constant as it is useless: print it once.",
    derivation=(
        'JSON turns every key into a string. For Python 3 and "3" are different keys, and a loop that finds nothing '
        "adds nothing."
    ),
    gradients=(0,),
)
