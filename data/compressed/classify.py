"""Classify the digits in a file of images, without PyTorch: python classify.py MODEL.onnx IMAGES.npy"""

import os
import sys

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # or onnxruntime reports to its maker
import onnxruntime  # noqa: E402


def classify(model, images):
    """Digits (N,) in images (N, 28, 28), bright on dark: uint8 from 0 to 255, or floats from 0 to 1."""
    pixels = images.reshape(-1, 1, 28, 28).astype(np.float32)
    if images.dtype == np.uint8:
        pixels /= 255
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": pixels})
    return logits.argmax(axis=1)


if __name__ == "__main__":
    print(*classify(sys.argv[1], np.load(sys.argv[2])), sep="\n")
