"""What `tests/test_scaling.py` starts in two processes; each writes what it found as JSON.

``torchrun … scaling_worker.py FOLDER kill`` trains until process 1 kills itself; ``… FOLDER all`` goes on from there,
and does everything else.
"""

import copy
import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker, on_main_process
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler

from kdcourse.scaling import distill, mean_gradients

FOLDER = Path(sys.argv[1])
RANK = int(os.environ["RANK"])
CLASSES, WIDTH = 3, 4
TEMPERATURE, ALPHA, RATE = 2.0, 0.7, 0.1


def accelerating(steps=1, **options):
    return Accelerator(cpu=True, gradient_accumulation_steps=steps, **options)


def networks(*middle, classes=CLASSES, seed=0):
    """A student with ``middle`` and a teacher, in float64, the same in both processes."""
    generator = torch.Generator().manual_seed(seed)
    student = nn.Sequential(nn.Linear(WIDTH, 5), *middle, nn.Tanh(), nn.Linear(5, classes)).double()
    teacher = nn.Linear(WIDTH, classes).double()
    with torch.no_grad():
        for parameter in [*student.parameters(), *teacher.parameters()]:
            parameter.normal_(generator=generator)
    return student, teacher.requires_grad_(False)


def sequences(rows, seed=1):
    """Ragged sequences: inputs (rows, 6, WIDTH) and labels, -100 behind each one's length, which may be 0."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 6, WIDTH, dtype=torch.float64, generator=generator)
    labels = torch.randint(CLASSES, (rows, 6), generator=generator)
    lengths = torch.randint(0, 7, (rows, 1), generator=generator)
    return inputs, labels.masked_fill(torch.arange(6) >= lengths, -100)


def summed(student, teacher, inputs, labels):
    """The sum over labelled positions, from the definition, and their number."""
    counted = labels != -100
    z_s, z_t, y = student(inputs)[counted], teacher(inputs)[counted].detach(), labels[counted]
    p_t = (z_t / TEMPERATURE).softmax(-1)
    kl = (p_t * (p_t.log() - F.log_softmax(z_s / TEMPERATURE, -1))).sum()
    hard = -F.log_softmax(z_s, -1).gather(-1, y[:, None]).sum()
    return (1 - ALPHA) * hard + ALPHA * TEMPERATURE**2 * kl, int(counted.sum())


def distance(one, other):
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))


def partitions():
    """The largest error of the gradient over random partitions into two workers' micro-batches; 1e-12 is rounding."""
    errors = []
    for seed in range(4):
        inputs, labels = sequences(11, seed)
        if seed == 3:
            labels[:6] = -100  # worker 0 has no position at all
        student, teacher = networks(seed=seed)
        loss, count = summed(student, teacher, inputs, labels)
        full = torch.autograd.grad(loss / count, list(student.parameters()))
        cuts = [[0, 6, 11], [0, 1, 11], [0, 9, 11], [0, 6, 11]][seed]
        mine = range(cuts[RANK], cuts[RANK + 1])
        accelerator = accelerating(3)
        wrapped = accelerator.prepare(student)
        counted = 0
        for number in range(3):  # ragged: of 1 row three micro-batches, two of them empty
            rows = list(mine)[number::3]
            with accelerator.accumulate(wrapped):
                loss, count = summed(wrapped, teacher, inputs[rows], labels[rows])
                accelerator.backward(loss)
                counted += count
                if accelerator.sync_gradients:
                    mean_gradients(accelerator, wrapped.parameters(), counted)
        errors.append(distance(full, [parameter.grad for parameter in student.parameters()]))
        accelerator.free_memory()
    return max(errors)


def by_hand(student, teacher, data, *, batch, epochs, steps, clip, shares=1):
    """What `distill` does in one process, from the definition: the order, the schedule, the clipped step.

    With two ``shares`` the halves of each batch run one after the other, as batch norm sees them in two processes.
    """
    optimizer = torch.optim.SGD(student.parameters(), lr=RATE, momentum=0.9)
    for epoch in range(epochs):
        order = torch.randperm(len(data[0]), generator=torch.Generator().manual_seed(5 + epoch))
        groups = order.split(batch * steps)
        for number, group in enumerate(groups):
            for each in optimizer.param_groups:
                each["lr"] = RATE * (1 - (epoch + number / len(groups)) / epochs)
            parts = [rows[share::shares] for rows in group.split(batch) for share in range(shares)]
            found = [summed(student, teacher, data[0][rows], data[1][rows]) for rows in parts]
            optimizer.zero_grad()
            (sum(loss for loss, _ in found) / sum(count for _, count in found)).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(student.parameters(), clip)
            optimizer.step()
    return student


