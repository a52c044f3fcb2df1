"""Sphinx: `python -m sphinx -W -b html docs build/docs` builds the site."""

project = "metabench"
author = "the metabench authors"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "metabench"
exclude_patterns = ["tutorial/*"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure"]
