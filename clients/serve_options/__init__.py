"""What `hatstand serve` can be told, one noun a file; `serve_command.py` has their order."""
