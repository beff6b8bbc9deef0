"""The times of notebook 21: a loop on a loader, a teacher on disk, one process or two. For a machine at rest.

Three parts, each in rounds in which the arms take turns; the notebook compares medians.

loop: `distill` on a DataLoader against the barest loop that does the same steps, for a student whose steps are almost
nothing and for one of the course's usual size. One thread.

store: how long a teacher's forward takes over its data, how long `fill` takes, which runs it and writes the logits, how
long the stored logits take to read in shuffled batches, and how long the student's step takes. One thread.

processes: an epoch of `kdcourse.scaling.distill` with the live teacher and with the stored one, in one process of one
or two threads and in two of one, started by torchrun. What the store saves is predicted from operations: the teacher's
forward of F_t, beside the student's forward and backward of 3 F_s; and from the times of both, measured alone (costs).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from kdcourse._base.files import write_whole
from kdcourse.data import Split, load_mnist
from kdcourse.language import Decoder
from kdcourse.losses import kd_loss
from kdcourse.models import conv_net, mlp
from kdcourse.scaling import distill as distill_in_processes
from kdcourse.teacher_store import TeacherStore, fill
from kdcourse.training import cosine, distill

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
ROUNDS = range(5)
BATCH, TEMPERATURE, ALPHA, RATE = 128, 4.0, 0.9, 2e-3
TEACHERS = {
    "digits, 26 thousand weights": "conv_net((16, 32, 48))",
    "digits, 0.4 million weights": "conv_net((64, 128, 256))",
    "text, 0.85 million weights": "Decoder(97, width=128, layers=4, heads=4, context=256)",
}
RECIPE: dict[str, Any] = {
    "loop": {
        "students": ["mlp((128,))", "conv_net((16, 32, 48))"],
        "teacher": "conv_net((16, 32, 48))",
        "epochs": 3,
        "clock": "processor",
    },
    "store": {"teachers": TEACHERS, "digits": 2048, "texts": 64, "student": "a quarter of the width"},
    "processes": {
        "student": "conv_net((16, 32, 48))",
        "teacher": "conv_net((64, 128, 256))",
        "rows": 2048,
        "epochs": 2,
    },
    "batch_size": BATCH,
    "networks": "untrained: their times do not depend on what they have learned",
}
ARMS = [
    {"processes": processes, "threads": threads, "stored": stored}
    for processes, threads in ((1, 1), (1, 2), (2, 1))
    for stored in (False, True)
]


def pair(name: str) -> tuple[nn.Module, nn.Module, Tensor]:
    """A student, a teacher and inputs of a part of "store"."""
    generator = torch.Generator().manual_seed(0)
    if name.startswith("text"):
        student, teacher = (Decoder(97, width=width, layers=4, heads=4, context=256) for width in (32, 128))
        return student, teacher, torch.randint(97, (RECIPE["store"]["texts"], 256), generator=generator)
    wide = (16, 32, 48) if "26" in name else (64, 128, 256)
    teacher, student = conv_net(wide), conv_net([width // 4 for width in wide], seed=1)
    return student, teacher, torch.rand(RECIPE["store"]["digits"], 1, 28, 28, generator=generator)


def timed(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    run()
    return clock() - start


def bare_loop(student: nn.Module, teacher: nn.Module, loader: DataLoader, epochs: int) -> None:
    """The steps of `distill` on a loader with nothing around them."""
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    student.train()
    steps, step = epochs * len(loader), 0
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.param_groups[0]["lr"] = RATE * cosine(step / steps)
            step += 1
            logits = student(images)
            with torch.no_grad():
                soft = teacher(images)
            hard = nn.functional.cross_entropy(logits, labels)
            kd = nn.functional.kl_div(
                (logits / TEMPERATURE).log_softmax(1), (soft / TEMPERATURE).log_softmax(1),
                reduction="batchmean", log_target=True,
            )  # fmt: skip
            loss = (1 - ALPHA) * hard + ALPHA * TEMPERATURE**2 * kd
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def measure_loop(round: int, student: str) -> store.Record:
    torch.set_num_threads(1)
    teacher, train, epochs = conv_net().eval(), load_mnist().train, RECIPE["loop"]["epochs"]
    loader = DataLoader(TensorDataset(*train), batch_size=BATCH, shuffle=True)
    new = {"mlp((128,))": lambda: mlp((128,)), "conv_net((16, 32, 48))": conv_net}[student]
    arms = {
        "distill": lambda: distill(
            new(), teacher, loader, temperature=TEMPERATURE, alpha=ALPHA, epochs=epochs, progress=False
        ),
        "bare loop": lambda: bare_loop(new(), teacher, loader, epochs),
    }
    names = list(arms)[:: 1 if round % 2 else -1]
    for name in names:  # warms up
        arms[name]() if round == 0 else None
    return {"times": {name: timed(arms[name], time.process_time) for name in names}}


def measure_store(round: int, teacher: str) -> store.Record:
    torch.set_num_threads(1)
    student, network, inputs = pair(teacher)
    size = 8 if inputs.ndim == 2 else BATCH
    network.eval()
    optimizer = torch.optim.AdamW(student.parameters(), fused=True)

    @torch.no_grad()
    def forward() -> None:
        for part in inputs.split(size):
            network(part)

    with tempfile.TemporaryDirectory() as folder:
        kept = TeacherStore(folder, teacher=network, data="inputs")
        batches = [inputs[rows] for rows in torch.randperm(len(inputs)).split(size)]
        forward()  # warms up
        times = {"forward": timed(forward), "fill": timed(lambda: fill(kept, network, inputs.split(size)))}
        times["read"] = timed(lambda: [kept(batch) for batch in batches])
        soft = [kept(batch) for batch in batches]

        def steps() -> None:
            for batch, logits in zip(batches, soft, strict=True):
                optimizer.zero_grad()
                kd_loss(student(batch), logits, temperature=TEMPERATURE).backward()
                optimizer.step()

        times["steps"] = timed(steps)
        size_on_disk = sum(path.stat().st_size for path in Path(folder).iterdir())
    return {"rows": len(inputs), "bytes": size_on_disk, "times": times}


def networks() -> tuple[nn.Module, nn.Module, Split]:
    images = torch.rand(RECIPE["processes"]["rows"], 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return conv_net(), conv_net((64, 128, 256), seed=1), Split(images, torch.arange(len(images)) % 10)


def operations() -> dict[str, int]:
    """Floating-point operations per image: the teacher's forward, the student's, and its forward and backward."""
    student, teacher, train = networks()
    found = {}
    for name, network in {"teacher": teacher, "student": student}.items():
        with FlopCounterMode(display=False) as counter:
            logits = network(train.images[:1])
        found[f"{name}, forward"] = counter.get_total_flops()
        with counter:
            logits.sum().backward()
        found[f"{name}, backward"] = counter.get_total_flops()
    return found


def measure_costs(round: int) -> store.Record:
    """Seconds of an epoch's teacher and of its student's steps, each alone, on one thread."""
    torch.set_num_threads(1)
    student, teacher, train = networks()
    teacher.eval()
    optimizer = torch.optim.AdamW(student.parameters(), fused=True)
    batches, soft = train.images.split(BATCH), torch.zeros(BATCH, 10)

    def forward() -> None:
        with torch.no_grad():
            for batch in batches:
                teacher(batch)

    def steps() -> None:
        for batch in batches:
            optimizer.zero_grad()
            kd_loss(student(batch), soft, temperature=TEMPERATURE).backward()
            optimizer.step()

    for run in (forward, steps):
        run()  # warms up
    return {"times": {"forward": timed(forward), "steps": timed(steps)}}


def measure_processes(round: int, processes: int, threads: int, stored: bool) -> store.Record:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command += [str(Path(__file__).resolve()), "worker", folder, str(int(stored))]
        subprocess.run(command, check=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
        return {"times": json.loads((Path(folder) / "times.json").read_text(encoding="utf-8"))}


def worker(folder: str, stored: bool) -> None:
    """One arm, in each of its processes: seconds per epoch, after one that warms up."""
    from accelerate import Accelerator

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    accelerator = Accelerator(cpu=True)
    student, teacher, train = networks()
    kept = TeacherStore(Path(folder) / "store", teacher=teacher, data=train)
    if stored:
        if accelerator.is_main_process:
            fill(kept, teacher, train)
        accelerator.wait_for_everyone()
        kept.refresh()
    loader, times = DataLoader(TensorDataset(*train), batch_size=BATCH, shuffle=True), []
    for epochs in (1, RECIPE["processes"]["epochs"]):
        accelerator.wait_for_everyone()
        history = distill_in_processes(
            student, kept if stored else teacher, loader, accelerator=accelerator, epochs=epochs
        )
        times.append(history.seconds / epochs)
    if accelerator.is_main_process:
        write_whole(Path(folder) / "times.json", json.dumps({"first epoch": times[0], "epoch": times[1]}))
    accelerator.end_training()


def wanted() -> list[tuple[Callable[..., store.Record], store.Record]]:
    """What a round measures: how, and its key."""
    keys: list[tuple[Callable[..., store.Record], store.Record]] = [(measure_costs, {"part": "costs"})]
    keys += [(measure_loop, {"part": "loop", "student": student}) for student in RECIPE["loop"]["students"]]
    keys += [(measure_store, {"part": "store", "teacher": name}) for name in TEACHERS]
    return keys + [(measure_processes, {"part": "processes"} | arm) for arm in ARMS]


def main() -> None:
    store.resume(RESULTS, {"part": "operations"}, lambda: {"operations": operations()}, recipe=RECIPE)
    for round in ROUNDS:
        for measure, key in wanted():
            taken = {name: value for name, value in key.items() if name != "part"}
            store.resume(RESULTS, key | {"round": round}, partial(measure, round, **taken), recipe=RECIPE)


if __name__ == "__main__":
    worker(sys.argv[2], sys.argv[3] == "1") if sys.argv[1:2] == ["worker"] else main()
