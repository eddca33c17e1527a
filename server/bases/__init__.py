"""Base models: fetch one, keep it in the cache, open it for serving."""

from server.bases.opening import Base, open_base
from server.bases.pull import pull

__all__ = ["Base", "open_base", "pull"]
