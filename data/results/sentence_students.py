"""A transformer of two layers distilled from all-MiniLM-L6-v2, the teacher in 8-bit integers, and what each costs.

A student learns from random sentences of the training speeches, which are shorter than paragraphs: many targets for
the same work. It is judged on the paragraphs of unseen speeches, as in `sentence_tables`. Its loss is that of the
tables plus a hint: the squared difference of its last hidden states from its teacher's, at every token. It starts from
two layers of its teacher or from random layers; the token table stays the teacher's and is not trained. A seed gives
the batches and the random layers. The controls are the two layers without any training, and the student whose vectors
and hidden states are those of another sentence of the same length. Every arm has the same two tries of its learning
rate, one seed and a quarter of the sentences each, and uses the rate that is better on the validation speeches.

Times are medians for one paragraph of the median length, on one thread, in each of two runtimes, interleaved: calls one
by one, where each finds the caches full of another's weights, and paragraphs in a row, of which the mean is taken.
Cutting a text into tokens is timed beside them: it costs all arms the same.
"""

import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from kdcourse._base.files import read_whole, write_whole
from kdcourse.export import latency, session, to_onnx
from kdcourse.metrics import count_macs
from kdcourse.pretrained import SentenceEncoder, sentence_encoder, shallower, word_pieces
from kdcourse.seeds import seeded

