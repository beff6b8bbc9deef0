"""The recogniser of files of notebook 19: magika's 214 types distilled into 12 kinds, on the files of this Python.

The files are those of the installed packages that requirements.txt pins, up to 60 per kind, chosen and split by the
SHA-256 of their path: the same on every machine with the same packages, and the record says of which files. A kind is
what the file's name ends in, which is a free label. Files of one package are in all splits: what is measured here
says nothing about files of other people.

Every student is the same small network, trained for the same updates. A seed gives the initial weights and the
batches; two learning rates are tried, and the better one on the validation files is reported.
"""

import hashlib
import os
import sys
import sysconfig
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeClassifier
from torch import Tensor, nn

from kdcourse.export import latency, session, to_onnx
from kdcourse.losses import kd_loss
from kdcourse.pretrained import file_bytes_read, file_type_classifier, file_type_labels
from kdcourse.pretrained.file_types import NETWORK
from kdcourse.seeds import seeded

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Python": ("*.py", ("python",)),
    "C or C++": ("*.h", ("c", "cpp")),
    "ELF library": ("*.so", ("elf",)),
    "plain text": ("*.txt", ("txt", "randomtxt")),
    "JSON": ("*.json", ("json",)),
    "JavaScript": ("*.js", ("javascript",)),
    "Markdown": ("*.md", ("markdown",)),
    "CSV": ("*.csv", ("csv",)),
    "PNG": ("*.png", ("png",)),
    "gzip": ("*.gz", ("gzip",)),
    "WOFF2 font": ("*.woff2", ("woff2",)),
    "TrueType font": ("*.ttf", ("ttf",)),
}
MOST, LEAST_BYTES, MOST_BYTES = 60, 32, 2_000_000
ARMS = ("distilled", "labels", "shuffled teacher")
RATES = (3e-3, 1e-2)
RECIPE: dict[str, Any] = {
    "teacher": "magika 1.0.3, standard_v3_3",
    "kinds": {kind: [pattern, list(types)] for kind, (pattern, types) in KINDS.items()},
    "files": {"most per kind": MOST, "bytes": [LEAST_BYTES, MOST_BYTES], "train, validation, test": [0.5, 0.2, 0.3]},
    "student": "embedding 257 × 8, convolution 8 → 32 of 8 bytes with stride 4, maximum over positions, 32 → 12",
    "training": {"epochs": 30, "batch": 32, "optimizer": "AdamW", "schedule": "linear to 0", "temperature": 2.0},
    "tries": {"learning_rate": RATES},
}


class Files(NamedTuple):
    """Bytes (N, 2048) int64, kind by name (N,), the teacher's probabilities of the kinds (N, 12)."""

    tokens: Tensor
    labels: Tensor
    teacher: Tensor


def listed() -> list[tuple[Path, int, str]]:
    """Files with their kind and split, in an order that is the same everywhere."""
    found, seen, by_suffix = [], set(), by_kind()
    for kind, (pattern, _) in enumerate(KINDS.values()):
        paths = by_suffix[pattern]
        taken = 0
        for key in sorted(paths):
            size, content = paths[key].stat().st_size, hashlib.sha256(paths[key].read_bytes()).hexdigest()
            if taken < MOST and LEAST_BYTES <= size <= MOST_BYTES and content not in seen:
                seen.add(content)
                part = int(key, 16) % 10  # the last digit, not the first by which they are sorted
                found.append((paths[key], kind, "train" if part < 5 else "validation" if part < 7 else "test"))
                taken += 1
            if taken == MOST:
                break
    return found


def by_kind() -> dict[str, dict[str, Path]]:
    """For each pattern the files of installed packages by key; one walk, since there are very many."""
    root = Path(sysconfig.get_paths()["purelib"])
    patterns = {pattern.removeprefix("*"): pattern for pattern, _ in KINDS.values()}
    found: dict[str, dict[str, Path]] = {pattern: {} for pattern in patterns.values()}
    for folder, _, names in os.walk(root):
        for name in names:
            pattern = patterns.get(Path(name).suffix)
            if pattern is not None:
                path = Path(folder, name)
                found[pattern][_key(path.relative_to(root))] = path
    return found


def _key(path: Path) -> str:
    return hashlib.sha256(f"kdcourse:{path.as_posix()}".encode()).hexdigest()


@cache
def files(split: str) -> Files:
    rows = [(file_bytes_read(path), kind) for path, kind, part in everything() if part == split]
    tokens = torch.stack([tokens for tokens, _ in rows])
    classify = file_type_classifier()
    probabilities = torch.cat([classify(part) for part in tokens.split(32)])
    return Files(tokens.long(), torch.tensor([kind for _, kind in rows]), folded(probabilities))


everything = cache(listed)


def folded(probabilities: Tensor) -> Tensor:
    """The sum over the types of each kind, (N, 12), scaled to sum to 1."""
    labels, numbers = file_type_labels(), torch.full((probabilities.shape[1],), -1)
    for kind, (_, types) in enumerate(KINDS.values()):
        for name in types:
            numbers[labels.index(name)] = kind
    sums = torch.stack([probabilities[:, numbers == kind].sum(dim=1) for kind in range(len(KINDS))], dim=1)
    sums = sums.clamp_min(1e-9)  # what is certain has a logit all the same
    return sums / sums.sum(dim=1, keepdim=True)


