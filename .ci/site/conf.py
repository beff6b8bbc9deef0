"""How Sphinx makes the site (`make site`): from stored outputs, and with all that a page needs beside it.

No notebook stores widget state (execute.py drops it, and a still picture stands in a cell of its own), so there is no
widget manager and no RequireJS here. A test sees to it that no page asks another machine for anything.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

BUILD = HERE.parent.parent / "build"

project = "kdcourse"
author = "The kdcourse authors"
language = "en"
html_title = "kdcourse"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "hooks"]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
myst_update_mathjax = False  # mathjax.js says the same
templates_path = ["templates"]

# `name` in a docstring is a link where something has that name, and otherwise plain code
default_role = "py:obj"
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_static_path = ["static", str(BUILD / "site-static")]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "static/favicon.svg"
html_domain_indices = False  # "The package" lists the modules, with what they are for
html_copy_source = html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {"top_of_page_buttons": []}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

mathjax_path = "mathjax/startup.js"
mathjax_config_path = "mathjax.js"
