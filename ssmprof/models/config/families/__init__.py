"""One file per family of published models: its keys, and how they become a recipe.

Each file has a table FAMILIES, `model_type` -> Family(keys, recipe), and is found by being here.
"""
