"""The HTTP layer: OpenAI-shaped requests in, token streams out."""
