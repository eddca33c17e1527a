"""Where adapters live: immutable versions, movable aliases, content-addressed blobs."""
