"""Static sentence encoders of notebook 19: a table of token vectors in place of a transformer, and its rivals.

All are fitted on the 9,587 paragraphs of the training speeches, or on random ones of them, and judged on all
paragraphs of speeches that nobody has seen: Spearman's correlation of their similarities with the teacher's, and the
accuracy of a linear classifier of six eras on their vectors, fitted on the same paragraphs as they were.

A vector of a table is the mean of its rows over a paragraph's tokens, scaled to length 1. A table starts from a linear
map, fitted to the paragraphs' vectors, of what the teacher has for each token: its token vector and its output for
that token alone. It is trained on the sentences of the paragraphs, which are shorter and four times as many, then on
the paragraphs. No label is used for that.

What is trained has five seeds, for the batches, and two tries of its learning rate; what is not has one record. The
better try is chosen by Spearman's correlation on the paragraphs of the validation speeches, and the classifier's
strength by its accuracy. One arm is a bound, not an encoder: a table fitted on the very paragraphs it is judged on.
"""

import re
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from scipy.stats import rankdata
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import RidgeClassifier
from torch import Tensor

from kdcourse.pretrained import sentence_encoder
from kdcourse.seeds import seeded

sys.path.insert(0, str(Path(__file__).resolve().parent))
import sentence_vectors  # noqa: E402 (lies beside this file)
import store  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
SIZES = (1024, 2048, 4096, 9587)
WIDTH = 384
RATES = (1e-3, 2e-3)
STRENGTHS = (0.1, 1.0, 10.0)
PULLS = (0.3, 1.0)
RIDGE = 0.3  # of the map that tables start from
STAGES = (("sentences", 5, 1.0), ("paragraphs", 3, 0.5))  # texts, epochs, part of the learning rate
SENTENCE = 20  # least characters of a sentence
SPECIAL = 103  # the last of the special tokens, which a table leaves out
RECIPE: dict[str, Any] = {
    "teacher": "all-MiniLM-L6-v2",
    "paragraphs": {"least characters": sentence_vectors.LEAST, "most tokens": sentence_vectors.LENGTH,
                   "train": SIZES[-1]},
    "eras": "six of 26 years, 1790 to 1945",
    "table": {"width": WIDTH, "batch": 256, "stages": STAGES, "ridge of its start": RIDGE,
              "sentences": f"{SENTENCE} characters or more, cut after . ; ? !",
              "start": "the teacher's token vectors, scaled to length 1, and its outputs for single tokens, side by "
                       "side, times the matrix that fits the vectors of the paragraphs",
              "loss": "squared difference of the cosines of all pairs, plus 1 - cosine to the teacher's vector",
              "optimizer": "AdamW", "schedule": "linear to 0"},
    "tries": {"learning_rate": RATES, "ridge": STRENGTHS, "least squares": PULLS},
}  # fmt: skip
Embed = Callable[[str], Any]
"""From the name of a split to its vectors (N, D), a tensor or a sparse matrix."""


@cache
def counts(split: str) -> Any:
    return counted(sentence_vectors.load(split).tokens)


def counted(tokens: Tensor) -> Any:
    """How often each token is in each text, a sparse matrix (N, 30,522)."""
    rows, columns = (tokens > SPECIAL).nonzero(as_tuple=True)
    ones = np.ones(len(rows), dtype=np.float32)
    return csr_matrix((ones, (rows.numpy(), tokens[rows, columns].numpy())), shape=(len(tokens), 30_522))


@cache
def sentences() -> tuple[Any, Tensor, Tensor, Tensor]:
    """Of the training paragraphs' sentences: counts, tokens, the teacher's vectors, and the paragraph they are of."""
    pairs = [(number, sentence) for number, text in enumerate(sentence_vectors.load("train").texts)
             for sentence in re.split(r"(?<=[.;?!])\s+", text) if len(sentence) >= SENTENCE]  # fmt: skip
    tokens = sentence_vectors.padded([sentence for _, sentence in pairs])
    owners = torch.tensor([number for number, _ in pairs])
    return counted(tokens), tokens, sentence_vectors.teacher_vectors(tokens), owners


def texts_of(kind: str, paragraphs: int) -> tuple[Any, Tensor]:
    """The counts and the teacher's vectors of the first paragraphs, or of their sentences."""
    if kind == "paragraphs":
        return counts("train")[:paragraphs], sentence_vectors.load("train").vectors[:paragraphs]
    sparse, _, vectors, owners = sentences()
    kept = owners < paragraphs
    return sparse[kept.numpy()], vectors[kept]


def of_table(table: np.ndarray) -> Embed:
    """Mean of the rows of a paragraph's tokens; its length does not matter."""
    return lambda split: torch.from_numpy(np.asarray(counts(split) @ table, dtype=np.float32))


