"""LeNet-300-100 in 250 times fewer bytes: pruned by what a weight's position costs in the file. Needs the full MNIST.

Most of the file of `deep_compression` says where its kept weights are. Here a weight is kept if its square is large for
the bits that the coder takes for it: few beside kept neighbours, at pixels that other units look at, and in units of
many weights. While training goes on, each weight is drawn ever more strongly to the nearest of its layer's few values,
which move with the weights (ProxQuant, arXiv:1810.00861). As many weights are kept as the bytes allow. The errors are
counted on what is read back from the file.
"""

import math
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.export import file_bytes
from kdcourse.models import mlp
from kdcourse.pruning import polynomial_sparsity
from kdcourse.quantization import (
    SharedWeight,
    drop_dead_units,
    kmeans_share,
    load_shared,
    model_bytes,
    read_coded,
    renumber_units,
    write_coded,
)
from kdcourse.quantization import _adaptive as adaptive  # the coder's models, to count the bytes by part
from kdcourse.quantization.coding import _Meter as Meter

sys.path.insert(0, str(Path(__file__).resolve().parent))
import deep_compression  # noqa: E402 (lies beside this file)
import store  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
SIDES = {"linear1": 28, "linear2": 0, "classes": 10}  # of the image that the coder takes a row for; 0: none
MOST = 1_066_440 // 250
PLAN: dict[str, Any] = {
    "passes over the copies": 20,
    "batch size": 512,
    "learning rate": 3e-3,
    "codebooks' learning rate": 3e-4,
    "pruned": (0.15, 0.6),
    "drawn to values": (0.62, 0.88),
    "drawn at most, per step": 0.02,
    "values on either side of zero": (2, 2, 3),
    "bias bits": 3,
    "exponent of the bits": 1.0,
    "bits of a value": 1.5,
}
ARMS: dict[str, dict[str, Any]] = {
    "whole": {},
    "twelve passes": {"passes over the copies": 12},
    "magnitude": {"exponent of the bits": 0.0},
}
TRIED: dict[str, Any] = {
    "seed 0, validation errors": {
        "12 passes, values by a straight-through gradient": 102,
        "the same, values on either side (1, 1, 2)": 105,
        "the same, and exponent 0.5": 101,
        "12 passes, pruned by 0.5": 105,
        "12 passes, drawn until 0.94, codebooks' learning rate 1e-3": 94,
    },
    "stopped before their ends": "values on either side (1, 1, 2), (3, 3, 3), (3, 3, 4) with 12 passes",
    "twelve passes": "came first, and had been tested when the 20 passes began",
}
RECIPE: dict[str, Any] = {
    "network": f"mlp({deep_compression.HIDDEN})",
    "bytes": f"at most {MOST}",
    "teacher, images and temperature": "as in deep_compression.py",
    "plan": PLAN,
    "arms": ARMS,
    "tried": TRIED,
    "arithmetic": "products in bfloat16 while training, float32 when errors are counted",
}
WEIGHTS = 266_200
GUESS, TRIES, OVERHEAD = 0.03, 4, 180  # fraction kept at first; attempts to meet the bytes; bytes that are no weights


