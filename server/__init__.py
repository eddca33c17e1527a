"""Serving: many hats on one resident 4-bit base."""