# --- what is not trained ----------------------------------------------------------------------------------------------


@cache
def token_vectors() -> np.ndarray:
    weight = sentence_encoder().token.weight.detach()
    return np.asarray(F.normalize(weight, dim=1).numpy())


@cache
def single_outputs() -> np.ndarray:
    """The teacher's vector of each token alone, between [CLS] and [SEP]: (30,522, 384)."""
    tokens = torch.arange(30_522).clamp(min=1)  # padding alone is no text
    texts = torch.stack([torch.full_like(tokens, 101), tokens, torch.full_like(tokens, 102)], dim=1)
    teacher = sentence_encoder()
    with torch.inference_mode():
        return np.asarray(torch.cat([teacher(part) for part in texts.split(512)]).numpy())


def unit_counts(sparse: Any) -> Any:
    return sparse.multiply(1 / np.sqrt(sparse.multiply(sparse).sum(axis=1))).tocsr()


def mapped(sparse: Any, targets: np.ndarray) -> np.ndarray:
    """The table E A, E (V, 768) what the teacher has for each token; A by ridge, so that means of rows fit targets."""
    known = np.hstack([token_vectors(), single_outputs()])
    x = np.asarray(unit_counts(sparse) @ known)
    return np.asarray(known @ np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1], dtype=np.float32), x.T @ targets))


def frequencies(paragraphs: int) -> np.ndarray:
    found = np.asarray(counts("train")[:paragraphs].sum(axis=0)).ravel()
    return np.asarray(found / found.sum(), dtype=np.float32)


def tf_idf(paragraphs: int) -> Embed:
    fitted = TfidfTransformer(sublinear_tf=True).fit(counts("train")[:paragraphs])
    return lambda split: fitted.transform(counts(split))


def tf_idf_svd(paragraphs: int) -> Embed:
    sparse = tf_idf(paragraphs)
    fitted = TruncatedSVD(WIDTH, random_state=0).fit(sparse("train")[:paragraphs])
    return lambda split: torch.from_numpy(fitted.transform(sparse(split)).astype(np.float32))


def least_squares(paragraphs: int | None, strength: float, split: str = "train") -> Embed:
    """The table nearest to the teacher's token vectors of those that fit its paragraph vectors: ridge, in closed form.

    For X (N, V), the tokens' counts in each paragraph scaled to length 1: W₀ + Xᵀ (X Xᵀ + λ)⁻¹ (Y - X W₀).
    """
    x, start = unit_counts(counts(split)[:paragraphs]), 0.5 * token_vectors()
    targets = sentence_vectors.load(split).vectors[:paragraphs].numpy()
    gram = (x @ x.T).toarray() + strength * np.eye(len(targets), dtype=np.float32)
    return of_table(start + x.T @ np.linalg.solve(gram, targets - x @ start))


FIXED: dict[str, Callable[[int], Embed]] = {
    "teacher": lambda paragraphs: lambda split: sentence_vectors.load(split).vectors,
    "teacher's token vectors": lambda paragraphs: of_table(token_vectors()),
    "the same, rare tokens weighted": lambda paragraphs: of_table(
        token_vectors() * (1e-3 / (1e-3 + frequencies(paragraphs)))[:, None]
    ),
    "teacher's outputs for single tokens": lambda paragraphs: of_table(single_outputs()),
    "linear map, the start": lambda paragraphs: of_table(
        mapped(counts("train")[:paragraphs], sentence_vectors.load("train").vectors[:paragraphs].numpy())
    ),
    "bound: fitted on the test paragraphs": lambda paragraphs: least_squares(None, 0.01, "test"),
    "random token vectors": lambda paragraphs: of_table(
        np.random.default_rng(0).standard_normal((30_522, WIDTH), dtype=np.float32)
    ),
    "TF-IDF": tf_idf,
    "TF-IDF and SVD": tf_idf_svd,
    "least squares": lambda paragraphs: max(
        (least_squares(paragraphs, strength) for strength in PULLS),
        key=lambda embed: spearman(embed, "validation"),
    ),
}

# --- what is trained --------------------------------------------------------------------------------------------------


def trained(paragraphs: int, seed: int, rate: float, *, arm: str) -> Embed:
    """By the stages. The rows of tokens that no text contains stay as they started."""
    with seeded(seed):
        texts = {kind: texts_of(kind, paragraphs) for kind in ("paragraphs", "sentences")}
        if arm == "permuted teacher":
            texts = {kind: (sparse, vectors[torch.randperm(len(vectors))]) for kind, (sparse, vectors) in texts.items()}
        table = mapped(texts["paragraphs"][0], texts["paragraphs"][1].numpy())
        for kind, epochs, part in STAGES:
            kind = "paragraphs" if arm == "without sentences" else kind
            table = stage(table, *texts[kind], epochs=epochs, rate=part * rate)
    return of_table(table)


