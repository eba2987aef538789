"""Sphinx configuration. ``tox -e docs`` builds these pages."""

import lstmq

project = "lstmq"
release = lstmq.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
html_theme = "furo"
myst_heading_anchors = 3  # links to headings work as on GitHub
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True  # lists attributes once, without the types that the signature shows
