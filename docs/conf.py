"""Sphinx configuration: `make docs` builds without warnings and without network."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import gather

import siamura

gather.main()

project = "siamura"
author = "The siamura developers"
copyright = "2026, " + author
version = release = siamura.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "formulas",
]
templates_path = ["_templates"]
html_math_renderer = "formulas"
html_theme = "furo"
html_title = f"siamura {version}"
html_static_path = ["_static"]
html_css_files = ["siamura.css"]
exclude_patterns = ["_build", "generated/examples/*", "sg_execution_times.rst"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
autodoc_typehints = "none"
autosummary_generate = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
sphinx_gallery_conf = {
    "examples_dirs": "generated/examples",
    "gallery_dirs": "auto_examples",
    "plot_gallery": False,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 1e9,
}
# Links into other projects' documentation need the network: they are made only where it is asked for.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }
    if os.environ.get("SIAMURA_DOCS_ONLINE")
    else {}
)
