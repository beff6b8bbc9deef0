"""The voice detector of notebook 19: silero-vad distilled into smaller ones on sound that a formula made.

Every student is a `VoiceDetector` with the sizes below, its spectrum the teacher's, trained for the same number of
updates on the same clips in the same order. A seed gives the initial weights and the batches; the training clips are
the same for all. Every arm has two learning rates, of which the better one on the validation clips is reported.
"""

import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.export import latency, session, to_onnx
from kdcourse.losses import multilabel_kd_loss
from kdcourse.metrics import count_macs
from kdcourse.pretrained import VoiceDetector, voice_detector
from kdcourse.seeds import seeded
from kdcourse.sounds import synthetic_clips

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
SIZES: dict[str, dict[str, Any]] = {
    "small": {"channels": (16, 12, 12), "hidden": 16},
    "tiny": {"channels": (4, 4, 4), "hidden": 4},
}
ARMS = ("distilled", "labels", "shuffled teacher")
RATES = (1e-2, 3e-2)
RECIPE: dict[str, Any] = {
    "teacher": "silero-vad, the weights of its ONNX file",
    "students": SIZES,
    "clips": {"train": [160, 1], "validation": [40, 2], "test": [80, 3], "seconds": 4},
    "training": {"epochs": 12, "batch": 16, "optimizer": "AdamW", "schedule": "linear to 0", "temperature": 1.0},
    "tries": {"learning_rate": RATES},
    "agreement": "frames on which both or neither is above 0.5",
}


@cache
def clips(split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Audio (N, samples), whether each frame is a voice (N, frames), and the teacher's logits (N, frames)."""
    count, seed = RECIPE["clips"][split]
    audio, voiced = synthetic_clips(count, seconds=RECIPE["clips"]["seconds"], seed=seed)
    with torch.inference_mode():
        return audio, voiced, voice_detector()(audio).clone()


def student(size: str, seed: int) -> VoiceDetector:
    """Its spectrum is the teacher's, which is a Fourier transform that nobody trained."""
    return VoiceDetector(**SIZES[size], seed=seed)


def loss_of(arm: str, logits: Tensor, teacher: Tensor, voiced: Tensor) -> Tensor:
    if arm == "labels":
        return F.binary_cross_entropy_with_logits(logits, voiced.float())
    return multilabel_kd_loss(logits.flatten()[:, None], teacher.flatten()[:, None], temperature=1.0)


def trained(arm: str, size: str, seed: int, rate: float) -> VoiceDetector:
    network, (audio, voiced, teacher) = student(size, seed), clips("train")
    epochs, batch = RECIPE["training"]["epochs"], RECIPE["training"]["batch"]
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=rate)
    steps = epochs * (len(audio) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    with seeded(seed):
        if arm == "shuffled teacher":  # of another clip
            teacher = teacher.roll(1, dims=0)
        for _ in range(epochs):
            for rows in torch.randperm(len(audio)).split(batch):
                loss = loss_of(arm, network(audio[rows]), teacher[rows], voiced[rows])
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
    return network.eval()


def judged(logits: Tensor, split: str) -> dict[str, float]:
    _, voiced, teacher = clips(split)
    decided = logits > 0
    return {
        "agreement": (decided == (teacher > 0)).double().mean().item(),
        "probability difference": (logits.sigmoid() - teacher.sigmoid()).abs().double().mean().item(),
        "accuracy": (decided == voiced).double().mean().item(),
    }


@torch.inference_mode()
def measure_student(arm: str, size: str, seed: int) -> dict[str, Any]:
    """The validation clips choose by what the arm is trained for: agreement, or accuracy for the labels."""
    found = []
    for rate in RATES:
        with torch.inference_mode(False):
            network = trained(arm, size, seed, rate)
        scores = judged(network(clips("validation")[0]), "validation")
        found.append((scores["accuracy" if arm == "labels" else "agreement"], rate, network))
    best, rate, network = max(found, key=lambda each: each[0])
    return {"chosen": rate, "validation": best} | judged(network(clips("test")[0]), "test")


def loudness(audio: Tensor) -> Tensor:
    """Decibels of each frame: the cheapest detector there is."""
    return 10 * audio.unfold(1, 512, 512).square().mean(dim=-1).clamp_min(1e-10).log10()


def measure_rival(arm: str) -> dict[str, Any]:
    if arm == "teacher":
        return judged(clips("test")[2], "test")
    if arm == "safetensors weights":
        with torch.inference_mode():
            return judged(voice_detector("safetensors")(clips("test")[0]), "test")
    values, (audio, _, teacher) = torch.arange(-60, 0, 0.5), clips("validation")
    agreements = [((loudness(audio) > value) == (teacher > 0)).double().mean() for value in values]
    best = values[torch.stack(agreements).argmax()]
    return {"threshold": best.item()} | judged(loudness(clips("test")[0]) - best, "test")


def measure_speed(arm: str) -> dict[str, Any]:
    """Four seconds of audio in one call, one thread, in both runtimes; all networks interleaved."""
    networks = {"teacher": voice_detector()} | {size: student(size, 0).eval() for size in SIZES}
    audio, folder = clips("test")[0][:1], Path(__file__).resolve().parents[2] / "build" / "real_models"
    folder.mkdir(parents=True, exist_ok=True)
    calls = {f"{name}, torch": partial(network, audio) for name, network in networks.items()}
    found: dict[str, Any] = {}
    for name, network in networks.items():
        path = folder / f"voice-{name}.onnx"
        to_onnx(network, path, audio)
        calls[f"{name}, onnxruntime"] = partial(session(path), audio)
        found[f"{name}, weights"] = sum(p.numel() for p in network.parameters() if p.requires_grad)
        found[f"{name}, bytes"] = path.stat().st_size
        found[f"{name}, MACs"] = count_macs(network, audio)
    return found | {name: each.median for name, each in latency(calls, repeats=60).items()}


def measure(part: str, arm: str, **key: Any) -> dict[str, Any]:
    if part == "student":
        return measure_student(arm, **key)
    return (measure_rival if part == "rival" else measure_speed)(arm)


def wanted() -> list[dict[str, Any]]:
    rivals = [{"part": "rival", "arm": arm} for arm in ("teacher", "safetensors weights", "loudness")]
    students = [
        {"part": "student", "arm": arm, "size": size, "seed": seed} for seed in SEEDS for size in SIZES for arm in ARMS
    ]
    return [*rivals, *students, {"part": "speed", "arm": "all"}]


def main() -> None:
    torch.set_num_threads(1)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
