"""Recipes in, adapters out."""
