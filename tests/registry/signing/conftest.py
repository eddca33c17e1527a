"""A client of a served registry."""

from tests.registry.api.conftest import settings, url
from tests.registry.remote.conftest import remote

__all__ = ["remote", "settings", "url"]
