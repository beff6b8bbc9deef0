"""What each part of the recipe of the smallest baseline is worth: five paired seeds, six arms, equal steps.

An arm leaves out or alters one part and keeps the others: labels instead of the teacher's soft targets, no distorted
copies, all weights removed in one step, one bit fewer per weight, codebooks as k-means leaves them. Seeds are paired:
the arms of a seed start from the same weights and see the same copies. Nothing is chosen by these numbers. Needs the
full MNIST (set KDCOURSE_DATA), on whose test images the final errors are counted.
"""

import copy
import sys
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdcourse.data import Split, load_mnist
from kdcourse.export import file_bytes
from kdcourse.models import conv_net
from kdcourse.pruning import apply_masks, global_magnitude_masks
from kdcourse.quantization import fold_batchnorm, share_model, shared_weights, write_coded
from kdcourse.training import predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import baselines  # noqa: E402 (lies beside this file)
import store  # noqa: E402
from baselines import copies, soft_targets, taught, wrong  # noqa: E402
from lenet import tightening  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
SPEC = baselines.CODED["smallest"]
ARMS = ("whole", "no teacher", "no copies", "pruned in one step", "2 bits", "codebooks untrained")
RECIPE: dict[str, Any] = {
    "whole": SPEC | {"bias bits": baselines.BIAS_BITS, "stages": baselines.STAGES},
    "training": baselines.OPTIONS,
    "distillation": baselines.SOFT,
    "no teacher": "cross-entropy on the labels of the same copies",
    "no copies": "the training digits as they are, as often, with the teacher's soft targets for them",
    "pruned in one step": "after the dense passes; then as many passes as the others take to prune",
    "2 bits": "three values per layer besides zero",
    "codebooks untrained": "their passes are given to the pruning",
}

full = cache(partial(load_mnist, subset=False))


@cache
def undistorted() -> tuple[Split, Tensor]:
    """The training digits as often as there are copies, and their soft targets."""
    train, count = baselines.digits().train, SPEC["copies"]
    soft = predict(baselines.teacher(), train.images)
    return Split(train.images.repeat(count, 1, 1, 1), train.labels.repeat(count)), soft.repeat(count, 1)


def given(arm: str, seed: int) -> tuple[Split, Tensor | None]:
    """The images of an arm, and the soft targets, or None for labels."""
    if arm == "no copies":
        return undistorted()
    return copies(seed, SPEC["copies"]), None if arm == "no teacher" else soft_targets(seed, SPEC["copies"])


@cache
def dense(arm: str, seed: int) -> nn.Module:
    network = conv_net(SPEC["channels"], seed=seed)
    return fold_batchnorm(taught(network, *given(arm, seed), "dense", seed, SPEC))


@cache
def pruned(arm: str, seed: int) -> nn.Module:
    begun = arm if arm in ("no teacher", "no copies") else "whole"
    network, options = copy.deepcopy(dense(begun, seed)), dict[str, Any]()
    if arm == "pruned in one step":
        apply_masks(network, global_magnitude_masks(network, 1 - SPEC["kept"]))
    else:
        options["before_step"] = tightening(network, 1 - SPEC["kept"], step=0.005)
    if arm == "codebooks untrained":
        options["epochs"] = sum(SPEC["passes"][1:])
    return taught(network, *given(arm, seed), "pruning", seed, SPEC, **options)


def write(path: Path, arm: str, seed: int) -> None:
    network = pruned("whole" if arm == "2 bits" else arm, seed)
    shared = share_model(network, bits=2 if arm == "2 bits" else SPEC["bits"], bias_bits=baselines.BIAS_BITS)
    if arm != "codebooks untrained":
        taught(shared, *given(arm, seed), "codebooks", seed, SPEC)
    write_coded(path, shared_weights(shared))


def measure(arm: str, seed: int) -> dict[str, Any]:
    """Make the file of one arm, and count the errors of what is read back from it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coded.kdc"
        write(path, arm, seed)
        embedded = baselines.digits()
        found = {
            name: 1 - wrong(path, split) / len(split.labels)
            for name, split in (("validation", embedded.validation), ("test", embedded.test))
        }
        return found | {"bytes": file_bytes(path), "final errors": wrong(path, full().test)}


def main() -> None:
    torch.set_num_threads(1)
    keys = [{"arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
