"""Texts to vectors, by the base or an adapter."""

from .body import EmbeddingBody
from .routes import EmbeddingRoutes

__all__ = ["EmbeddingBody", "EmbeddingRoutes"]
