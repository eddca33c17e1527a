"""The server as a Ray Serve application: `serve run server.ray:app base=mistral-7b`.

`Ingress` reads each request's `model` and asks for a replica by it, as Serve's model multiplexing
has it; `Engine` is one server in one replica, which tells Serve's router what adapters it has.
"""

from .application import app
from .arguments import Arguments

__all__ = ["Arguments", "app"]
