"""Python client and the `hatstand` command line."""
