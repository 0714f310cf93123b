"""Linear attention with a decay: gated linear attention, retention, lightning attention.

Gated linear attention: arXiv:2312.06635; RetNet: arXiv:2307.08621; lightning attention:
arXiv:2401.04658, as MiniMax-01 has it (arXiv:2501.08313).
"""
