"""The arithmetic of one decoding step: each kernel is a plain-torch function.

A CUDA twin takes over by offering the same signature; the plain-torch one stays as its reference.
Every kernel computes a row the same way whatever rows stand beside it, so that a sequence's tokens
do not depend on its company.
"""
