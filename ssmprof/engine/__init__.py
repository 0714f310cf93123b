"""A small server that really runs: continuous batching of one block, to hold the simulator against.

It is no product: prompts and lengths are given, nothing is sent over a network. It exists so that
`serving.simulator` has a measured counterpart with the same rules (docs/how-it-works/surface.md).
"""
