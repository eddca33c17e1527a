"""The fused layers' arithmetic in Triton; each function has its plain twin one folder up."""
