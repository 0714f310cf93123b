"""Delta rules: DeltaNet, gated DeltaNet, and Kimi's delta attention.

DeltaNet: arXiv:2406.06484; gated DeltaNet: arXiv:2412.06464; Kimi delta attention:
arXiv:2510.26692.
"""
