"""What an adapter is worth: measured on held-out rows, beside its base."""
