"""Canaries as one server sees them: who runs on which version, and how it went."""
