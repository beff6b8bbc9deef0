"""The cellar: what every room of `kdcourse` may use. Needs PyTorch and nothing else of `kdcourse`."""
