"""Proving that adapters answer here as they did when they were trained."""

from .gate import ReceiptGate
from .host import EngineHost
from .rendering import prompt_text

__all__ = ["EngineHost", "ReceiptGate", "prompt_text"]
