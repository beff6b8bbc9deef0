"""Networks run, attacked, trained and written to files: how, and what must hold."""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse import attribution, export, features, metrics, models, robustness, training
from kdcourse.data import Split
from kdcourse.losses.features import hint_loss

from . import oracles
from .judging import Twin, condition, demand, is_lazy, near
from .masks import copy_of


def check_macs(twin: Twin, found: int, said: str) -> None:
    wanted = oracles.macs(twin.plain, twin.wide)
    demand(found == wanted, f"{found} counted, {wanted} by hand")


def check_predict(twin: Twin, found: Tensor, said: str) -> None:
    near(found.flatten(), twin.kind.pick(twin.expected()).flatten(), twin.kind, "logits")


def labels(twin: Twin) -> Tensor:
    example = twin.example
    logits = twin.kind.pick(oracles.run(copy.deepcopy(twin.real) if is_lazy(twin.real) else twin.real, example))
    return twin.kind.labels(logits)


def data(twin: Twin) -> Any:
    """The example and its labels: a `Split`, or where there are several inputs a loader of one batch."""
    batch = twin.example, labels(twin)
    return [batch] if isinstance(twin.example, tuple) else Split(*batch)


def options(twin: Twin) -> dict[str, Any]:
    """For one step without warm-up or decay, the logits picked where they have to be."""
    known = {"epochs": 1, "learning_rate": 0.01, "weight_decay": 0.0, "progress": False, "output": twin.kind.output}
    return known | {"schedule": training.constant}


def predict(twin: Twin) -> Tensor:
    given = data(twin) if isinstance(twin.example, tuple) else twin.example
    return training.predict(twin.real, given, output=twin.kind.output)


def check_evaluate(twin: Twin, found: Any, said: str) -> None:
    logits = twin.kind.pick(twin.expected()).flatten(0, -2).detach()
    classes = labels(twin).flatten()
    wanted = F.cross_entropy(logits, classes).item(), (logits.argmax(1) == classes).double().mean().item()
    near(
        [found.cross_entropy, found.accuracy],
        wanted,
        twin.kind,
        "scores",
        1e-6,
    )


def attack(twin: Twin) -> Tensor:
    return robustness.pgd_attack(twin.real, twin.example, labels(twin), epsilon=0.1, steps=3, output=twin.kind.output)


def check_attack(twin: Twin, found: Tensor, said: str) -> None:
    def logits(images: Tensor) -> Tensor:
        return twin.kind.pick(twin.expected(images))

    wanted = oracles.attack(logits, twin.wide, labels(twin), 0.1, 3, 0)
    near(found, wanted, twin.kind, "attacked images", 1e-6)


def attack_margin(twin: Twin) -> Tensor:
    options = {"epsilon": 0.1, "steps": 3, "output": twin.kind.output, "loss": "margin"}
    return robustness.pgd_attack(twin.real, twin.example, labels(twin), **options)


def check_attack_margin(twin: Twin, found: Tensor, said: str) -> None:
    def logits(images: Tensor) -> Tensor:
        return twin.kind.pick(twin.expected(images))

    wanted = oracles.attack(logits, twin.wide, labels(twin), 0.1, 3, 0, oracles.margin)
    near(found, wanted, twin.kind, "attacked images", 1e-6)


# attributions

HALF = {torch.bfloat16: 0.25}
"""a relative error for differences of rounded logits, and sums of rounded slopes"""


def explain(twin: Twin) -> Tensor:
    options = {"baseline": 0.1, "steps": 3, "output": twin.kind.output}
    return attribution.integrated_gradients(twin.real, twin.example, labels(twin), **options).values


def check_explained(twin: Twin, found: Tensor, said: str) -> None:
    images, total = twin.wide, torch.zeros_like(twin.wide)
    for k in range(3):
        point = (0.1 + (k + 0.5) / 3 * (images - 0.1)).requires_grad_(True)
        logits = twin.kind.pick(twin.expected(point))
        sum(row[label] for row, label in zip(logits, labels(twin).tolist(), strict=True)).backward()
        total += point.grad / 3
    near(found, (images - 0.1) * total, twin.kind, "attributions", HALF.get(twin.kind.dtype, 1e-6))


def cover(twin: Twin) -> Tensor:
    size = twin.example.shape[-1] // 2 if isinstance(twin.example, Tensor) else 1
    options = {"size": size, "stride": size, "fill": 0.3, "output": twin.kind.output}
    return attribution.occlusion(twin.real, twin.example, labels(twin), **options)


