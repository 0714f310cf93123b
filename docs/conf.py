"""How `make docs` turns these pages into HTML, strictly: any warning is an error."""

project = "ssmprof"
author = "ssmprof contributors"
copyright = author
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"page_width": "1100px", "fixed_sidebar": True}
exclude_patterns = ["generate.py"]
# Pages link to files of the checkout; those stay links to files.
suppress_warnings = ["myst.xref_missing"]
