"""Sound made by formula for a voice detector: vowels and hisses, tones, noises, silence, and which is a voice."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._base.checks import check_count
from ._base.extras import needed
from .pretrained.voice import FRAME, RATE

Samples = NDArray[np.float64]
VOWELS = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
    (490, 1350, 1690),
)
"""The first three resonances of a man's vowels in hertz: Peterson, Barney 1952, table II."""
WIDTHS = (60, 90, 150)  # of the resonances, in hertz
KINDS = ("voice", "voice in noise", "silence", "noise", "tone", "chord", "clicks")


def synthetic_clips(clips: int, *, seconds: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``clips`` of audio (N, samples) at 16 kHz, and for each frame of 512 samples whether a voice was made there.

    A clip is a row of pieces of half a second to one second, each of a random kind and loudness. A voice is a buzz
    whose pitch moves, through three resonances that move from vowel to vowel, with hisses and pauses between. It is a
    synthetic voice: what a detector does on it says little of people.

    Source: Klatt 1980, "Software for a cascade/parallel formant synthesizer", of which this is the cascade branch.

    >>> audio, voiced = synthetic_clips(2, seconds=1, seed=0)
    >>> audio.shape, voiced.shape, voiced.dtype
    (torch.Size([2, 16000]), torch.Size([2, 32]), torch.bool)
    """
    check_count("clips", clips, least=1)
    check_count("seconds", seconds, least=1)
    draw = np.random.default_rng(seed)
    found = [_clip(seconds * RATE, draw) for _ in range(clips)]
    audio = torch.from_numpy(np.stack([clip for clip, _ in found]).astype(np.float32))
    padded = np.pad(np.stack([voiced for _, voiced in found]), ((0, 0), (0, -seconds * RATE % FRAME)))
    return audio, torch.from_numpy(padded.reshape(clips, -1, FRAME).mean(axis=2) > 0.5)


def _clip(samples: int, draw: np.random.Generator) -> tuple[Samples, Samples]:
    parts: list[Samples] = []
    voiced: list[Samples] = []
    while sum(map(len, parts)) < samples:
        length, kind = int(draw.uniform(0.5, 1.0) * RATE), KINDS[draw.integers(len(KINDS))]
        piece = MAKERS[kind](length, draw)
        parts.append(piece * 10 ** draw.uniform(-1.3, -0.3) / max(np.abs(piece).max(), 1e-9))
        voiced.append(np.full(length, float(kind.startswith("voice"))))
    faint = 1e-4 * draw.standard_normal(samples)
    return np.concatenate(parts)[:samples] + faint, np.concatenate(voiced)[:samples]


def _voice(length: int, draw: np.random.Generator) -> Samples:
    """Syllables of 120 to 250 ms: now and then a hiss, then a vowel that glides to the next."""
    found: list[Samples] = []
    pitch = draw.uniform(85, 230)
    tract = draw.uniform(0.95, 1.25)  # a shorter throat has higher resonances
    while sum(map(len, found)) < length:
        if draw.random() < 0.4:
            found.append(_hiss(int(draw.uniform(0.03, 0.08) * RATE), draw))
        begin, end = (np.array(VOWELS[draw.integers(len(VOWELS))]) * tract for _ in range(2))
        found.append(
            _vowel(int(draw.uniform(0.12, 0.25) * RATE), pitch * draw.uniform(0.85, 1.15, 2), begin, end, draw)
        )
    return np.concatenate(found)[:length]


def _filtered(*arguments: Any, **keywords: Any) -> Any:
    """SciPy's recursive filter, imported when a clip is made."""
    return needed("scipy.signal", extra="data").lfilter(*arguments, **keywords)


def _vowel(
    length: int, pitch: Samples, begin: NDArray[np.float64], end: NDArray[np.float64], draw: np.random.Generator
) -> Samples:
    phase = np.cumsum(np.linspace(pitch[0], pitch[1], length)) / RATE
    buzz = np.diff(np.floor(phase + draw.random()), prepend=0.0)  # one pulse per period
    buzz = _filtered([1.0], [1.0, -0.96], buzz) + 0.01 * draw.standard_normal(length)
    pieces, state = [], [np.zeros(2)] * 3
    for place, block in enumerate(np.array_split(buzz, 8)):
        for number, (first, last) in enumerate(zip(begin, end, strict=True)):
            a, b = _resonance(first + (last - first) * place / 8, WIDTHS[number])
            block, state[number] = _filtered(b, a, block, zi=state[number])
        pieces.append(block)
    return np.concatenate(pieces) * np.sin(np.linspace(0.1, np.pi - 0.1, length)) ** 0.5


def _resonance(frequency: float, width: float) -> tuple[list[float], list[float]]:
    radius, angle = np.exp(-np.pi * width / RATE), 2 * np.pi * frequency / RATE
    a = [1.0, float(-2 * radius * np.cos(angle)), float(radius**2)]
    return a, [sum(a)]


def _hiss(length: int, draw: np.random.Generator) -> Samples:
    noise = np.asarray(_filtered([1.0, -0.95], [1.0], draw.standard_normal(length)))
    return np.asarray(0.05 * noise * np.sin(np.linspace(0, np.pi, length)))


def _noise(length: int, draw: np.random.Generator) -> Samples:
    slope = draw.uniform(0, 0.98)
    return np.asarray(_filtered([1 - slope], [1.0, -slope], draw.standard_normal(length)))


def _tones(count: int) -> Callable[[int, np.random.Generator], Samples]:
    def make(length: int, draw: np.random.Generator) -> Samples:
        time = np.arange(length) / RATE
        found = [np.sin(2 * np.pi * pitch * time + draw.random() * 6) for pitch in draw.uniform(100, 3000, count)]
        return np.asarray(sum(found))

    return make


def _clicks(length: int, draw: np.random.Generator) -> Samples:
    return np.asarray(_filtered([1.0], [1.0, -0.9], (draw.random(length) < 0.001) * draw.standard_normal(length)))


def _in_noise(length: int, draw: np.random.Generator) -> Samples:
    voice, noise = _voice(length, draw), _noise(length, draw)
    return np.asarray(voice / np.abs(voice).max() + draw.uniform(0.05, 0.3) * noise / np.abs(noise).max())


MAKERS: dict[str, Callable[[int, np.random.Generator], Samples]] = {
    "voice": _voice,
    "voice in noise": _in_noise,
    "silence": lambda length, draw: np.zeros(length),
    "noise": _noise,
    "tone": _tones(1),
    "chord": _tones(4),
    "clicks": _clicks,
}