def check_covered(twin: Twin, found: Tensor, said: str) -> None:
    images = twin.wide
    half, wanted = images.shape[-1] // 2, torch.zeros_like(images[:, 0])
    rows = torch.arange(len(images))
    whole = twin.kind.pick(twin.expected())[rows, labels(twin)]
    for top in (0, half):
        for left in (0, half):
            inside = (..., slice(top, top + half), slice(left, left + half))
            covered = images.clone()
            covered[inside] = 0.3
            drop = whole - twin.kind.pick(twin.expected(covered))[rows, labels(twin)]
            wanted[inside] = drop.reshape(-1, 1, 1).detach()
    near(found, wanted, twin.kind, "maps", HALF.get(twin.kind.dtype, 1e-6))


# training


def bare_step(twin: Twin, loss: Callable[[Any], Tensor], watch: dict[str, list[Any]] | None = None) -> nn.Module:
    """A copy, trained for one step by hand, which may be ``watched``."""
    trained = copy_of(twin.real)
    still = [part for part in trained.modules() if frozen_norm(part)]
    handles = [] if watch is None else watched(trained, watch)
    oracles.training_step(trained, twin.example, loss, still)
    for handle in handles:
        handle.remove()
    return trained


def frozen_norm(part: nn.Module) -> bool:
    """A batch norm that was put in eval mode and takes no gradient: it is to stay as it is."""
    norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
    return norm and not part.training and not any(value.requires_grad for value in part.parameters())


# the first step of Adam is a sign, which for a gradient near 0 hangs on its last bit
SIGNS = {torch.float64: 1e-6, torch.float32: 1e-2, torch.bfloat16: 0.1}


def fitting(twin: Twin) -> nn.Module:
    given, wanted = data(twin), bare_step(twin, twin.loss)
    training.fit(twin.real, given, **options(twin))
    return wanted


def check_trained(twin: Twin, wanted: nn.Module, said: str) -> None:
    found, expected = (oracles.tensors(oracles.run(model, twin.example)) for model in (twin.real, wanted))
    near(found, expected, twin.kind, "after one step: outputs", SIGNS[twin.kind.dtype])
    for name, mask in twin.masks.items():
        demand(not oracles.effective(twin.real, name)[~mask].any(), f"pruned weights of {name!r} came back")
    twin.inputs_rounded, twin.outputs_rounded = {}, {}
    rounding = [part for part in twin.real.modules() if type(part).__name__ == "ActivationQuantizer"]
    twin.read()
    if not rounding:
        twin.hold(twin.real, "trained")


def other(twin: Twin) -> nn.Module:
    return twin.kind.teacher(twin.real) if twin.kind.teacher else twin.kind.network(seed=3)


def soft_loss(twin: Twin, soft: Tensor) -> Callable[[Any], Tensor]:
    def loss(output: Any) -> Tensor:
        logits = twin.kind.pick(output)
        return oracles.distillation(logits, soft, twin.kind.labels(logits), 2.0, 0.7)

    return loss


def distilling(twin: Twin) -> tuple[nn.Module, bool]:
    """One step from a teacher; with the trained copy made by hand, and whether the teacher stayed as it was."""
    teacher, given = other(twin), data(twin)
    soft = twin.kind.pick(oracles.run(teacher, twin.example)).detach()
    wanted = bare_step(twin, soft_loss(twin, soft))
    before = condition(teacher)
    training.distill(twin.real, teacher, given, temperature=2.0, alpha=0.7, **options(twin))
    return wanted, condition(teacher) == before


def check_distilled(twin: Twin, result: tuple[nn.Module, bool], said: str) -> None:
    demand(result[1], "the teacher changed")
    check_trained(twin, result[0], said)


def teaching(twin: Twin) -> tuple[nn.Module, nn.Module, Tensor]:
    """The network as teacher of another one of its kind."""
    student = twin.kind.network(seed=3)
    given = data(twin)
    soft = twin.kind.pick(oracles.run(twin.real, twin.example)).detach()
    pupil = copy.copy(twin)
    pupil.real = student
    wanted = bare_step(pupil, soft_loss(twin, soft))
    training.distill(student, twin.real, given, temperature=2.0, alpha=0.7, **options(twin))
    return student, wanted, soft


def check_taught(twin: Twin, result: tuple[nn.Module, nn.Module, Tensor], said: str) -> None:
    student, wanted, soft = result
    near(soft.flatten(), twin.kind.pick(twin.expected()).flatten(), twin.kind, "teacher logits", 1e-6)
    found, expected = (oracles.tensors(oracles.run(model, twin.example)) for model in (student, wanted))
    near(found, expected, twin.kind, "after one step of the student: outputs", SIGNS[twin.kind.dtype])


