"""The process that runs fine-tuning jobs, one after the other."""
