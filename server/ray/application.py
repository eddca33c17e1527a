"""From arguments to a Ray Serve application."""

# Annotations are not postponed here: Serve parses arguments by that of `app`, as it stands.
from ray import serve
from ray.serve import Application

from .arguments import Arguments
from .engine import Engine
from .ingress import Ingress

LEAVING = 10  # seconds beyond the drain for a replica to end
MOST_AT_ONCE = 10_000  # requests that an ingress has open: it only passes on


def app(arguments: Arguments) -> Application:
    """What `serve run server.ray:app base=…` and a configuration's `import_path` name.

    The deployments are called Engine and Ingress; a configuration may scale either. Raises
    StartupError for what cannot be.
    """
    settings = arguments.settings()
    engines = serve.deployment(
        Engine,
        name="Engine",
        num_replicas=arguments.replicas,
        max_ongoing_requests=arguments.most_at_once,
        graceful_shutdown_timeout_s=arguments.drain_timeout + LEAVING,
        ray_actor_options={
            "num_cpus": arguments.cpus,
            "num_gpus": 1 if arguments.device == "cuda" else 0,
        },
    )
    ingress = serve.deployment(
        Ingress,
        name="Ingress",
        max_ongoing_requests=MOST_AT_ONCE,
        ray_actor_options={"num_cpus": 0},
    )
    return ingress.bind(engines.bind(settings, arguments.max_slots), settings.api.max_body)
