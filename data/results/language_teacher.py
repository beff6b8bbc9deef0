"""Train the course's language teacher; write data/language_teacher.safetensors and data/language_teacher.json.

The recipe was chosen on the validation split; the test split is only reported. A run that was killed goes on from its
checkpoint in the folder for temporary files.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from kdcourse.language import Decoder, bits_per_token
from kdcourse.metrics import count_parameters
from kdcourse.models import save_model
from kdcourse.text import Speech, Vocabulary, load_speeches
from kdcourse.training import fit

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

DATA = Path(__file__).resolve().parent.parent
CONTEXT = 256
RECIPE = {
    "network": {"width": 128, "layers": 4, "heads": 4, "context": CONTEXT},
    "training": {"epochs": 40, "steps_per_epoch": 100, "learning_rate": 0.003, "weight_decay": 0.01, "clip_norm": 1.0},
    "batch_size": 16,
    "autocast": "bfloat16",
    "seed": 0,
    "bits": {"context": CONTEXT, "stride": CONTEXT // 2},
}
EXCERPT = 20_000
"""characters of the test split, its first, whose bits are recorded too, so that a test can count them again"""
CHECKPOINT = Path(tempfile.gettempdir()) / "kdcourse_language_teacher.pt"


class Windows:
    """Batches without end: windows of the text that begin anywhere, and the token after each of theirs."""

    def __init__(self, tokens: Tensor, *, context: int, batch_size: int) -> None:
        self.tokens, self.context, self.batch_size = tokens, context, batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            first = torch.randint(len(self.tokens) - self.context, (self.batch_size, 1))
            window = self.tokens[first + torch.arange(self.context + 1)]
            yield window[:, :-1], window[:, 1:]


def train_teacher(
    tokens: Tensor, vocabulary: Vocabulary, recipe: dict = RECIPE, checkpoint: Path | None = None
) -> Decoder:
    """The teacher by the recipe; its weights are float32, what it computes while it trains is bfloat16."""
    network = Decoder(len(vocabulary), **recipe["network"], seed=recipe["seed"])
    windows = Windows(tokens, context=network.context, batch_size=recipe["batch_size"])
    with torch.autocast("cpu", getattr(torch, recipe["autocast"])):
        fit(network, windows, **recipe["training"], seed=recipe["seed"], checkpoint=checkpoint)
    return network


def joined(speeches: tuple[Speech, ...]) -> str:
    """The text that is read: the speeches one after the other."""
    return "\n".join(each.text for each in speeches)


def main() -> None:
    speeches = load_speeches()
    vocabulary = Vocabulary.of(*map(joined, speeches))
    teacher = train_teacher(vocabulary.encode(joined(speeches.train)), vocabulary, checkpoint=CHECKPOINT)
    texts = {split: vocabulary.encode(joined(getattr(speeches, split))) for split in ("validation", "test")}
    texts["excerpt of test"] = texts["test"][:EXCERPT]
    bits = {name: round(bits_per_token(teacher, tokens, **RECIPE["bits"]), 4) for name, tokens in texts.items()}
    print(f"bits per character: {bits}")
    save_model(teacher, DATA / "language_teacher.safetensors")
    record = {
        "recipe": RECIPE,
        "parameters": count_parameters(teacher),
        "characters": vocabulary.characters,
        "bits_per_character": bits,
        "environment": store.environment(),
    }
    store.write_json(DATA / "language_teacher.json", record)
    CHECKPOINT.unlink()


if __name__ == "__main__":
    main()
