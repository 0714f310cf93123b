"""How the commands that read a run grow with it: `python -m scale` prints the table."""