# layers


def watched(model: nn.Module, found: dict[str, list[Any]]) -> list[Any]:
    """By hand: hooks that write down what each part without parts of its own returns, run by run."""
    handles = []
    for name, part in model.named_modules():
        if name and not list(part.children()):
            outputs = found.setdefault(name, [])
            handles.append(part.register_forward_hook(lambda part, given, output, kept=outputs: kept.append(output)))
    return handles


def once(found: dict[str, list[Any]]) -> dict[str, Tensor]:
    """The layers that ran once and returned a tensor."""
    return {name: runs[0] for name, runs in found.items() if len(runs) == 1 and isinstance(runs[0], Tensor)}


def initialised(twin: Twin) -> nn.Module:
    model = copy_of(twin.real)
    oracles.run(model, twin.example)
    return model


def recording(twin: Twin) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every layer that runs once: as recorded, and as the plain network has it."""
    wanted: dict[str, list[Any]] = {}
    handles = watched(twin.plain, wanted)
    twin.expected()
    for handle in handles:
        handle.remove()
    names = list(once(wanted))
    with features.outputs_of(twin.real, names) as found:
        oracles.run(twin.real, twin.example, gradient=True)
    return dict(found), once(wanted)


def check_recorded(twin: Twin, result: tuple[dict[str, Tensor], dict[str, Tensor]], said: str) -> None:
    found, wanted = result
    demand(found and set(found) == set(wanted), f"{sorted(found)} recorded, {sorted(wanted)} ran once")
    for name in wanted:
        near(found[name], wanted[name], twin.kind, f"what {name!r} returns")


def hinting(twin: Twin) -> tuple[nn.Module, bool]:
    """One step from a teacher with a hint on a layer that runs once, amid the others; as `distilling`."""
    teacher, given, outputs = other(twin), data(twin), {}
    trial = initialised(twin)
    watched(trial, outputs)
    oracles.run(trial, twin.example, gradient=True)
    names = [name for name, value in once(outputs).items() if value.requires_grad and value.ndim > 1]
    name = names[len(names) // 2]
    theirs, mine = {}, {}
    handles = watched(teacher, theirs)
    soft = twin.kind.pick(oracles.run(teacher, twin.example)).detach()
    for handle in handles:
        handle.remove()
    plain = soft_loss(twin, soft)

    def loss(output: Any) -> Tensor:
        wide = mine[name][-1].float() if twin.kind.dtype == torch.bfloat16 else mine[name][-1]
        return plain(output) + 0.3 * (wide - theirs[name][0]).square().mean()

    wanted = twin.real if twin.kind.teacher else bare_step(twin, loss, watch=mine)  # refused where they share
    before = condition(teacher)
    hint = features.FeatureTerm(name, name, hint_loss, 0.3)
    training.distill(twin.real, teacher, given, temperature=2.0, alpha=0.7, features=[hint], **options(twin))
    return wanted, condition(teacher) == before


# files


def saving(twin: Twin) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        models.save_model(twin.real, Path(folder) / "model.safetensors")
        return models.load_model(Path(folder) / "model.safetensors")


def check_loaded(twin: Twin, result: nn.Module, said: str) -> None:
    twin.hold(result, "loaded again")
    twin.real = result


def exporting(twin: Twin) -> Tensor:
    parts = twin.example if isinstance(twin.example, tuple) else (twin.example,)
    parts = tuple(part.float() if part.is_floating_point() else part for part in parts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export.to_onnx(copy_of(twin.real).float(), path, parts if len(parts) > 1 else parts[0])
        return export.run(path, *parts)


def check_exported(twin: Twin, found: Tensor, said: str) -> None:
    near(found.flatten(), oracles.tensors(twin.expected()), twin.kind, "outputs of the file", 1e-4)


MACS = lambda twin: metrics.count_macs(twin.real, twin.example), check_macs
PREDICT = predict, check_predict
EVALUATE = lambda twin: training.evaluate(twin.real, data(twin), output=twin.kind.output), check_evaluate
ATTACK = attack, check_attack
ATTACK_MARGIN = attack_margin, check_attack_margin
EXPLAIN = explain, check_explained
COVER = cover, check_covered
FIT = fitting, check_trained
DISTILL = distilling, check_distilled
TEACH = teaching, check_taught
OUTPUTS = recording, check_recorded
HINT = hinting, check_distilled
SAVE = saving, check_loaded
EXPORT = exporting, check_exported
