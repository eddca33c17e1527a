"""A second version behind an alias: how requests are split, and what decides how it ends."""
