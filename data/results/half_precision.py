"""The runs of notebook 15 in half precision: eight ways to compute and store, three learning rates, five paired seeds.

Nothing is tuned: every arm runs at every rate, on the same batches, and all rates are shown. At the end the same layers
are timed in three dtypes, with the name of the processor.
"""

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdcourse.data import data_dir, load_mnist
from kdcourse.losses import distillation_loss
from kdcourse.metrics import agreement
from kdcourse.models import conv_net, load_model, mlp
from kdcourse.seeds import seeded
from kdcourse.training import cosine, evaluate, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
RATES = (2e-3, 2e-4, 2e-5)
EPOCHS, BATCH = 20, 128
BF16, FP16 = torch.bfloat16, torch.float16
ARMS: dict[str, dict[str, Any]] = {
    "float32": {},
    "autocast, bfloat16": {"compute": BF16},
    "autocast, float16": {"compute": FP16},
    "autocast, float16, loss scaled": {"compute": FP16, "scaled": True},
    "bfloat16 weights": {"compute": BF16, "rounding": "nearest"},
    "bfloat16 weights, stochastic rounding": {"compute": BF16, "rounding": "stochastic"},
    "bfloat16 weights, compensated": {"compute": BF16, "rounding": "compensated"},
    "all bfloat16": {"store": BF16},
}
TIMED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear layer, 1,024 to 1,024, batch 256": (lambda: nn.Linear(1024, 1024), (256, 1024)),
    "student, batch 256": (lambda: mlp((64,)), (256, 1, 28, 28)),
    "student, batch 1": (lambda: mlp((64,)), (1, 1, 28, 28)),
    "teacher, batch 256": (lambda: conv_net(), (256, 1, 28, 28)),
}
RECIPE: dict[str, Any] = {
    "student": "mlp((64,)), the seed's initial weights",
    "images": "the 3,500 training images",
    "teacher": "data/teacher.safetensors, its logits cached in float32",
    "loss": {"temperature": 4.0, "alpha": 0.9, "computed in": "float32, in all arms"},
    "training": {"optimizer": "AdamW, PyTorch's defaults", "schedule": "cosine", "epochs": EPOCHS, "batch": BATCH},
    "learning rates": RATES,
    "arms": {name: {key: str(value) for key, value in how.items()} for name, how in ARMS.items()},
    "loss scale": {"start": 65536, "doubled after": 200, "by": "torch.amp.GradScaler"},
    "timed": {"runs": 60, "shown": "median", "threads": 1, "of": list(TIMED)},
}

digits = cache(load_mnist)


@cache
def soft() -> tuple[Tensor, Tensor]:
    """The teacher's logits for the training and for the test images."""
    teacher = load_model(data_dir() / "teacher.safetensors")
    return predict(teacher, digits().train.images), predict(teacher, digits().test.images)


def to_bfloat16(values: Tensor) -> Tensor:
    """The nearest numbers of bfloat16, in float32."""
    return values.bfloat16().float()


def to_bfloat16_at_random(values: Tensor, generator: torch.Generator) -> Tensor:
    """One of the two neighbours in bfloat16, with the probability that makes the mean right, in float32."""
    noise = torch.randint(0, 1 << 16, values.shape, generator=generator, dtype=torch.int32)
    return ((values.view(torch.int32) + noise) & -(1 << 16)).view(torch.float32)


