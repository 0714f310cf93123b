"""Every sub-layer that a model may hold, one folder each; none of them is named anywhere else.

`shape.py` is the sub-layer as data: its sizes, parameters, work, cache and peak, without torch.
`block.py` runs it, `ops.py` says who may run its ops, `hf.py` reads it from published files. Where
`block.py` is missing the sub-layer is counted and planned, and a call of it is refused.
`registry` finds the folders; the files beside it are what several sub-layers share.
"""
