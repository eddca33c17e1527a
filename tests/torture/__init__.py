"""Faults injected for real, strangers, and load: what must hold whatever happens."""
