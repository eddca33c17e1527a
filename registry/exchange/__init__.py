"""Adapters from elsewhere and to elsewhere: the Hub, folders, OCI layouts."""

from .exporting import Exported, export
from .importing import import_from_hub

__all__ = ["Exported", "export", "import_from_hub"]
