"""How much `distill` costs: against the barest loop that does the same, and one that runs the teacher every batch.

Runs are interleaved and the medians compared: ``make bench``.
"""

import statistics
import time

import torch
import torch.nn.functional as F

from kdcourse.data import data_dir, load_mnist
from kdcourse.models import load_model, mlp
from kdcourse.training import cosine, distill, predict

EPOCHS, BATCH, RATE, TEMPERATURE, ALPHA, ROUNDS = 10, 128, 2e-3, 4.0, 0.9, 9


def bare_loop(teacher, train, keep_logits: bool) -> torch.nn.Module:
    """The same steps as `distill`, written out with nothing around them."""
    student, (images, labels) = mlp((128,), seed=0), train
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    kept = predict(teacher, images) if keep_logits else None
    torch.manual_seed(0)
    steps, step = EPOCHS * -(-len(images) // BATCH), 0
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):
            optimizer.param_groups[0]["lr"] = RATE * cosine(step / steps)
            step += 1
            logits = student(images[rows])
            if keep_logits:
                soft = kept[rows]
            else:
                with torch.no_grad():
                    soft = teacher(images[rows])
            log_p_s = F.log_softmax(logits / TEMPERATURE, dim=1)
            log_p_t = F.log_softmax(soft / TEMPERATURE, dim=1)
            kd = TEMPERATURE**2 * F.kl_div(log_p_s, log_p_t, reduction="batchmean", log_target=True)
            loss = (1 - ALPHA) * F.cross_entropy(logits, labels[rows]) + ALPHA * kd
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student


def library(teacher, train) -> torch.nn.Module:
    student = mlp((128,), seed=0)
    distill(student, teacher, train, temperature=TEMPERATURE, alpha=ALPHA, epochs=EPOCHS, seed=0, progress=False)
    return student


def main() -> None:
    teacher, train = load_model(data_dir() / "teacher.safetensors"), load_mnist().train
    arms = {
        "distill": lambda: library(teacher, train),
        "barest loop": lambda: bare_loop(teacher, train, keep_logits=True),
        "teacher every batch": lambda: bare_loop(teacher, train, keep_logits=False),
    }
    seconds = {name: [] for name in arms}
    for turn in range(ROUNDS + 1):
        for name, run in arms.items():
            start = time.perf_counter()
            run()
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        ratio = statistics.median(a / b for a, b in zip(seconds["distill"], values, strict=True))
        print(f"{name:<20} median {middle:.3f} s ({low:.3f} to {high:.3f})   distill takes {ratio:.2f} × this")


if __name__ == "__main__":
    main()
