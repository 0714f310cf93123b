"""Published `config.json` files -> recipes, one file of `families/` per family of models.

`reader` opens a file and finds its family; `keys` decodes and refuses.
"""
