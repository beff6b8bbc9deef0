"""Networks that other people use, from packages: a sentence encoder, a voice detector, a recogniser of file types.

The packages are read and never imported. Each file is checked against its SHA-256.
"""

from .encoder import SentenceEncoder, sentence_encoder, shallower
from .file_types import file_bytes_read, file_type_classifier, file_type_labels
from .voice import VoiceDetector, voice_detector
from .wordpiece import WordPiece, word_pieces

__all__ = [
    "SentenceEncoder",
    "VoiceDetector",
    "WordPiece",
    "file_bytes_read",
    "file_type_classifier",
    "file_type_labels",
    "sentence_encoder",
    "shallower",
    "voice_detector",
    "word_pieces",
]
