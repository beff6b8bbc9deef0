"""What an image classifier does when its images get worse: corruptions, and attacks that look for the worst.

Images are (N, 1, H, W) in [0, 1] and stay in it. What is drawn is drawn from ``seed``: every network sees the same.
"""

from .attacks import Loss, margin_loss, pgd_attack, straight_through, withstands
from .corruptions import CORRUPTIONS, add_noise, blur, cover, fade

__all__ = [
    "CORRUPTIONS",
    "Loss",
    "add_noise",
    "blur",
    "cover",
    "fade",
    "margin_loss",
    "pgd_attack",
    "straight_through",
    "withstands",
]
