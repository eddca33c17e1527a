"""What a run will need, worked out from recipe and configuration before anything is loaded."""