sys.path.insert(0, str(Path(__file__).resolve().parent))
import sentence_tables  # noqa: E402 (lies beside this file)
import sentence_vectors  # noqa: E402
import store  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
FOLDER = sentence_vectors.ROOT / "build" / "real_models"
SEEDS = range(5)
CONTROL_SEEDS = 3  # of the same
LAYERS = (0, 5)
ARMS = ("teacher's layers", "random layers", "permuted teacher")
SENTENCES = 10_000
RATES = (5e-4, 1e-3)
IN_A_ROW = 20
RECIPE: dict[str, Any] = {
    "teacher": "all-MiniLM-L6-v2",
    "sentences": {"random ones": SENTENCES, "cut": sentence_tables.RECIPE["table"]["sentences"]},
    "student": {"layers": LAYERS, "trained": "all but the token table"},
    "training": {"epochs": 1, "batch": 16, "optimizer": "AdamW", "schedule": "linear from 0 in 5 %, then to 0",
                 "loss": "as in sentence_tables + 3 × hint", "clip_norm": 1.0, "precision": "bfloat16 autocast",
                 "hint": "squared difference of the last hidden states, part of the teacher's mean square"},
    "tries": {"learning_rate": RATES, "sentences": SENTENCES // 4, "seed": "one for all"},
    "int8": "onnxruntime.quantization.quantize_dynamic: weights in 8 bits, activations rounded as they come",
    "time": {"tokens": "the median of the test paragraphs", "threads": 1, "in a row": IN_A_ROW},
}  # fmt: skip


class Table(nn.Module):
    """A static encoder as a network, so that it runs where the others run. Its rows of special tokens are zero."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        special = torch.arange(len(rows)) <= sentence_tables.SPECIAL
        self.rows = nn.Embedding.from_pretrained(rows.masked_fill(special[:, None], 0.0))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.rows(tokens).sum(dim=1), dim=1)


class Texts(NamedTuple):
    """Tokens (N, 128), teacher's vectors (N, 384), its last hidden states (T, 384), where each text's begin (N,)."""

    tokens: Tensor
    vectors: Tensor
    hidden: Tensor
    begins: Tensor

    def hints(self, rows: Tensor) -> Tensor:
        lengths = (self.tokens[rows] != 0).sum(dim=1)
        ends = self.begins[rows] + lengths
        return torch.cat([self.hidden[a:b] for a, b in zip(self.begins[rows].tolist(), ends.tolist(), strict=True)])

    def permuted(self) -> "Texts":
        """Each text with the teacher of another one of the same length, if there is one."""
        lengths = (self.tokens != 0).sum(dim=1)
        order, others = torch.randperm(len(lengths)), torch.empty_like(lengths)
        for length in lengths.unique():
            rows = order[lengths[order] == length]
            others[rows] = rows.roll(1)
        return self._replace(vectors=self.vectors[others], begins=self.begins[others])


@cache
def texts() -> Texts:
    """Random sentences; the teacher's hidden states are computed once and kept beside its vectors."""
    _, everything, vectors, _ = sentence_tables.sentences()
    with seeded(0):
        chosen = torch.randperm(len(everything))[:SENTENCES]
    tokens, path = everything[chosen], FOLDER / f"hidden-{SENTENCES}.safetensors"
    lengths = (tokens != 0).sum(dim=1)
    begins = lengths.cumsum(0) - lengths
    if not path.exists():
        hidden, teacher = torch.empty(int(lengths.sum()), 384, dtype=torch.bfloat16), sentence_encoder()
        for rows in tqdm(lengths.argsort().split(32), desc="hidden states"):
            with torch.inference_mode(), quick():
                found = last_hidden(teacher, tokens[rows, : lengths[rows].max()])
            for row, states in zip(rows.tolist(), found, strict=True):
                hidden[begins[row] : begins[row] + lengths[row]] = states[: lengths[row]]
        write_whole(path, save({"hidden": hidden}))
    return Texts(tokens, vectors[chosen], load(read_whole(path))["hidden"], begins)


def last_hidden(encoder: SentenceEncoder, tokens: Tensor) -> Tensor:
    """What the encoder's vector is the mean of: (N, L, 384)."""
    found: list[Tensor] = []
    handle = encoder.layers[-1].register_forward_hook(lambda layer, inputs, output: found.append(output))
    try:
        encoder(tokens)
    finally:
        handle.remove()
    return found[0]


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Half precision, and attention without the fused kernel, whose gradient is slow on short texts."""
    with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield


def new_student(arm: str, seed: int) -> SentenceEncoder:
    student = shallower(sentence_encoder(), LAYERS)
    if arm == "random layers":
        fresh = SentenceEncoder(layers=len(LAYERS), seed=seed)
        student.layers.load_state_dict(fresh.layers.state_dict())
    student.token.requires_grad_(False)
    return student


def batches(tokens: Tensor, size: int) -> list[Tensor]:
    """Random rows, of similar length within each batch: little padding."""
    lengths = (tokens != 0).sum(dim=1)
    order = torch.randperm(len(tokens))
    rows = [part[lengths[part].argsort()].split(size) for part in order.split(16 * size)]
    flat = [part for parts in rows for part in parts]
    return [flat[each] for each in torch.randperm(len(flat)).tolist()]


def trained(arm: str, seed: int, rate: float, sentences: int) -> SentenceEncoder:
    student, settings = new_student(arm, seed), RECIPE["training"]
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=rate)
    steps, step = math.ceil(sentences / settings["batch"]), 0
    with seeded(seed):
        given = texts().permuted() if arm == "permuted teacher" else texts()
        for rows in batches(given.tokens[:sentences], settings["batch"]):
            loss = student_loss(student, given, rows)
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1 - step / steps, (step + 1) / (0.05 * steps))
            optimizer.zero_grad()
            with sdpa_kernel(SDPBackend.MATH):
                loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), settings["clip_norm"])
            optimizer.step()
            step += 1
    return student.eval()


def student_loss(student: SentenceEncoder, given: Texts, rows: Tensor) -> Tensor:
    tokens = given.tokens[rows]
    tokens = tokens[:, : (tokens != 0).sum(dim=1).max()]
    visible = tokens != 0
    with quick():
        states = last_hidden(student, tokens)
    states, hints = states.float(), given.hints(rows).float()
    hint = (states[visible] - hints).square().mean() / hints.square().mean()
    return sentence_tables.table_loss((states * visible.unsqueeze(-1)).sum(dim=1), given.vectors[rows]) + 3 * hint


def embed_by(run: Callable[[Tensor], Tensor]) -> sentence_tables.Embed:
    """The vectors of a split by a network or a session, 64 paragraphs at a time, of similar length."""

    def embed(split: str) -> Tensor:
        tokens = sentence_vectors.load(split).tokens
        order = (tokens != 0).sum(dim=1).argsort()
        with torch.inference_mode():
            parts = [run(tokens[rows]) for rows in order.split(64)]
        return torch.cat(parts)[order.argsort()]

    return embed


def weights(network: nn.Module) -> int:
    """All of them: what is frozen is stored, too."""
    return sum(value.numel() for value in network.parameters())


def measure_rate(arm: str, rate: float) -> dict[str, Any]:
    student = trained(arm, 100, rate, RECIPE["tries"]["sentences"])
    return {"validation": sentence_tables.spearman(embed_by(student), "validation")}


def measure_student(arm: str, seed: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    student = new_student(arm, 0).eval()
    if seed is not None:
        (found["chosen"],) = store.chosen(RESULTS, arm, ("rate",), part="rate")
        student = trained(arm, seed, found["chosen"], SENTENCES)
        found["validation"] = sentence_tables.spearman(embed_by(student), "validation")
    return found | {"spearman": sentence_tables.spearman(embed_by(student), "test"), "weights": weights(student)}


def int8_file(length: int) -> Path:
    """The teacher for texts of ``length`` tokens, its matrices in 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    FOLDER.mkdir(parents=True, exist_ok=True)
    plain, path = FOLDER / f"teacher-{length}.onnx", FOLDER / f"teacher-{length}-int8.onnx"
    if not plain.exists():
        to_onnx(sentence_encoder(), plain, sentence_vectors.load("test").tokens[:2, :length])
    quantize_dynamic(plain, path, weight_type=QuantType.QInt8, per_channel=True)
    return path


def measure_int8() -> dict[str, Any]:
    path = int8_file(sentence_vectors.LENGTH)
    plain = path.with_name(path.name.replace("-int8", ""))
    sizes = {"bytes": path.stat().st_size, "float bytes": plain.stat().st_size}
    return {"spearman": sentence_tables.spearman(embed_by(session(path)), "test")} | sizes


def median_length() -> int:
    return int((sentence_vectors.load("test").tokens != 0).sum(dim=1).median())


def measure_speed() -> dict[str, Any]:
    test, length = sentence_vectors.load("test"), median_length()
    long = (test.tokens[:, length - 1] != 0).nonzero().flatten()[:IN_A_ROW]
    tokens = test.tokens[long, :length].split(1)  # those longer than the median are cut
    networks: dict[str, nn.Module] = {
        "teacher": sentence_encoder(),
        "two layers": new_student("teacher's layers", 0).eval(),
        "table": Table(torch.from_numpy(np.array(sentence_tables.token_vectors()))),
    }
    runs: dict[str, Callable[[Tensor], object]] = {f"{name}, torch": network for name, network in networks.items()}
    found: dict[str, Any] = {"tokens": length}
    for name, network in networks.items():
        path = FOLDER / f"{name.replace(' ', '-')}-{length}.onnx"
        to_onnx(network, path, torch.cat(tokens[:2]))
        runs[f"{name}, onnxruntime"] = session(path)
        found |= {f"{name}, weights": weights(network), f"{name}, bytes": path.stat().st_size}
        found[f"{name}, MACs"] = count_macs(network, tokens[0])
    runs["int8 teacher, onnxruntime"] = session(int8_file(length))
    one = {name: partial(run, tokens[0]) for name, run in runs.items()}
    several = {name: partial(in_a_row, run, tokens) for name, run in runs.items()}
    texts_cut, encode = [test.texts[row] for row in long.tolist()], word_pieces().encode
    one["cutting into tokens"] = partial(encode, texts_cut[0])
    several["cutting into tokens"] = partial(in_a_row, encode, texts_cut)
    found |= {f"{name}, ms": each.median for name, each in latency(one, repeats=40).items()}
    times = latency(several, repeats=10, warm_up=1)
    return found | {f"{name}, in a row, ms": each.median / IN_A_ROW for name, each in times.items()}


def in_a_row(run: Callable[[Any], object], inputs: Iterable[Any]) -> None:
    for each in inputs:
        run(each)


def measure(part: str, arm: str = "", seed: int | None = None, rate: float = 0.0) -> dict[str, Any]:
    if part == "rate":
        return measure_rate(arm, rate)
    if part == "student":
        return measure_student(arm, seed)
    return measure_int8() if part == "int8" else measure_speed()


def wanted() -> list[dict[str, Any]]:
    rates = [{"part": "rate", "arm": arm, "rate": rate} for arm in ARMS for rate in RATES]
    students: list[dict[str, Any]] = [{"part": "student", "arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS]
    others = [{"part": "speed"}, {"part": "int8"}, {"part": "student", "arm": "two layers, not trained"}]
    return others + rates + [each for each in students if each["arm"] == ARMS[0] or each["seed"] < CONTROL_SEEDS]


def main() -> None:
    torch.set_num_threads(1)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
