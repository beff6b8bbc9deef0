"""A small language model: one decoder, how it writes text, and how many bits it needs for a text.

Tokens are int64 (N, L), logits (N, L, V). The logits at position i predict token i + 1: `kdcourse.losses.sequences`.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._base.checks import check_count, check_logits, check_no_nan, check_not_negative
from ._base.modes import in_eval_mode
from .seeds import seeded

__all__ = ["Block", "Cache", "Decoder", "bits_per_byte", "bits_per_token", "generate"]

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values (N, heads, positions, width / heads) of each layer, for the tokens read so far."""


class Block(nn.Module):
    """One layer: x + attention(norm(x)), then x + mlp(norm(x)). Attention looks at no later position.

    >>> found, (keys, values) = Block(8, heads=2)(torch.zeros(1, 5, 8))
    >>> found.shape, keys.shape
    (torch.Size([1, 5, 8]), torch.Size([1, 2, 5, 4]))
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        check_count("width", width, least=1)
        check_count("heads", heads, least=1)
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got {width} and {heads}")
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The output (N, L, width), and the keys and values of ``past`` and these L positions."""
        normed = self.norm1(x)
        query, key, value = (self._split(layer(normed)) for layer in (self.query, self.key, self.value))
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        new, seen = query.shape[2], key.shape[2]
        visible = torch.ones(new, seen, dtype=torch.bool, device=x.device).tril(seen - new)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x)))), (key, value)

    def _split(self, x: Tensor) -> Tensor:
        count, length, width = x.shape  # to (N, heads, L, width / heads)
        return x.reshape(count, length, self.heads, width // self.heads).transpose(1, 2)


class Decoder(nn.Module):
    """A language model: embeddings of token and position, ``layers`` times `Block`, a norm, a linear layer to V logits.

    It has 12 · layers · width² weights in the blocks' matrices. ``context`` is the longest sequence that it reads. The
    same ``seed`` gives the same weights and leaves the global random state untouched.

    Raises ``ValueError`` for sizes that do not fit; on a call, for no tokens, for more than ``context``, for a token
    that is not one of the V, and ``TypeError`` for tokens that are not int64.

    Source: Radford et al. 2019 (GPT-2), section 2.3; its norms come first in each block. Differs from the paper: the
    last layer has weights of its own.

    >>> model = Decoder(30, width=16, layers=2, heads=2, context=32)
    >>> model(torch.zeros(4, 10, dtype=torch.int64)).shape
    torch.Size([4, 10, 30])
    """

    def __init__(
        self, vocabulary: int, *, width: int = 64, layers: int = 2, heads: int = 2, context: int = 128, seed: int = 0
    ) -> None:
        super().__init__()
        sizes = {"vocabulary": vocabulary, "width": width, "layers": layers, "heads": heads, "context": context}
        for name, size in sizes.items():
            check_count(name, size, least=2 if name == "vocabulary" else 1)
        self.context, self.heads = context, heads
        self.architecture: dict[str, Any] = {"name": "decoder", **sizes}  # `kdcourse.models.save_model` keeps it
        with seeded(seed):
            self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            self.blocks = nn.ModuleList(Block(width, heads=heads) for _ in range(layers))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
            for name, weight in self.named_parameters():
                if weight.ndim == 2:  # what adds to the residual stream is smaller, so that depth does not widen it
                    adds = name.endswith(("out.weight", "down.weight"))
                    nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if adds else 0.02)
                elif name.endswith("bias"):
                    nn.init.zeros_(weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits (N, L, V) of the tokens (N, L)."""
        return self.read(tokens)[0]

    def read(self, tokens: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Logits of ``tokens`` that follow those in ``cache``, and the cache with these.

        The same as a full forward up to rounding: matrix products of other shapes add up in another order. Raises
        ``ValueError`` for a cache of another model or of other sequences.
        """
        start = 0 if cache is None else self._length(tokens, cache)
        self._check(tokens, start)
        x = self.token(tokens) + self.position.weight[start : start + tokens.shape[1]]
        grown: Cache = []
        for number, block in enumerate(self.blocks):
            x, pair = block(x, None if cache is None else cache[number])
            grown.append(pair)
        return self.head(self.norm(x)), grown

    def _length(self, tokens: Tensor, cache: Cache) -> int:
        """How many tokens the cache stands for."""
        _check_tokens(tokens)
        width, heads = self.position.embedding_dim, self.heads
        length = cache[0][0].shape[2] if cache else 0
        shape = (len(tokens), heads, length, width // heads)
        parts = [part for pair in cache for part in pair]
        if len(cache) != len(self.blocks) or any(part.shape != shape for part in parts):
            raise ValueError(
                f"the cache is of another model or of other sequences: it must have keys and values {shape} of "
                f"{len(self.blocks)} layers, as read() returned them"
            )
        return length

    def _check(self, tokens: Tensor, start: int) -> None:
        _check_tokens(tokens)
        if start + tokens.shape[1] > self.context:
            raise ValueError(
                f"{start + tokens.shape[1]} tokens are more than the context of {self.context}: cut the sequence, or "
                "make the model with a longer context"
            )
        if not torch.compiler.is_compiling():
            low, high = tokens.aminmax()
            if low < 0 or high >= self.token.num_embeddings:
                wrong = int(low if low < 0 else high)
                raise ValueError(f"token {wrong} is not one of the {self.token.num_embeddings} of the vocabulary")


def _check_tokens(tokens: Tensor) -> None:
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64:
        found = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
        raise TypeError(f"tokens must be an int64 tensor, got {found}: encode the text first")
    if tokens.ndim != 2 or tokens.numel() == 0:
        raise ValueError(
            f"tokens must be (N, L), N and L at least 1, got {tuple(tokens.shape)}: a model predicts from one token or "
            "more; of a single sequence, pass tokens[None]"
        )


@torch.no_grad()
def generate(
    model: Decoder,
    prompt: Tensor,
    *,
    length: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    cached: bool = True,
) -> Tensor:
    """``prompt`` (N, L) followed by ``length`` tokens drawn one by one from softmax(logits / T), (N, L + length).

    T = 0 takes the most probable token, the first of equal ones. The same ``generator`` gives the same tokens.
    ``cached=False`` reads the whole sequence for every token: the same but for rounding, and slower. The model is in
    eval mode meanwhile.

    A logit of -inf is a token that is never written. Raises ``ValueError`` for an empty prompt, for one that with
    ``length`` is longer than the model's context, and for logits with NaN or infinity; nothing is written that the
    model could not read.

    >>> model = Decoder(30, width=16, context=32)
    >>> generate(model, torch.tensor([[3, 1]]), length=5, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([1, 7])
    """
    if not (hasattr(model, "read") and hasattr(model, "context")):
        raise TypeError(
            f"generate() needs a Decoder, or a network with its read() and context, got {type(model).__name__}"
        )
    _check_tokens(prompt)
    check_count("length", length, least=0)
    check_not_negative("temperature", temperature)
    if prompt.shape[1] + length > model.context:
        raise ValueError(
            f"a prompt of {prompt.shape[1]} tokens and {length} more are longer than the context of {model.context}: "
            "shorten the prompt or generate fewer"
        )
    tokens, cache = prompt, None
    with in_eval_mode(model):
        for _ in range(length):
            unread = tokens if cache is None else tokens[:, -1:]
            logits, grown = model.read(unread, cache)
            cache = grown if cached else None
            tokens = torch.cat([tokens, _drawn(logits[:, -1], temperature, generator)], dim=1)
    return tokens


def _drawn(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """One token for each row of ``logits`` (N, V), (N, 1)."""
    check_no_nan("what the model predicts", logits)
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    logits = logits.double()
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature  # the largest is 0 however small T is
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)


@torch.no_grad()
def bits_per_token(
    model: Callable[[Tensor], Tensor], tokens: Tensor, *, context: int, stride: int | None = None
) -> float:
    """Mean of -log₂ p(token | those before it) over all tokens of one sequence (L,) but its first.

    With a token a character these are bits per character. The text is read in windows of ``context`` tokens, the next
    ``stride`` tokens later (half a window by default); every token counts once, in the first window that has it, so
    that it is predicted from at least ``context`` - ``stride`` tokens after the first window. Smaller strides give
    lower values and take longer: name both where values are compared. Computed in float64 from the logits.

    Raises ``ValueError`` for fewer than two tokens, a stride outside 1 to ``context`` - 1, a model that does not return
    logits (1, L, V) for tokens (1, L), a token that is not one of the V, and one of probability 0.

    >>> evenly = lambda tokens: torch.zeros(*tokens.shape, 8)  # eight tokens, all as probable
    >>> bits_per_token(evenly, torch.arange(8), context=4)
    3.0
    """
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64 or tokens.ndim != 1 or len(tokens) < 2:
        found = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise ValueError(f"need one sequence of two int64 tokens or more, (L,), got {found}")
    check_count("context", context, least=2)
    stride = max(1, context // 2) if stride is None else stride
    check_count("stride", stride, least=1)
    if stride >= context:
        raise ValueError(
            f"stride must be below the context of {context}, got {stride}: windows must overlap by a token"
        )
    nats, scored = 0.0, 1  # the tokens before `scored` have been counted; nothing predicts the first
    for start in range(0, max(1, len(tokens) - context + stride), stride):
        window = tokens[start : start + context]
        targets = window[scored - start :]
        log_probs = _logits(model, window)[scored - start - 1 : -1].double().log_softmax(dim=-1)
        nats -= log_probs.gather(-1, targets.unsqueeze(-1)).sum().item()
        scored = start + len(window)
    if not math.isfinite(nats):
        raise ValueError("the model gives a token of the text probability 0 or NaN: the number of bits is infinite")
    return nats / math.log(2) / (len(tokens) - 1)


def _logits(model: Callable[[Tensor], Tensor], window: Tensor) -> Tensor:
    with in_eval_mode(model) if isinstance(model, nn.Module) else nullcontext():
        found = model(window[None])
    check_logits("what the model returns", found)
    if found.ndim != 3 or found.shape[:2] != (1, len(window)):
        raise ValueError(
            f"the model returns {tuple(found.shape)} for tokens (1, {len(window)}): it must return logits "
            f"(1, {len(window)}, V), of a tuple or dict pass a function that picks them"
        )
    low, high = window.aminmax()
    if low < 0 or high >= found.shape[2]:
        raise ValueError(
            f"token {int(low if low < 0 else high)} is not one of the {found.shape[2]} of the model's logits"
        )
    return found[0]


class Encoder(Protocol):
    """What turns a text into tokens, and says how many bytes tokens stand for: `kdcourse.text`."""

    def encode(self, text: str) -> Tensor: ...

    def bytes_of(self, tokens: Tensor) -> int: ...


def bits_per_byte(
    model: Callable[[Tensor], Tensor], vocabulary: Encoder, text: str, *, context: int, stride: int | None = None
) -> float:
    """Bits of ``text`` under the model per byte of its UTF-8: the unit in which different vocabularies can be compared.

    The sum of `bits_per_token` over the bytes that the tokens predicted stand for: all but the first token's.

    >>> from kdcourse.text import Bytes
    >>> evenly = lambda tokens: torch.zeros(*tokens.shape, 256)
    >>> round(bits_per_byte(evenly, Bytes(), "naïve", context=4), 6)
    8.0
    """
    tokens = vocabulary.encode(text)
    bits = bits_per_token(model, tokens, context=context, stride=stride) * (len(tokens) - 1)
    return bits / vocabulary.bytes_of(tokens[1:])
