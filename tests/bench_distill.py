"""How much `distill` costs: against the barest loops that do the same, on a `Split` and on a DataLoader.

Runs are interleaved and the medians of their processor time, which other work on the machine leaves alone, are
compared: ``make bench``.
"""

import statistics
import time

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from kdcourse.data import data_dir, load_mnist
from kdcourse.models import load_model, mlp
from kdcourse.training import cosine, distill, predict

EPOCHS, BATCH, RATE, TEMPERATURE, ALPHA, ROUNDS = 10, 128, 2e-3, 4.0, 0.9, 9
LIMIT = 1.05
"""how much longer than the bare loop on the same data"""


def batches_of(train, teacher, keep_logits):
    """Images, labels and teacher logits of one epoch of a `Split`: the logits kept, or computed for each batch."""
    images, labels = train
    for rows in torch.randperm(len(images)).split(BATCH):
        yield images[rows], labels[rows], teacher[rows] if keep_logits else silent(teacher, images[rows])


@torch.no_grad()
def silent(teacher, images):
    return teacher(images)


def bare_loop(epoch, steps) -> torch.nn.Module:
    """The same steps as `distill`, written out with nothing around them; ``epoch()`` gives the batches."""
    student = mlp((128,), seed=0)
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    torch.manual_seed(0)
    step = 0
    for _ in range(EPOCHS):
        for images, labels, soft in epoch():
            optimizer.param_groups[0]["lr"] = RATE * cosine(step / steps)
            step += 1
            logits = student(images)
            log_p_s = F.log_softmax(logits / TEMPERATURE, dim=1)
            log_p_t = F.log_softmax(soft / TEMPERATURE, dim=1)
            kd = TEMPERATURE**2 * F.kl_div(log_p_s, log_p_t, reduction="batchmean", log_target=True)
            loss = (1 - ALPHA) * F.cross_entropy(logits, labels) + ALPHA * kd
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student


def library(teacher, train) -> torch.nn.Module:
    student = mlp((128,), seed=0)
    distill(student, teacher, train, temperature=TEMPERATURE, alpha=ALPHA, epochs=EPOCHS, seed=0, progress=False)
    return student


def arms(teacher, train):
    loader = DataLoader(TensorDataset(*train), batch_size=BATCH, shuffle=True)
    steps = EPOCHS * len(loader)

    def kept():
        logits = predict(teacher, train.images)
        return bare_loop(lambda: batches_of(train, logits, True), steps)

    def on_loader():
        return bare_loop(lambda: ((x, y, silent(teacher, x)) for x, y in loader), steps)

    return {
        "distill": lambda: library(teacher, train),
        "barest loop": kept,
        "teacher every batch": lambda: bare_loop(lambda: batches_of(train, teacher, False), steps),
        "distill on a loader": lambda: library(teacher, loader),
        "barest loop on it": on_loader,
    }


def main() -> None:
    runs = arms(load_model(data_dir() / "teacher.safetensors"), load_mnist().train)
    seconds = {name: [] for name in runs}
    for turn in range(ROUNDS + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if turn:  # the first turn warms up
                seconds[name].append(time.process_time() - start)
    for name, values in seconds.items():
        ours = "distill on a loader" if "loader" in name or name.endswith("on it") else "distill"
        low, middle, high = min(values), statistics.median(values), max(values)
        ratio = statistics.median(a / b for a, b in zip(seconds[ours], values, strict=True))
        bound = f", at most {LIMIT}" if name.startswith("barest") else ""
        print(f"{name:<20} median {middle:.3f} s ({low:.3f} to {high:.3f})   {ours} takes {ratio:.2f} × this{bound}")


if __name__ == "__main__":
    main()
