"""Adapter residency: registry → disk → host memory → slot."""

from server.residency.residency import Residency
from server.residency.source import AdapterSource, RegistrySource

__all__ = ["AdapterSource", "RegistrySource", "Residency"]
