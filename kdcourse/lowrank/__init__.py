"""Low rank: a layer as two thin ones, and low-rank updates of frozen weights (LoRA)."""

from .adapters import LowRankUpdate, add_lora, lora_parameters, merge_lora
from .factors import break_even_rank, factorize

__all__ = ["LowRankUpdate", "add_lora", "break_even_rank", "factorize", "lora_parameters", "merge_lora"]