def stage(table: np.ndarray, sparse: Any, targets: Tensor, *, epochs: int, rate: float) -> np.ndarray:
    used = np.flatnonzero(np.asarray(sparse.sum(axis=0)).ravel())
    x, rows = sparse[:, used].tocsr(), torch.from_numpy(table[used]).requires_grad_()
    optimizer = torch.optim.AdamW([rows], lr=rate, weight_decay=0.0, fused=True)
    batch = RECIPE["table"]["batch"]
    steps, step = epochs * -(-len(targets) // batch), 0
    for _ in range(epochs):
        for chosen in torch.randperm(len(targets)).split(batch):
            part = x[chosen.numpy()]
            sums = torch.from_numpy(part @ rows.detach().numpy()).requires_grad_()
            table_loss(sums, targets[chosen]).backward()
            rows.grad = torch.from_numpy(part.T @ sums.grad.numpy())  # ten times as fast as torch's sparse product
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - step / steps)
            optimizer.step()
            step += 1
    found = table.copy()
    found[used] = rows.detach().numpy()
    return found


def table_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared differences of the cosines of all pairs, and 1 - cosine to the teacher's own vector."""
    student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    pairs = (student @ student.T - teacher @ teacher.T).square().mean()
    return 10 * pairs + (1 - (student * teacher).sum(dim=1)).mean()


# --- how it is judged -------------------------------------------------------------------------------------------------


def similarities(vectors: Any) -> np.ndarray:
    """The cosines of all pairs."""
    dense = torch.from_numpy(vectors.toarray()) if hasattr(vectors, "toarray") else vectors
    found = F.normalize(dense.float(), dim=1)
    rows, columns = np.triu_indices(len(found), 1)
    return np.asarray((found @ found.T).numpy()[rows, columns])


@cache
def teacher_ranks(split: str) -> np.ndarray:
    return np.asarray(rankdata(similarities(sentence_vectors.load(split).vectors)))


def spearman(embed: Embed, split: str) -> float:
    return float(np.corrcoef(rankdata(similarities(embed(split))), teacher_ranks(split))[0, 1])


def era_accuracy(embed: Embed, paragraphs: int) -> float:
    """On the test speeches, of the linear classifier that is best on the validation speeches."""
    vectors = {split: unit(embed(split)) for split in ("train", "validation", "test")}
    eras = {split: sentence_vectors.load(split).eras.numpy() for split in vectors}
    fitted = [RidgeClassifier(alpha=strength).fit(vectors["train"][:paragraphs], eras["train"][:paragraphs])
              for strength in STRENGTHS]  # fmt: skip
    best = max(fitted, key=lambda each: each.score(vectors["validation"], eras["validation"]))
    return float(best.score(vectors["test"], eras["test"]))


def unit(vectors: Any) -> Any:
    return vectors if hasattr(vectors, "toarray") else F.normalize(vectors, dim=1).numpy()


def seen(embed: Embed, paragraphs: int = 1188) -> float:
    """Spearman's correlation on the first training paragraphs, as many as there are to validate."""
    found, teacher = embed("train")[:paragraphs], sentence_vectors.load("train").vectors[:paragraphs]
    ranks = [rankdata(similarities(vectors)) for vectors in (found, teacher)]
    return float(np.corrcoef(*ranks)[0, 1])


def judged(embed: Embed, paragraphs: int) -> dict[str, float]:
    return {"spearman": spearman(embed, "test"), "era accuracy": era_accuracy(embed, paragraphs)}


def measure(arm: str, paragraphs: int, seed: int | None = None) -> dict[str, Any]:
    if seed is None:
        return judged(FIXED[arm](paragraphs), paragraphs)
    make = partial(trained, paragraphs, seed, arm=arm)
    tries = [(spearman(embed, "validation"), rate, embed) for rate, embed in ((rate, make(rate)) for rate in RATES)]
    validation, rate, embed = max(tries, key=lambda each: each[0])
    found = {"chosen": rate, "tried": {str(rate): value for value, rate, _ in tries}, "validation": validation}
    return found | {"train": seen(embed, min(paragraphs, 1188))} | judged(embed, paragraphs)


def wanted() -> list[dict[str, Any]]:
    fixed = [{"arm": arm, "paragraphs": SIZES[-1]} for arm in FIXED]
    arms = [*(("distilled table", size) for size in reversed(SIZES)),
            ("permuted teacher", SIZES[-1]), ("without sentences", SIZES[-1])]  # fmt: skip
    return fixed + [{"arm": arm, "paragraphs": size, "seed": seed} for seed in SEEDS for arm, size in arms]


def main() -> None:
    torch.set_num_threads(1)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
