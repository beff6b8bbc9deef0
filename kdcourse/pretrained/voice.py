"""silero-vad, a detector of voices: for each 32 ms of audio the probability that someone speaks."""

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from .._base.checks import check_count
from .._base.extras import needed
from ..seeds import seeded
from ._packages import Packaged

INSTALL = "pip install --no-deps silero-vad==6.2.3"
FILES = {
    "onnx": Packaged(
        "silero-vad",
        "silero_vad",
        "data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
        INSTALL,
    ),
    "safetensors": Packaged(
        "silero-vad",
        "silero_vad",
        "data/silero_vad_16k.safetensors",
        "c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1",
        INSTALL,
    ),
}
NAMES = {
    "stft.forward_basis_buffer": "spectrum.weight",
    "decoder.rnn": "memory",
    "decoder.decoder.2": "voice",
    **{f"encoder.{number}.reparam_conv": f"conv{number + 1}" for number in range(4)},
    "stft_conv": "spectrum",
    "lstm_cell": "memory",
    "final_conv": "voice",
}
RATE = 16_000  # samples per second
FRAME, CONTEXT = 512, 64  # samples: 32 ms, and what a frame sees of the one before
WINDOW, STEP = 256, 128  # samples of one spectrum, and from one to the next
State = tuple[Tensor, Tensor]


class VoiceDetector(nn.Module):
    """Audio (N, samples) at 16 kHz to logits (N, frames), one per 512 samples; their sigmoid is the probability.

    Each frame is read with the last 64 samples before it, zeros before the first; its end is reflected by 64 samples.
    Four spectra of it go through four convolutions, then through one LSTM from frame to frame. A last frame that is
    not full is filled up with zeros. Smaller ``channels`` and ``hidden`` make a student; the same ``seed`` gives the
    same weights.

    Raises ``TypeError`` for what is not floating-point audio, ``ValueError`` for another rank or no samples.

    Source: silero-vad 6.2.3, its ONNX file.

    >>> VoiceDetector((16, 8, 8), hidden=16)(torch.zeros(2, 16_000)).shape
    torch.Size([2, 32])
    """

    def __init__(self, channels: tuple[int, int, int] = (128, 64, 64), *, hidden: int = 128, seed: int = 0) -> None:
        super().__init__()
        for size in (*channels, hidden):
            check_count("channels and hidden", size, least=1)
        first, second, third = channels
        with seeded(seed):
            self.spectrum = nn.Conv1d(1, WINDOW + 2, WINDOW, stride=STEP, bias=False)
            self.conv1 = nn.Conv1d(WINDOW // 2 + 1, first, 3, padding=1)
            self.conv2 = nn.Conv1d(first, second, 3, stride=2, padding=1)
            self.conv3 = nn.Conv1d(second, third, 3, stride=2, padding=1)
            self.conv4 = nn.Conv1d(third, hidden, 3, padding=1)
            self.memory = nn.LSTM(hidden, hidden, batch_first=True)
            self.voice = nn.Conv1d(hidden, 1, 1)
        self.spectrum.requires_grad_(False)
        with torch.no_grad():
            self.spectrum.weight.copy_(_fourier())

    def forward(self, audio: Tensor) -> Tensor:
        """The logits of all frames."""
        return self.read(audio)[0]

    def read(self, audio: Tensor, state: tuple[Tensor, State] | None = None) -> tuple[Tensor, tuple[Tensor, State]]:
        """The logits of these samples, and what the next call needs to go on: the last 64 samples and the memory.

        Audio that is cut at multiples of 512 samples and read piece by piece gives what it gives as a whole.
        """
        _check(audio)
        before, memory = (audio.new_zeros(audio.shape[0], CONTEXT), None) if state is None else state
        padded = torch.cat([before, F.pad(audio, (0, -audio.shape[1] % FRAME))], dim=1)
        frames = padded.unfold(1, CONTEXT + FRAME, FRAME)  # (N, frames, 576)
        features = self._features(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        remembered, memory = self.memory(features, memory)
        logits = self.voice(remembered.relu().transpose(1, 2)).squeeze(1)
        return logits, (padded[:, -CONTEXT:], memory)

    def _features(self, frames: Tensor) -> Tensor:
        """(frames, hidden) of frames with what is before them, (frames, 576)."""
        waves = self.spectrum(F.pad(frames.unsqueeze(1), (0, CONTEXT), mode="reflect"))
        real, imaginary = waves.chunk(2, dim=1)
        x = (real.square() + imaginary.square()).sqrt()
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = layer(x).relu()
        found: Tensor = x.squeeze(-1)
        return found


def voice_detector(weights: str = "onnx") -> VoiceDetector:
    """silero-vad for 16 kHz in eval mode, 309,633 weights: those of its ONNX file, which is what its users run.

    The package also holds a safetensors file of the same shapes. Its weights are others (``weights="safetensors"``),
    and so is what it computes. Reading the ONNX file takes the extra ``export``.

    Raises ``ImportError`` that names the package where it is missing, ``ValueError`` where the file is another.

    >>> voice_detector()(torch.zeros(1, 16_000)).sigmoid().max() < 0.1
    tensor(True)
    """
    if weights not in FILES:
        raise ValueError(f"weights must be one of {', '.join(FILES)}, got {weights!r}")
    content = FILES[weights].read()
    model = VoiceDetector()
    model.load_state_dict({_renamed(name): tensor for name, tensor in _tensors(content, weights).items()}, strict=True)
    return model.eval()


def _tensors(content: bytes, kind: str) -> dict[str, Tensor]:
    if kind == "safetensors":
        return load(content)
    onnx = needed("onnx", extra="export")
    constants = onnx.load_from_string(content).graph.initializer
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in constants}
    named = {name: array for name, array in arrays.items() if name.startswith("model.")}
    return {name.removeprefix("model."): torch.from_numpy(array.copy()) for name, array in named.items()}


def _renamed(name: str) -> str:
    """What a file calls a tensor, as `VoiceDetector` calls it."""
    if name in NAMES:
        return NAMES[name]
    part, _, kind = name.rpartition(".")
    part = NAMES.get(part, part)
    return f"{part}.{kind}_l0" if part == "memory" else f"{part}.{kind}"


def _fourier() -> Tensor:
    """Cosines, then sines, under a Hann window, (258, 1, 256): the real and imaginary parts of a spectrum."""
    angles = 2 * torch.pi / WINDOW * torch.arange(WINDOW // 2 + 1).double()[:, None] * torch.arange(WINDOW)
    window = torch.hann_window(WINDOW, dtype=torch.float64)
    return (torch.cat([angles.cos(), -angles.sin()]) * window).float().unsqueeze(1)


def _check(audio: Tensor) -> None:
    if not isinstance(audio, Tensor) or not audio.is_floating_point():
        found = audio.dtype if isinstance(audio, Tensor) else type(audio).__name__
        raise TypeError(f"audio must be a floating-point tensor from -1 to 1, got {found}")
    if audio.ndim != 2 or audio.numel() == 0:
        raise ValueError(f"audio must be (N, samples) at 16 kHz, one of each at least, got {tuple(audio.shape)}")
