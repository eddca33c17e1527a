"""The engine: sequences in, tokens out, many adapters in one batch."""
