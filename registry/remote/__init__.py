"""A registry on another machine: the same operations, over HTTP."""
