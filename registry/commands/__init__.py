"""The commands of `registry`, one noun a file; `registry.cli` puts them together."""
