"""The gated activation: the plain-torch function that the CPU runs is the twin."""

from server.kernels.activation import silu_mul

__all__ = ["silu_mul"]
