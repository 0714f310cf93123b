"""What is measured: recipes and what follows from them; `build` makes one of random weights.

`recipe` is the data model, `notation` writes its layers as one line, `slicing` takes pieces of a
model, `short_form` its fewest layers that stand for all, `zoo` holds the presets, `config` reads
published configurations. `cost`, `footprint` and `law` are arithmetic without torch; `build` holds
everything that runs.
"""
