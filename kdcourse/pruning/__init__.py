"""Pruning: which weights to remove, keeping them removed, and what that saves. Needs nothing else of `kdcourse`."""

from .._base.weights import CoverageWarning, Masked
from .groups import Follower, Group, channel_groups
from .keeping import apply_masks, masks_of, remove_masks, rewind, snapshot
from .masks import (
    global_magnitude_masks,
    global_masks,
    layer_magnitude_masks,
    layer_sparsities,
    magnitude_mask,
    nm_mask,
    polynomial_sparsity,
    prunable_weights,
    random_mask,
    sparsity,
)
from .second_order import input_hessian, obs_costs, sparsegpt, wanda_mask
from .sensitivity import sensitivity_scan, taylor_scores
from .storage import break_even_sparsity, header_bytes, read_layer, storage_bytes, write_layer
from .structured import best_channels, channel_scores, mask_filters, prune_filters

__all__ = [
    "CoverageWarning",
    "Follower",
    "Group",
    "Masked",
    "apply_masks",
    "best_channels",
    "break_even_sparsity",
    "channel_groups",
    "channel_scores",
    "global_magnitude_masks",
    "global_masks",
    "header_bytes",
    "input_hessian",
    "layer_magnitude_masks",
    "layer_sparsities",
    "magnitude_mask",
    "mask_filters",
    "masks_of",
    "nm_mask",
    "obs_costs",
    "polynomial_sparsity",
    "prunable_weights",
    "prune_filters",
    "random_mask",
    "read_layer",
    "remove_masks",
    "rewind",
    "sensitivity_scan",
    "snapshot",
    "sparsegpt",
    "sparsity",
    "storage_bytes",
    "taylor_scores",
    "wanda_mask",
    "write_layer",
]
