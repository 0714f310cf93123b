"""Who wins where, and how sure: outcomes -> conditions, curves, signs, zones, the lower envelope.

Nothing outside of this folder compares two contenders (docs/how-it-works/crossings.md, noise.md).
"""
