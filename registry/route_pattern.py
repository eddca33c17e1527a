"""Under what name a request is counted and traced."""

from __future__ import annotations

from starlette.routing import Mount
from starlette.types import Scope


def route_pattern(scope: Scope) -> str:
    """The pattern of the route that took the request, below the mounts it came through.

    "" where none did. What an app mounted below the route does not know goes by the mount alone.
    Paths would be names without end.
    """
    route = scope.get("route")
    if route is None:
        return ""
    root = scope.get("root_path", "")
    mounts: str = root.removeprefix(scope.get("app_root_path", root))
    return mounts if isinstance(route, Mount) else mounts + str(route.path)