def runs():
    """How far `distill` in two processes ends from the loop by hand, and with batch norm from its two readings."""
    found = {}
    for name, steps, clip, middle in (
        ("plain", 1, None, ()),
        ("accumulated and clipped", 3, 0.05, ()),
        ("batch norm", 1, None, (nn.Flatten(0, 1), nn.BatchNorm1d(5), nn.Unflatten(0, (-1, 6)))),
    ):
        student, teacher = networks(*middle)
        data = sequences(27)  # in batches of 8; the last has 3 rows, 2 and 1
        hand = {
            shares: by_hand(
                copy.deepcopy(student), teacher, data, batch=8, epochs=2, steps=steps, clip=clip, shares=shares
            )
            for shares in (1, 2)
        }
        distill(
            student, teacher, DataLoader(TensorDataset(*data), batch_size=8, shuffle=True),
            accelerator=accelerating(steps), temperature=TEMPERATURE, alpha=ALPHA, epochs=2, seed=5, clip_norm=clip,
            schedule=lambda done: 1 - done, optimizer=lambda own: torch.optim.SGD(own, lr=RATE, momentum=0.9),
        )  # fmt: skip
        found[name] = {shares: distance(student.parameters(), each.parameters()) for shares, each in hand.items()}
        found[name]["is bare"] = not isinstance(student, DistributedDataParallel)
        found[name]["weights"] = [parameter.sum().item() for parameter in student.parameters()]
    return found


class Noted(Dataset):
    """Rows that are noted when they are read, with noise and, where asked for, a last time."""

    def __init__(self, rows, dies_after=None):
        self.inputs, self.noted, self.dies_after = sequences(rows)[0][:, 0], [], dies_after

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, row):
        self.noted.append(row)
        if self.dies_after is not None and len(self.noted) > self.dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inputs[row] + 0.1 * torch.randn(WIDTH, dtype=torch.float64), row % CLASSES


def killed_run(folder, dies_after=None, epochs=4, **options):
    """A run with dropout, noise, momentum and accumulation; the rows it read, and its weights."""
    student, teacher = networks(nn.Dropout(0.3))
    data = Noted(44, dies_after)
    loader = DataLoader(data, batch_size=8, shuffle=True)
    history = distill(
        student, teacher, loader, accelerator=accelerating(2), epochs=epochs, checkpoint=folder, **options
    )
    return data.noted, [parameter.tolist() for parameter in student.parameters()], history.train_loss


def refusal(call):
    """What is said, in one line; "" where nothing is refused."""
    try:
        call()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def refusals():
    """What each process says to arguments that are wrong, or wrong in process 1 alone."""
    student, teacher = networks()

    def run(rows=16, batch=8, teacher=teacher, loader=None, **options):
        loader = loader or DataLoader(TensorDataset(*sequences(rows)), batch_size=batch, shuffle=True)
        distill(copy.deepcopy(student), teacher, loader, accelerator=accelerating(), epochs=1, **options)

    data = TensorDataset(*sequences(16))
    weighted = DataLoader(data, batch_size=8, sampler=WeightedRandomSampler([1.0] * 16, 16))
    others = networks(seed=9)[1], networks(classes=5)[1]
    found = {
        "a last batch for one process": lambda: run(rows=17),
        "batches for one process": lambda: run(batch=1),
        "another number of rows in process 1": lambda: run(rows=16 + 8 * RANK),
        "another teacher in process 1": lambda: run(teacher=(teacher, others[0])[RANK]),
        "other classes": lambda: run(teacher=others[1]),
        "other classes in process 1": lambda: run(teacher=(teacher, others[1])[RANK]),
        "another temperature in process 1": lambda: run(temperature=2.0 + RANK),
        "a sampler that draws": lambda: run(loader=weighted),
        "a wrong option in process 1": lambda: run(**({"learning_rate": 0.1} | ({"batch_size": 3} if RANK else {}))),
        "labels nowhere": lambda: run(loader=DataLoader(TensorDataset(data.tensors[0], data.tensors[1] * 0 - 100), 8)),
        "not a loader": lambda: run(loader=[data.tensors]),
        "the checkpoint of another run": lambda: killed_run(FOLDER / "run", learning_rate=0.5),
    }
    return {name: refusal(call) for name, call in found.items()}


def fsdp():
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    try:
        loader = DataLoader(TensorDataset(*sequences(16)), batch_size=8)
        return refusal(lambda: distill(*networks(), loader, accelerator=accelerating(), epochs=1, checkpoint=FOLDER))
    finally:
        del os.environ["ACCELERATE_USE_FSDP"]


