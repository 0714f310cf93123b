"""What is measured: recipes and what follows from them; `build` makes one of random weights.

`recipe` is the data model, `notation` its short form, `slicing` pieces of a model, `zoo` the
presets, `config` reads published configurations. `cost`, `footprint` and `law` are arithmetic
without torch; `build` holds everything that runs.
"""
