"""Attention of prompt chunks: the definition stands beside that of decoding."""

from server.kernels.triton.twins.attention import prefill_attention

__all__ = ["prefill_attention"]