class Lines(GeneralTracker):
    """A tracker as Accelerate documents it."""

    name, requires_logging_directory, tracker = "lines", False, None

    def __init__(self):
        super().__init__()
        self.lines = []

    @on_main_process
    def store_init_configuration(self, values):
        pass

    @on_main_process
    def log(self, values, step=None, **_):
        self.lines.append({"step": step, **values})


def half_precision():
    """In bf16: the largest change against float32, the type of the weights, and what a tracker was told."""
    ends, lines = [], Lines()
    for options in ({}, {"mixed_precision": "bf16", "log_with": lines}):
        student, teacher = (network.float() for network in networks())
        inputs, labels = sequences(16)
        loader = DataLoader(TensorDataset(inputs.float(), labels), batch_size=8)
        AcceleratorState._reset_state()  # which refuses another precision in the same program
        accelerator = accelerating(**options)
        accelerator.init_trackers("test")
        distill(student, teacher, loader, accelerator=accelerator, epochs=2, schedule=lambda done: 1 - done)
        ends.append(student)
    kept = ends[1].forward.__func__ is nn.Sequential.forward
    change = distance(*(each.parameters() for each in ends))
    return {"change": change, "dtype": str(next(ends[1].parameters()).dtype), "own": kept, "lines": lines.lines}


def sharded():
    """The error of the gradient where PyTorch's own FSDP keeps a part of each weight in each process."""
    inputs, labels = sequences(7)
    student, teacher = networks()
    loss, count = summed(student, teacher, inputs, labels)
    full = torch.autograd.grad(loss / count, list(student.parameters()))
    accelerator, rows = accelerating(), slice(2, 7) if RANK else slice(2)
    fully_shard(student, mesh=init_device_mesh("cpu", (2,)))
    loss, count = summed(student, teacher, inputs[rows], labels[rows])
    accelerator.backward(loss)
    mean_gradients(accelerator, student.parameters(), count)
    return distance(full, [parameter.grad.full_tensor() for parameter in student.parameters()])


def reduced():
    """By what the gradient of a softmax over two processes is too large, by how the sums were made; value's error."""
    logits = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target, whole = torch.tensor([0, 1, 4, 5]), logits.clone().requires_grad_()
    loss = F.cross_entropy(whole, target, reduction="sum")
    wanted = torch.autograd.grad(loss, whole)[0][:, 3 * RANK : 3 * RANK + 3]

    def known(tensor):
        return functional.all_reduce(tensor, "sum", dist.group.WORLD)

    def in_place(tensor):
        dist.all_reduce(tensor)
        return tensor

    found = {}
    for name, add in {"in place": in_place, "known to autograd": known}.items():
        shard, own = logits[:, 3 * RANK : 3 * RANK + 3].clone().requires_grad_(), target - 3 * RANK
        here = ((own >= 0) & (own < 3)).double()
        chosen = add(here * shard.gather(1, own.clamp(0, 2)[:, None])[:, 0])
        value = (add(shard.exp().sum(1)).log() - chosen).sum()
        ratio = torch.autograd.grad(value, shard)[0] / wanted
        found[name] = [abs((value - loss).item()), ratio.min().item(), ratio.max().item()]
    return found


def synced():
    """What PyTorch says to synced batch norm on a CPU."""
    student, teacher = networks(nn.Flatten(0, 1), nn.BatchNorm1d(5), nn.Unflatten(0, (-1, 6)))
    student = nn.SyncBatchNorm.convert_sync_batchnorm(student)
    loader = DataLoader(TensorDataset(*sequences(16)), batch_size=8)
    return refusal(lambda: distill(student, teacher, loader, accelerator=accelerating(), epochs=1))


def main():
    torch.set_num_threads(1)
    if sys.argv[2] == "kill":
        killed_run(FOLDER / "run", dies_after=48 if RANK == 1 else None)  # in epoch 3 of 4, of 22 rows each
    found = {
        "resumed": killed_run(FOLDER / "run"),
        "whole": killed_run(FOLDER / "whole"),
        "partitions": partitions(),
        "runs": runs(),
        "refusals": refusals(),
        "fsdp": fsdp(),
        "half": half_precision(),
        "synced": synced(),
        "sharded": sharded(),
        "reduced": reduced(),
    }
    (FOLDER / f"found-{RANK}.json").write_text(json.dumps(found), encoding="utf-8")
    Accelerator(cpu=True).end_training()
    sys.stderr.flush()
    os._exit(0)  # what still refers to a group (FSDP, meshes) can abort the interpreter's end: pytorch #190489


if __name__ == "__main__":
    main()
