"""The blocks of notebook 14: a teacher's three blocks learned one by one, or end to end, five paired seeds.

Every student ends as `conv_net((8, 16, 24))`, learns from 500 images without their labels, and has five tries, of the
learning rate, of which the one that is best on validation is measured on test. A student's block has the teacher's
width at both ends: 3 × 3 convolution, batch norm, ReLU, then a 1 × 1 convolution to the teacher's channels, which is
merged into the next layer afterwards.
"""

import sys
import time
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdcourse.averaging import reset_batchnorm
from kdcourse.data import Split, data_dir, load_mnist
from kdcourse.metrics import agreement
from kdcourse.models import conv_net, load_model
from kdcourse.seeds import seeded
from kdcourse.training import cosine, distill, evaluate, fit, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS, RATES = range(5), (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
WIDE, NARROW = (1, 16, 32, 48), (8, 16, 24)
EPOCHS, BATCH = 40, 50
SOFT: dict[str, Any] = {"temperature": 4.0, "alpha": 1.0}
RECIPE: dict[str, Any] = {
    "teacher": "data/teacher.safetensors, conv_net((16, 32, 48))",
    "student": "conv_net((8, 16, 24))",
    "images": "the first 50 training images of each digit, without their labels but for the arm that says so",
    "training": {"epochs": EPOCHS, "batch size": BATCH, "learning rates": RATES, "optimizer": "AdamW"},
    "in sequence": "each block for that many epochs, after those before it",
    "end to end": SOFT,
    "halves": "half the epochs on the blocks, half end to end",
    "seconds": "of processor time, for the try that was chosen",
    "as many seconds": "as the block-wise arm of that seed took, epochs by the time of three",
    "random teacher": "conv_net((16, 32, 48), seed=100 + seed), untrained",
}
ARMS = (
    "parallel",
    "sequence",
    "end to end, equal steps",
    "end to end, as many seconds as parallel",
    "end to end, as many seconds as sequence",
    "labels, equal steps",
    "end to end, half the steps",
    "parallel, then end to end",
    "random teacher's blocks, then end to end",
)

digits = cache(load_mnist)
shipped = cache(lambda: load_model(data_dir() / "teacher.safetensors"))


@cache
def few() -> Split:
    return store.first_of_each(digits().train, 50)


def blocks_of(network: nn.Sequential) -> nn.Sequential:
    """Convolution, batch norm and ReLU, three times; what follows is the head."""
    return nn.Sequential(*(network[3 * k : 3 * k + 3] for k in range(3)))


def new_blocks(seed: int) -> nn.Sequential:
    """Narrow blocks, each as wide as the teacher's at its ends."""
    with seeded(seed):
        return nn.Sequential(*(
            nn.Sequential(
                nn.Conv2d(before, inside, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(inside),
                nn.ReLU(),
                nn.Conv2d(inside, after, 1, bias=False),
            )
            for (before, after), inside in zip(pairwise(WIDE), NARROW, strict=True)
        ))  # fmt: skip


@torch.no_grad()
def merged(blocks: nn.Sequential, classes: nn.Linear) -> nn.Sequential:
    """The blocks and a head as one narrow network that computes the same."""
    network = conv_net(NARROW)
    before = torch.eye(1)
    for k, block in enumerate(blocks, start=1):
        network.get_submodule(f"conv{k}").weight.copy_(torch.einsum("ocij,cd->odij", block[0].weight, before))
        network.get_submodule(f"norm{k}").load_state_dict(block[1].state_dict())
        before = block[3].weight[:, :, 0, 0]
    weight = torch.einsum("kcp,cd->kdp", classes.weight.unflatten(1, (WIDE[-1], -1)), before)
    network.classes.weight.copy_(weight.flatten(1))
    network.classes.bias.copy_(classes.bias)
    return network.eval()


def batches(epochs: int, seed: int) -> Iterator[tuple[float, Tensor]]:
    """Progress and images of each step."""
    images, draw = few().images, torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for place, rows in enumerate(torch.randperm(len(images), generator=draw).split(BATCH)):
            yield (epoch + place * BATCH / len(images)) / epochs, images[rows]


def learn(trained: nn.Sequential, teacher: nn.Sequential, given: nn.Sequential, rate: float, epochs: int, seed: int,
          *, first: int) -> None:  # fmt: skip
    """Train blocks to return what the teacher's return, from ``first`` on, each on what ``given`` makes for it.

    ``teacher`` and ``given`` are whole lists of blocks in eval mode; ``trained`` are the ones to be trained.
    """
    optimizer = torch.optim.AdamW(trained.parameters(), lr=rate)
    trained.train()
    for progress, images in batches(epochs, seed):
        for group in optimizer.param_groups:
            group["lr"] = rate * cosine(progress)
        loss = torch.zeros(())
        with torch.no_grad():
            inputs, targets = given[:first](images), teacher[:first](images)
        for k, block in enumerate(trained, start=first):
            with torch.no_grad():
                targets = teacher[k](targets)
            loss = loss + (block(inputs) - targets).square().mean()
            if k + 1 < first + len(trained):
                with torch.no_grad():
                    inputs = given[k](inputs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained.eval()


def parallel(teacher: nn.Sequential, rate: float, epochs: int, seed: int) -> nn.Sequential:
    blocks, theirs = new_blocks(seed), blocks_of(teacher)
    learn(blocks, theirs, theirs, rate, epochs, seed, first=0)
    return blocks


def sequence(teacher: nn.Sequential, rate: float, epochs: int, seed: int) -> nn.Sequential:
    blocks, theirs = new_blocks(seed), blocks_of(teacher)
    for k in range(len(blocks)):
        learn(blocks[k : k + 1], theirs, blocks, rate, epochs, seed + k, first=k)
    return blocks


def end_to_end(network: nn.Module, rate: float, epochs: int, seed: int) -> nn.Module:
    options: dict[str, Any] = {"epochs": epochs, "batch_size": BATCH, "learning_rate": rate, "seed": seed}
    distill(network, shipped(), few(), progress=False, **SOFT, **options)
    return network


def budget(arm: str, rate: float, seed: int) -> int:
    """Epochs of an arm; for each block where blocks are trained."""
    if arm.endswith("half the steps"):
        return EPOCHS // 2
    if "as many seconds" not in arm:
        return EPOCHS
    rival = store.find(store.load(RESULTS), {"arm": arm.split()[-1], "seed": seed})
    assert rival is not None, "the block-wise arms are measured first"
    begin = time.process_time()
    end_to_end(conv_net(NARROW, seed=seed), rate, 3, seed)
    seconds: float = rival["training_seconds"]
    return max(1, round(3 * seconds / (time.process_time() - begin)))


def train(arm: str, rate: float, epochs: int, seed: int) -> tuple[nn.Module, nn.Sequential | None]:
    """The network, and its blocks where they were trained as such."""
    if arm in ("parallel", "sequence"):
        blocks = (parallel if arm == "parallel" else sequence)(shipped(), rate, epochs, seed)
        return merged(blocks, shipped().classes), blocks
    if arm.endswith("then end to end"):
        teacher = conv_net(WIDE[1:], seed=100 + seed).eval() if arm.startswith("random") else shipped()
        start = merged(parallel(teacher, rate, epochs // 2, seed), teacher.classes)
        return end_to_end(start, rate, epochs // 2, seed), None
    network = conv_net(NARROW, seed=seed)
    if arm.startswith("labels"):
        fit(network, few(), epochs=epochs, batch_size=BATCH, learning_rate=rate, seed=seed, progress=False)
        return network, None
    return end_to_end(network, rate, epochs, seed), None


@torch.no_grad()
def inside(blocks: nn.Sequential) -> dict[str, Any]:
    """Each block's error over its target's mean square, on both paths, and hybrids with 0 … 3 blocks of the student."""
    teacher, test = shipped(), digits().test
    theirs, head = blocks_of(teacher), teacher[9:]
    on_theirs, on_own, right, own = [], [], test.images, test.images
    for ours, block in zip(blocks, theirs, strict=True):
        target = block(right)
        on_theirs.append(((ours(right) - target).square().mean() / target.square().mean()).item())
        own = ours(own)
        on_own.append(((own - target).square().mean() / target.square().mean()).item())
        right = target
    hybrids = [nn.Sequential(*blocks[:j], *theirs[j:], *head).eval() for j in range(4)]
    logits = torch.stack([predict(hybrid, test.images) for hybrid in hybrids])
    return {
        "error_on_the_teachers_inputs": [round(value, 5) for value in on_theirs],
        "error_on_its_own": [round(value, 5) for value in on_own],
        "hybrids": [evaluate(hybrid, test).accuracy for hybrid in hybrids],
        "contributions": [round(part.square().mean().item(), 5) for part in logits[:-1] - logits[1:]],
    }


def measure(arm: str, seed: int) -> dict[str, Any]:
    """Five tries; the one that is best on validation is reported, and once more with batch norm re-estimated."""
    tries, more = [], {}
    for rate in RATES:
        epochs = budget(arm, rate, seed)
        begin = time.process_time()
        network, blocks = train(arm, rate, epochs, seed)
        tries.append((rate, network))
        more[rate] = blocks, epochs, time.process_time() - begin
    record, network = store.best_of(tries, digits().validation)
    blocks, epochs, seconds = more[record["chosen"]]
    test = digits().test
    result = evaluate(network, test)
    record |= {
        "epochs": epochs,
        "training_seconds": round(seconds, 2),
        "test": result.accuracy,
        "test_cross_entropy": result.cross_entropy,
        "agreement": agreement(predict(network, test.images), predict(shipped(), test.images)),
    }
    if blocks is not None:
        record |= inside(blocks)
        reset_batchnorm(network, [few().images])
        record["validation_re_estimated"] = evaluate(network, digits().validation).accuracy
        record["test_re_estimated"] = evaluate(network, test).accuracy
    return record


def wanted() -> list[dict[str, Any]]:
    return [{"arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS]


def main() -> None:
    torch.set_num_threads(1)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