class Stored:
    """The weights as they are stored between two steps: rounded to bfloat16 in one of three ways, or not at all."""

    def __init__(self, student: nn.Module, rounding: str | None, seed: int) -> None:
        self.parameters = list(student.parameters())
        self.rounding = rounding
        self.generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters if rounding else []:
                parameter.copy_(to_bfloat16(parameter))
        self.start = [parameter.detach().clone() for parameter in self.parameters]
        self.before = [parameter.detach().clone() for parameter in self.parameters]
        self.lost = [torch.zeros_like(parameter, dtype=BF16) for parameter in self.parameters]

    @torch.no_grad()
    def store(self) -> None:
        """Round what the optimizer has made of the weights."""
        for place, parameter in enumerate(self.parameters if self.rounding else []):
            if self.rounding == "nearest":
                parameter.copy_(to_bfloat16(parameter))
            elif self.rounding == "stochastic":
                parameter.copy_(to_bfloat16_at_random(parameter, self.generator))
            else:
                total = self.before[place].to(BF16)
                wanted = (parameter - self.before[place]).to(BF16) + self.lost[place]
                new = total + wanted
                self.lost[place] = wanted - (new - total)
                parameter.copy_(new)
            self.before[place].copy_(parameter)

    def moved(self) -> float:
        """The fraction of all weights that are not what they were at the start."""
        pairs = list(zip(self.parameters, self.start, strict=True))
        return sum(int((now != old).sum()) for now, old in pairs) / sum(old.numel() for _, old in pairs)


def measure(arm: str, rate: float, seed: int) -> dict[str, Any]:
    how = {"compute": None, "scaled": False, "rounding": None, "store": torch.float32} | ARMS[arm]
    student, train = mlp((64,), seed=seed).to(how["store"]), digits().train
    stored = Stored(student, how["rounding"], seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=rate)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=200, enabled=how["scaled"])
    computing = torch.autocast("cpu", how["compute"]) if how["compute"] else nullcontext()
    steps, done, skipped, losses = EPOCHS * -(-len(train.labels) // BATCH), 0, 0, []
    with seeded(seed):
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(train.labels)).split(BATCH):
                for group in optimizer.param_groups:
                    group["lr"] = rate * cosine(done / steps)
                with computing:
                    logits = student(train.images[rows].to(how["store"]))
                loss = distillation_loss(
                    logits.float(), soft()[0][rows], train.labels[rows], temperature=4.0, alpha=0.9
                )
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scale = scaler.get_scale()
                scaler.step(optimizer)
                scaler.update()
                skipped += scaler.get_scale() < scale
                stored.store()
                losses.append(loss.item())
                done += 1
    moved, student = stored.moved(), student.float().eval()
    result = evaluate(student, digits().test)
    return {
        "moved": round(moved, 6),
        "train_loss": sum(losses[-28:]) / 28,
        "validation": evaluate(student, digits().validation).accuracy,
        "test": result.accuracy,
        "test_cross_entropy": result.cross_entropy,
        "agreement": agreement(predict(student, digits().test.images), soft()[1]),
        "skipped": skipped,
    }


def processor() -> tuple[str, list[str]]:
    """The processor's name, and which of its instructions compute in half precision."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown", []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    wanted = ("avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16", "bf16", "asimdhp")
    flags = set((told.get("flags") or told.get("Features") or "").split())
    return told.get("model name", "unknown"), [flag for flag in wanted if flag in flags]


@torch.no_grad()
def clock(timed: str, dtype: str) -> dict[str, Any]:
    """The median time of a forward pass."""
    make, shape = TIMED[timed]
    kind = getattr(torch, dtype)
    layer, inputs, found = make().eval().to(kind), torch.rand(shape).to(kind), []
    for number in range(70):
        begin = time.perf_counter()
        layer(inputs)
        if number >= 10:
            found.append(time.perf_counter() - begin)
    name, flags = processor()
    return {"ms": round(1000 * statistics.median(found), 4), "processor": name, "instructions": flags}


def main() -> None:
    torch.set_num_threads(1)
    runs = [{"arm": arm, "rate": rate, "seed": seed} for seed in SEEDS for arm in ARMS for rate in RATES]
    store.resume_all(RESULTS, runs, measure, recipe=RECIPE)
    times = [{"timed": timed, "dtype": dtype} for timed in TIMED for dtype in ("float32", "bfloat16", "float16")]
    store.resume_all(RESULTS, times, clock, recipe=RECIPE)


if __name__ == "__main__":
    main()
