"""LeNet-300-100 on the full MNIST as small as it gets: Deep Compression (arXiv:1510.00149) with distillation added.

A small convolutional teacher, trained on shifted and turned images, names a probability for each class of eight copies
of the training set. LeNet-300-100 learns from those, is pruned gradually, draws its weights from codebooks of 16
values, learns the codebooks, and is written through an entropy coder. The errors are counted on what is read back from
the file. The control is trained on labels in the same way, on the same copies. Needs the full MNIST.

They report 1.64 % errors dense and 1.58 % in a file 40 times smaller.
"""

import sys
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdcourse.data import Split, load_mnist, random_affine
from kdcourse.export import file_bytes
from kdcourse.models import conv_net, mlp, save_model
from kdcourse.pruning import prunable_weights, snapshot
from kdcourse.quantization import (
    drop_dead_units,
    entropy_bytes,
    load_shared,
    model_bytes,
    read_coded,
    renumber_units,
    share_model,
    shared_weights,
    write_coded,
)
from kdcourse.training import predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)
from lenet import tightening  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
SHIPPED = RESULTS.parent.parent / "lenet_300_100.kdc"
SEEDS = range(3)
HIDDEN, COPIES = (300, 100), 8
KEPT = (0.03, 0.02)
AUGMENTATION = {"degrees": 8.0, "translate": 0.06, "scale": 0.08, "shear": 0.1}
PASSES = {"dense": 4, "pruning": 12, "codebooks": 3}
OPTIONS: dict[str, Any] = {"learning_rate": 2e-3, "weight_decay": 0.0, "batch_size": 256, "progress": False}
SOFT = {"temperature": 2.0, "alpha": 1.0}
RECIPE: dict[str, Any] = {
    "network": f"mlp({HIDDEN})",
    "teacher": {"network": "conv_net((32, 64, 128))", "epochs": 8, "learning_rate": 4e-3, "augmentation": "default"},
    "images": {"copies": COPIES, "of them as they are": 1} | AUGMENTATION,
    "passes over the copies": PASSES,
    "training": OPTIONS,
    "distillation": SOFT,
    "pruned": "globally by magnitude, along the cubic schedule, for the first 0.7 of the passes",
    "codebooks": {"bits": 4, "bias bits": 4},
}


digits = cache(partial(load_mnist, subset=False))


@cache
def teacher(seed: int) -> nn.Module:
    network = conv_net((32, 64, 128), seed=seed)
    store.fit(network, digits().train, epochs=8, learning_rate=4e-3, augment=random_affine(), seed=seed, progress=False)
    return network


@cache
def copies(seed: int) -> Split:
    """The training set and, behind it, distorted copies of it."""
    return store.with_copies(digits().train, COPIES, random_affine(**AUGMENTATION), seed)


@cache
def soft_targets(seed: int) -> Tensor:
    return predict(teacher(seed), copies(seed).images)


def train(network: nn.Module, seed: int, how: str, passes: str, **more: Any) -> nn.Module:
    options = OPTIONS | {"epochs": PASSES[passes], "seed": seed} | more
    if how == "taught":
        store.distill(network, soft_targets(seed), copies(seed), **SOFT, **options)
    else:
        store.fit(network, copies(seed), **options)
    return network


@cache
def dense_state(seed: int, how: str) -> dict[str, Tensor]:
    return snapshot(train(mlp(HIDDEN, seed=seed), seed, how, "dense"))


def dense(seed: int, how: str) -> nn.Module:
    network = mlp(HIDDEN, seed=seed)
    network.load_state_dict(dense_state(seed, how))
    return network


def pruned(seed: int, how: str, kept: float) -> nn.Module:
    network = dense(seed, how)
    return train(network, seed, how, "pruning", before_step=tightening(network, 1 - kept, step=0.002))


def errors(network: nn.Module) -> dict[str, int]:
    found = {}
    for name in ("validation", "test"):
        split = getattr(digits(), name)
        found[f"{name} errors"] = int((predict(network, split.images).argmax(dim=1) != split.labels).sum())
    return found


def measure(how: str, kept: float, seed: int) -> dict[str, Any]:
    """Compress once: the errors on the way, the file's bytes, and the errors of what is read back from it."""
    with tempfile.TemporaryDirectory() as folder:
        if kept == 1:
            save_model(dense(seed, how), Path(folder) / "dense")
            return errors(dense(seed, how)) | {"bytes": file_bytes(Path(folder) / "dense")}
        sparse = pruned(seed, how, kept)
        weights = {name: int(weight.count_nonzero()) for name, weight in prunable_weights(sparse).items()}
        shared = train(share_model(sparse, bits=4, bias_bits=4), seed, how, "codebooks", learning_rate=5e-4)
        path = Path(folder) / "coded"
        coded = renumber_units(drop_dead_units(shared_weights(shared)))
        write_coded(path, coded)
        again = mlp(HIDDEN)
        load_shared(again, read_coded(path))
        if how == "taught" and (kept, seed) == (0.02, 0):
            write_coded(SHIPPED, coded)
        return errors(again) | {
            "errors before sharing": errors(sparse)["test errors"],
            "weights": weights,
            "bytes": file_bytes(path),
            "bytes by frequencies": round(entropy_bytes(coded), 1),
            "bytes by the coder's model": round(model_bytes(coded), 1),
        }


def main() -> None:
    torch.set_num_threads(1)
    arms = [("taught", 1), *(("taught", kept) for kept in KEPT), ("labels", 1), ("labels", 0.02)]
    keys = [{"how": how, "kept": kept, "seed": seed} for seed in SEEDS for how, kept in arms]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
