"""How long an explorer takes from a moved control to the finished picture, in the kernel: ``make bench``."""

import statistics
import time

import torch

from kdcourse.data import data_dir, load_mnist, load_results
from kdcourse.models import load_model, mlp
from kdcourse.training import predict
from kdcourse.widgets import explore_grid, explore_kl, explore_pareto, explore_temperature, explore_threshold, normal

MOVES = 25


def controls(box):
    """Everything in an explorer that can be moved."""
    for child in getattr(box, "children", ()):
        yield from controls(child)
    if hasattr(box, "value") and (hasattr(box, "max") or hasattr(box, "options")):
        yield box


def milliseconds(box) -> float:
    """Median over moves of all controls in turn, each to a value it did not have."""
    taken, moved = [], list(controls(box))
    for move in range(MOVES):
        control = moved[move % len(moved)]
        if hasattr(control, "options"):
            values = [option[1] if isinstance(option, tuple) else option for option in control.options]
            value = values[(values.index(control.value) + 1) % len(values)]
        else:
            value = control.min + control.step * (1 + move % 5)
            value = control.base**value if hasattr(control, "base") else value
            assert value != control.value
        begin = time.perf_counter()
        control.value = value
        taken.append(1000 * (time.perf_counter() - begin))
    return statistics.median(taken)


def main() -> None:
    torch.set_num_threads(1)
    digits, teacher = load_mnist(), load_model(data_dir() / "teacher.safetensors")
    images, labels = digits.train.take(torch.arange(6))
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    stored = load_results("pipeline")["records"]
    networks = [record | {"milliseconds": record["macs"] / 1e6} for record in stored if "arm" in record]
    boxes = {
        "temperature": explore_temperature(images, predict(teacher, images), labels),
        "KL": explore_kl(grid, 0.6 * normal(grid, -2, 0.7) + 0.4 * normal(grid, 2.5, 0.8)),
        "threshold": explore_threshold(mlp((128,)), digits.validation),
        "grid": explore_grid(teacher.conv3.weight),
        "Pareto": explore_pareto(networks),
    }
    for name, box in boxes.items():
        print(f"{name:<12}{milliseconds(box):7.0f} ms, bar 150")


if __name__ == "__main__":
    main()