class Sparse(nn.Module):
    """LeNet-300-100 of masked weights, each drawn from its layer's few values once there are some."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        layers = [mlp(deep_compression.HIDDEN, seed=seed).get_submodule(name) for name in SIDES]
        self.weights = nn.ParameterList([layer.weight for layer in layers])
        self.biases = nn.ParameterList([layer.bias for layer in layers])
        self.keep([torch.ones_like(weight) for weight in self.weights])
        self.books: list[Tensor] = []
        self.settled: list[Tensor] = []  # the entry of each weight, once it changes no more
        self.bias_entries: list[Tensor] = []

    def keep(self, masks: list[Tensor]) -> None:
        self.masks, self.places = masks, [mask.flatten().nonzero().squeeze(1) for mask in masks]

    def kept(self) -> int:
        return sum(map(len, self.places))

    def entries(self, number: int) -> Tensor:
        """Which value each kept weight is drawn from: the nearest."""
        if self.settled:
            return self.settled[number][self.places[number]]
        return nearest(self.weights[number].detach().flatten()[self.places[number]], half(self.books[number]).detach())

    def weight(self, number: int) -> Tensor:
        weight, places = self.weights[number], self.places[number]
        if not self.settled:
            return weight * self.masks[number]
        values = half(self.books[number])[self.entries(number)]
        return torch.zeros(weight.numel()).index_copy(0, places, values).view_as(weight)

    @torch.no_grad()
    def draw(self, strength: float) -> None:
        """Move every kept weight this fraction of the way to the nearest value."""
        for number, (weight, places) in enumerate(zip(self.weights, self.places, strict=True)):
            latent, flat = weight.flatten()[places], weight.view(-1)
            flat[places] = latent + strength * (self.books[number][nearest(latent, self.books[number])] - latent)

    def bias(self, number: int) -> Tensor:
        return half(self.biases[number])[self.bias_entries[number]] if self.bias_entries else self.biases[number]

    def forward(self, x: Tensor) -> Tensor:
        for number in range(len(self.weights)):
            x = F.linear(x.relu() if number else x, self.weight(number), self.bias(number))
        return x

    def settle(self) -> list[nn.Parameter]:
        """From here on only the codebooks are trained, those of the biases as well; these parameters."""
        self.books = [half(book).detach() for book in self.books]
        self.settled = [
            nearest(weight.detach().flatten(), book) for weight, book in zip(self.weights, self.books, strict=True)
        ]
        shared = [kmeans_share(bias.detach(), bits=PLAN["bias bits"]) for bias in self.biases]
        self.bias_entries = [entry.indices.long() for entry in shared]
        self.biases = nn.ParameterList([nn.Parameter(entry.codebook) for entry in shared])
        books = [nn.Parameter(book) for book in self.books]
        self.books = list(books)
        return [*books, *self.biases]


def nearest(values: Tensor, book: Tensor) -> Tensor:
    return torch.bucketize(values, (book[1:] + book[:-1]) / 2)


def half(x: Tensor) -> Tensor:
    """As float16 stores it; the gradient passes."""
    return x + (x.half().float() - x).detach()


def codebooks(network: Sparse) -> list[Tensor]:
    """So many values on either side of zero, by k-means of the kept weights there."""
    found = []
    for weight, places, count in zip(
        network.weights, network.places, PLAN["values on either side of zero"], strict=True
    ):
        kept, sides = weight.detach().flatten()[places], []
        for values in (kept[kept < 0], kept[kept > 0]):
            centres = torch.quantile(values, (torch.arange(count) + 0.5) / count)
            for _ in range(50):
                member = nearest(values, centres)
                sums = torch.bincount(member, values, count)
                centres = sums / torch.bincount(member, minlength=count).clamp(min=1)
            sides.append(centres.sort().values)
        found.append(torch.cat(sides))
    return found


def shared(network: Sparse) -> dict[str, SharedWeight]:
    """What goes into the file."""
    found = {}
    for number, name in enumerate(SIDES):
        values, order = torch.cat([half(network.books[number]).detach(), torch.zeros(1)]).sort()
        ranks = order.argsort()
        indices = ranks[-1].repeat(network.weights[number].numel())
        indices[network.places[number]] = ranks[network.entries(number)]
        found[f"{name}.weight"] = used(values, indices.view_as(network.weights[number]))
        if network.bias_entries:
            values, order = half(network.biases[number]).detach().sort()
            found[f"{name}.bias"] = used(values, order.argsort()[network.bias_entries[number]])
        else:
            bias = kmeans_share(network.biases[number].detach(), bits=PLAN["bias bits"])
            found[f"{name}.bias"] = SharedWeight(bias.codebook.half().float(), bias.indices)
    return renumber_units(drop_dead_units(found))


def used(values: Tensor, indices: Tensor) -> SharedWeight:
    """Without the values that no weight has."""
    entries, indices = indices.unique(return_inverse=True)
    return SharedWeight(values[entries], indices.to(torch.uint8))


# --- which weights ----------------------------------------------------------------------------------------------------


def position_bits(mask: Tensor, side: int) -> Tensor:
    """About the bits that each position adds when it is kept, log2((1 - p) / p), from all the others.

    p by a logistic regression on what the coder looks at: how dense the pixel and its surroundings are in all units,
    the unit as a whole, and the cells around in the same unit.
    """
    rows, columns = mask.shape
    rate = mask.mean().clamp(max=0.99)

    def around(x: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(x.view(-1, 1, side, side), kernel[None, None], padding=2).view(-1, columns)

    if side:
        steps = (torch.arange(5.0) - 2).abs()
        diamond = (steps[:, None] + steps <= 2).float()
        ring = 1 + (torch.maximum(steps[:, None], steps) < 2).float()
        ring[2, 2] = 0
        cells = around(torch.ones(1, columns), diamond) * rows
        density, near = around(mask.sum(0, keepdim=True), diamond)[0], around(mask, ring)
    else:
        cells, density = torch.full((1, columns), float(rows)), mask.sum(0)
        near = F.pad(mask, (1, 0))[:, :-1] + F.pad(mask, (0, 1))[:, 1:]
    pixel = ((density + 0.4) / (cells + 0.4 / rate)).expand(rows, columns)
    unit = ((mask.sum(1) + 1) / (pixel.sum(1) + 1))[:, None].expand(rows, columns)
    index = near.long().flatten()
    pattern = (torch.bincount(index, mask.flatten()) + 0.4) / (torch.bincount(index) + 0.4 / rate)
    features = [torch.ones_like(mask), (pixel / rate).log(), unit.log(), (pattern[index].view_as(mask) / rate).log()]
    x, y = torch.stack(features, -1).view(-1, 4).double(), mask.flatten().double()
    start = torch.tensor([0.0, 0.5, 0.5, 0.5], dtype=torch.float64)
    weights, offset = start, torch.logit(rate).double()
    for _ in range(4):  # Newton's steps, the weights held near where they start
        p = (x @ weights + offset).sigmoid()
        hessian = x.T @ (x * (p * (1 - p))[:, None]) + torch.eye(4, dtype=torch.float64)
        weights = weights + torch.linalg.solve(hessian, x.T @ (y - p) - (weights - start))
    return (-(x @ weights + offset).float().view_as(mask) / math.log(2)).clamp(min=0.3)


def prune(network: Sparse, kept: int, exponent: float) -> None:
    """Keep so many weights of the largest w² / bits^exponent, without units that nothing leaves."""
    found = []
    for weight, mask, side in zip(network.weights, network.masks, SIDES.values(), strict=True):
        score = weight.detach().square() * mask
        found.append(score / (position_bits(mask, side) + PLAN["bits of a value"]) ** exponent if exponent else score)
    together = torch.cat([score.flatten() for score in found])
    threshold = together.kthvalue(max(1, len(together) - kept)).values
    masks = [(score > threshold).float() for score in found]
    for _ in range(2):
        for first, second in ((0, 1), (1, 2)):
            masks[first] *= (masks[second].sum(0) > 0).float()[:, None]
    network.keep(masks)


def size(network: Sparse) -> float:
    """Bytes of the file, were the codebooks found now."""
    before = network.books
    network.books = before or codebooks(network)
    found = model_bytes(shared(network))
    network.books = before
    return found


def prune_to(network: Sparse, most: float, exponent: float) -> None:
    """Prune until the file takes ``most`` bytes, or a few less."""
    for _ in range(TRIES):
        bytes_now = size(network)
        if bytes_now <= most:
            return
        prune(network, int(network.kept() * (most - 4 - OVERHEAD) / (bytes_now - OVERHEAD)), exponent)


# --- training ---------------------------------------------------------------------------------------------------------


@cache
def images(seed: int) -> Tensor:
    return deep_compression.copies(seed).images.flatten(1).bfloat16()


def batches(count: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Rows of whole batches, every pass in another order."""
    generator = torch.Generator().manual_seed(seed)
    whole = count // PLAN["batch size"] * PLAN["batch size"]
    for _ in range(steps // (count // PLAN["batch size"])):
        yield from torch.randperm(count, generator=generator)[:whole].split(PLAN["batch size"])


def train(network: Sparse, seed: int, arm: str) -> None:
    """Prune along the cubic schedule, then draw from few values, then train these."""
    plan, inputs, temperature = PLAN | ARMS[arm], images(seed), deep_compression.SOFT["temperature"]
    targets = (deep_compression.soft_targets(seed) / temperature).softmax(dim=1)
    begin, end = plan["pruned"]
    steps = plan["passes over the copies"] * (len(inputs) // plan["batch size"])
    guessed, pruned, drawn, settled = (int(steps * at) for at in (0.85 * end, end, *plan["drawn to values"]))
    optimizer = torch.optim.Adam(network.parameters(), lr=1.0, fused=True)
    kept, exponent = GUESS, plan["exponent of the bits"]
    for step, rows in enumerate(batches(len(inputs), steps, seed)):
        done = step / steps
        ready = min(1.0, (done - begin) / (end - begin))
        if step == guessed:
            kept = 0.98 * network.kept() * (MOST - OVERHEAD) / (size(network) - OVERHEAD) / WEIGHTS
        if ready >= 0 and step <= pruned and step % 20 == 0:
            prune(network, int(WEIGHTS * (1 - polynomial_sparsity(ready, final=1 - kept))), exponent * ready)
        if step == pruned:
            prune_to(network, MOST - 20, exponent)
        if drawn <= step < settled and (step - drawn) % 50 == 0 or step == settled:
            network.books = codebooks(network)
        if step == settled:
            prune_to(network, MOST - 6, exponent)
            optimizer = torch.optim.Adam(network.settle(), lr=1.0)
        rate = plan["learning rate"] * min(1, done / 0.02) * (1 - done) + 1e-6
        if step >= settled:
            rate = plan["codebooks' learning rate"] * (steps - step) / (steps - settled)
        optimizer.param_groups[0]["lr"] = rate
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(inputs[rows])
        optimizer.zero_grad()
        (F.cross_entropy(logits.float() / temperature, targets[rows]) * temperature**2).backward()
        optimizer.step()
        if drawn <= step < settled:
            network.draw(plan["drawn at most, per step"] * ((step - drawn) / (settled - drawn)) ** 2)


def by_part(coded: dict[str, SharedWeight]) -> dict[str, float]:
    """Bytes of the file by what they say; the coder rounds up to words of four bytes."""
    books = sum(2 * len(entry.codebook) for entry in coded.values())
    meter = Meter()
    found = {"biases": 0.0, "positions": 0.0, "values": 0.0}

    def count(part: str) -> None:
        found[part] += meter.bits / 8
        meter.bits = 0.0

    for name, (codebook, indices) in coded.items():
        book, given = codebook.numpy(), indices.numpy()
        if given.ndim == 1:
            adaptive.code_indices(meter, book, given)
            count("biases")
            continue
        base, side = int(np.argmax(book == 0)), SIDES[name.removesuffix(".weight")]
        kept = adaptive.code_kept(meter, given != base, side)
        count("positions")
        adaptive.code_values(meter, kept, book, base, side, given)
        count("values")
    header = model_bytes(coded) - sum(found.values()) - books
    return {name: round(value, 1) for name, value in {**found, "codebooks": books, "header": header}.items()}


def measure(arm: str, seed: int) -> dict[str, Any]:
    """Train once, write the file, and count the errors of what is read back from it."""
    network = Sparse(seed)
    train(network, seed, arm)
    coded = shared(network)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coded"
        write_coded(path, coded)
        again = mlp(deep_compression.HIDDEN)
        load_shared(again, read_coded(path))
        weights = {name: int(again.get_submodule(name).weight.count_nonzero()) for name in SIDES}
        return deep_compression.errors(again) | {
            "weights": weights,
            "bytes": file_bytes(path),
            "bytes by part": by_part(coded),
        }


def main() -> None:
    torch.set_num_threads(1)
    keys = [{"arm": arm, "seed": seed} for seed in deep_compression.SEEDS for arm in ARMS]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
