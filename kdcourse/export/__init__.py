"""ONNX files, int8 ones among them, run by onnxruntime, and latencies that can be compared."""

from .few_bits import pack_matmuls
from .quantizing import quantize_static
from .running import file_bytes, run, session
from .timing import Latency, latency
from .writing import to_onnx

__all__ = ["Latency", "file_bytes", "latency", "pack_matmuls", "quantize_static", "run", "session", "to_onnx"]
