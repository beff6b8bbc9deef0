"""The chain of notebook 09 against its wide teacher in the same runtime: bytes, time and accuracy, five paired seeds.

Teacher and students run in onnxruntime on one thread. Two shapes whose int8 files are 61 and 74 times smaller than the
teacher's checkpoint are trained as those that go straight to a shape in `pipeline`. The one that is better on
validation is also trained on labels, as the control, and written once more with its first convolution in floats: of
one input channel it has too few products for integers to pay, and took most of the file's time. The last records time
the trained files: leave the machine alone meanwhile, for whatever interrupts hits the long calls of the teacher most.
"""

import sys
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kdcourse._base.extras import needed
from kdcourse.export import file_bytes, latency, session
from kdcourse.metrics import accuracy
from kdcourse.models import conv_net, save_model
from kdcourse.training import predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import pipeline  # noqa: E402 (lies beside this file)
import store  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
SHAPES = ("8-24-36", "8-24-48")
IN_FLOATS = "distilled, first layer in floats"
ARMS: dict[str, dict[str, Any]] = {
    "distilled": {"epochs": (45, 6), "train": pipeline.taught},
    IN_FLOATS: {"epochs": (45, 6), "train": pipeline.taught},
    "labels only": {"epochs": (45, 6), "train": pipeline.labelled},
}
RECIPE: dict[str, Any] = {
    "shapes": SHAPES,
    "arms": {arm: {"epochs, then through rounding": how["epochs"]} for arm, how in ARMS.items()},
    "both shapes": "distilled; the other arms with the shape of the best mean validation accuracy, the first of equals",
    "else": "as the arms that go straight to a shape in pipeline.py",
    "teacher": pipeline.RECIPE["teacher"],
    "from scratch": pipeline.FIRST,
    "through rounding": pipeline.ROUNDING,
    "distillation": pipeline.SOFT,
    "timed": "seed 0 of that shape, in onnxruntime, one thread, interleaved: median and 95 % interval; others were at "
    "work on the machine, so the process was run by chrt --fifo 10",
}


def widths(shape: str) -> tuple[int, ...]:
    return tuple(map(int, shape.split("-")))


def first_in_floats(path: Path) -> Path:
    """Rewrite an int8 file in place: its first convolution computes in floats, with the weights that it had."""
    onnx = needed("onnx", extra="export")
    model = onnx.load(path)
    graph = model.graph
    values = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    convolution = next(node for node in graph.node if node.op_type == "Conv")
    convolution.input[0] = graph.input[0].name
    for number, name in list(enumerate(convolution.input))[1:]:
        whole, scale, zero = (values[each] for each in makers[name].input)
        channels = (-1, *[1] * (whole.ndim - 1))
        exact = (whole.astype(np.int64) - zero.reshape(channels)) * scale.reshape(channels)
        graph.initializer.append(onnx.numpy_helper.from_array(exact.astype(np.float32), f"{name}_float"))
        convolution.input[number] = f"{name}_float"
    while unread := [node for node in graph.node if not {*node.output} & _read(graph)]:
        for node in unread:
            graph.node.remove(node)
    for entry in [entry for entry in graph.initializer if entry.name not in _read(graph)]:
        graph.initializer.remove(entry)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _read(graph: Any) -> set[str]:
    return {name for node in graph.node for name in node.input} | {output.name for output in graph.output}


def write(arm: str, shape: str, seed: int, path: Path) -> Path:
    pipeline.int8_file(make("distilled" if arm == IN_FLOATS else arm, shape, seed), path)
    return first_in_floats(path) if arm == IN_FLOATS else path


@cache
def make(arm: str, shape: str, seed: int) -> nn.Module:
    train, (first, rounded) = ARMS[arm]["train"], ARMS[arm]["epochs"]
    network = train(conv_net(widths(shape), seed=seed + 10), seed, first, pipeline.FIRST)
    result: nn.Module = train(pipeline.rounding(network), seed, rounded, pipeline.ROUNDING)
    return result


def accuracies(run: Any) -> dict[str, float]:
    splits = {"validation": pipeline.digits().validation, "test": pipeline.digits().test}
    return {name: accuracy(run(split.images), split.labels) for name, split in splits.items()}


def measure(arm: str, shape: str, seed: int) -> dict[str, Any]:
    """Train one network, write it and count the errors of the file."""
    with tempfile.TemporaryDirectory() as folder:
        if arm == "wide teacher":
            path, teacher = Path(folder) / "wide.safetensors", pipeline.teacher(seed)
            save_model(teacher, path)
            return accuracies(partial(predict, teacher)) | {"bytes": file_bytes(path)}
        path = write(arm, shape, seed, Path(folder) / "int8.onnx")
        found = accuracies(session(path)) | {"bytes": file_bytes(path)}
    of_teacher = store.find(store.load(RESULTS), {"arm": "wide teacher", "seed": seed})
    assert of_teacher is not None  # a seed's teacher comes first
    return found | {"teacher test": of_teacher["test"]}


def better_shape() -> str:
    """The shape of the best mean validation accuracy, chosen once both have been distilled."""
    return str(store.chosen(RESULTS, "distilled", ("shape",))[0])


def measure_time(timed: str) -> dict[str, Any]:
    """Milliseconds of seed 0's trained files against the wide teacher's, ``timed`` images at once."""
    batch, calls = pipeline.digits().test.images[: int(timed)], {}
    with tempfile.TemporaryDirectory() as folder:
        wide = pipeline.onnx_file(pipeline.teacher(0), Path(folder) / "wide.onnx")
        calls["wide teacher"] = partial(session(wide), batch)
        for arm in ("distilled", IN_FLOATS):
            file = write(arm, better_shape(), 0, Path(folder) / "int8.onnx")
            calls[arm] = partial(session(file), batch)
        found = latency(calls, repeats=100 if len(batch) > 1 else 1000)
    return {"milliseconds": {name: [round(value, 4) for value in times] for name, times in found.items()}}


def main() -> None:
    torch.set_num_threads(1)
    wide = "-".join(map(str, pipeline.WIDE))
    first = [("wide teacher", wide), *(("distilled", shape) for shape in SHAPES)]
    keys = [{"arm": arm, "shape": shape, "seed": seed} for seed in pipeline.SEEDS for arm, shape in first]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)
    shape = better_shape()
    keys = [{"arm": arm, "shape": shape, "seed": seed} for seed in pipeline.SEEDS for arm in list(ARMS)[1:]]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)
    store.resume_all(RESULTS, [{"timed": "1"}, {"timed": "256"}], measure_time, recipe=RECIPE)


if __name__ == "__main__":
    main()
