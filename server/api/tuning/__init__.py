"""Fine-tuning over HTTP, in OpenAI's shape: files and jobs, which a worker elsewhere runs."""

from .routes import FILES, tuning_routes

__all__ = ["FILES", "tuning_routes"]