class Student(nn.Module):
    def __init__(self, *, seed: int) -> None:
        super().__init__()
        with seeded(seed):
            self.byte = nn.Embedding(257, 8)
            self.window = nn.Conv1d(8, 32, 8, stride=4)
            self.kind = nn.Linear(32, len(KINDS))

    def forward(self, tokens: Tensor) -> Tensor:
        found = self.window(self.byte(tokens).transpose(1, 2)).relu().amax(dim=2)
        return self.kind(found)


def trained(arm: str, seed: int, rate: float) -> Student:
    network, train = Student(seed=seed), files("train")
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    epochs, batch = RECIPE["training"]["epochs"], RECIPE["training"]["batch"]
    steps, step = epochs * -(-len(train.labels) // batch), 0
    with seeded(seed):
        logits = train.teacher.log()
        if arm == "shuffled teacher":
            logits = logits[torch.randperm(len(logits))]
        for _ in range(epochs):
            for rows in torch.randperm(len(logits)).split(batch):
                found = network(train.tokens[rows])
                if arm == "labels":
                    loss = F.cross_entropy(found, train.labels[rows])
                else:
                    loss = kd_loss(found, logits[rows], temperature=RECIPE["training"]["temperature"])
                for group in optimizer.param_groups:
                    group["lr"] = rate * (1 - step / steps)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
    return network.eval()


def judged(scores: Tensor, split: str) -> dict[str, float]:
    kinds, of = scores.argmax(dim=1), files(split)
    return {
        "agreement": (kinds == of.teacher.argmax(dim=1)).double().mean().item(),
        "accuracy": (kinds == of.labels).double().mean().item(),
    }


def measure_student(arm: str, seed: int) -> dict[str, Any]:
    found = []
    for rate in RATES:
        network = trained(arm, seed, rate)
        with torch.no_grad():
            scores = judged(network(files("validation").tokens), "validation")
            found.append((scores["accuracy" if arm == "labels" else "agreement"], rate, network))
    best, rate, network = max(found, key=lambda each: each[0])
    with torch.no_grad():
        return {"chosen": rate, "validation": best} | judged(network(files("test").tokens), "test")


def histogram(tokens: Tensor) -> Any:
    return F.one_hot(tokens, 257).float().mean(dim=1).sqrt().numpy()


def first_bytes(tokens: Tensor) -> Any:
    return F.one_hot(tokens[:, :4], 257).flatten(1).float().numpy()


def measure_rival(arm: str) -> dict[str, Any]:
    """A linear classifier of the teacher's kinds on something simple."""
    if arm == "teacher":
        return judged(files("test").teacher, "test")
    features = {"byte histogram": histogram, "first four bytes": first_bytes}[arm]
    train, test = files("train"), files("test")
    fitted = RidgeClassifier(alpha=0.1).fit(features(train.tokens), train.teacher.argmax(dim=1).numpy())
    predicted = torch.from_numpy(fitted.predict(features(test.tokens)))
    return judged(F.one_hot(predicted, len(KINDS)), "test")


def measure_speed() -> dict[str, Any]:
    """One file, one thread, both in onnxruntime, after its bytes have been read; and reading them."""
    network, one = Student(seed=0).eval(), files("test").tokens[:1]
    path = Path(__file__).resolve().parents[2] / "build" / "real_models" / "file_kinds.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    to_onnx(network, path, one)
    calls = {
        "teacher": partial(file_type_classifier(), one.int()),
        "student": partial(session(path), one),
        "reading the bytes": partial(file_bytes_read, everything()[0][0]),
    }
    times = {f"{name}, ms": each.median for name, each in latency(calls, repeats=60).items()}
    sizes = {"teacher, bytes": NETWORK.path().stat().st_size, "student, bytes": path.stat().st_size}
    return times | sizes | {"student, weights": sum(p.numel() for p in network.parameters())}


def measure_list() -> dict[str, Any]:
    """Which files they were: how many of each kind and split, and a hash of their paths."""
    root = Path(sysconfig.get_paths()["purelib"])
    text = "\n".join(f"{path.relative_to(root).as_posix()} {kind} {part}" for path, kind, part in everything())
    counts = {
        part: [sum(kind == number and split == part for _, kind, split in everything()) for number in range(len(KINDS))]
        for part in ("train", "validation", "test")
    }
    return counts | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def measure(part: str, arm: str = "", seed: int = 0) -> dict[str, Any]:
    if part == "student":
        return measure_student(arm, seed)
    if part == "rival":
        return measure_rival(arm)
    return measure_list() if part == "files" else measure_speed()


def wanted() -> list[dict[str, Any]]:
    rivals = [{"part": "rival", "arm": arm} for arm in ("teacher", "byte histogram", "first four bytes")]
    students = [{"part": "student", "arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS]
    return [{"part": "files"}, *rivals, *students, {"part": "speed"}]


def main() -> None:
    torch.set_num_threads(1)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
