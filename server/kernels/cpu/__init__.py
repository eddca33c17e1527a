"""The arithmetic of one step for CPUs with AVX-512 and bf16, compiled when it is first used.

Each kernel does what its plain-torch twin in `server/kernels` does, on addresses instead of
tensors. Every sum runs over its terms in one fixed order, however many rows stand beside it and
whether a row decodes or prefills: a row's result is bitwise its own.
"""
