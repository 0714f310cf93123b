"""One file per question of the page; each gives a Section, or None where the run cannot answer."""
