"""What each kernel computes, in plain torch: same names, same signatures, any device, no triton.

They read tables and tiles on the host, so they cannot be captured in a graph.
"""
