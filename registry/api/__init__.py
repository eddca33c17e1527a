"""The registry over HTTP; no torch, no state beside catalog, blobs and unfinished uploads."""
