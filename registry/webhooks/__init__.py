"""Events told to others: signed, in order, until they arrive, and not into our own network."""
