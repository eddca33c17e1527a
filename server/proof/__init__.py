"""Proving that adapters answer here as they did when they were trained."""

from .book import ProofBook, engine_digest
from .gate import ReceiptGate
from .host import EngineHost
from .rendering import prompt_text
from .signatures import SignatureGuard

__all__ = [
    "EngineHost",
    "ProofBook",
    "ReceiptGate",
    "SignatureGuard",
    "engine_digest",
    "prompt_text",
]
