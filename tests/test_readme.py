"""What README, CITATION.cff and setup.cfg say of version, licence and Python is one thing, and so."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

import siamura

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def setup() -> ConfigParser:
    found = ConfigParser()
    found.read(ROOT / "setup.cfg", encoding="utf-8")
    return found


def test_badges_say_what_is_so(setup: ConfigParser) -> None:
    badges = dict(re.findall(r"!\[([^\]]+)\]\(https://img\.shields\.io/badge/([^)]+)\)", README))
    assert len(badges) == 3
    assert badges[f"Version {siamura.__version__}"] == f"version-{siamura.__version__}-blue"
    pythons = re.findall(r"Python :: (3\.\d+)$", setup["metadata"]["classifiers"], flags=re.M)
    assert badges["Python " + ", ".join(pythons)] == "python-" + "_%7C_".join(pythons) + "-blue"
    assert setup["metadata"]["license"] == "Apache-2.0"
    assert badges["Licence: Apache 2.0"] == "licence-Apache_2.0-blue"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:300]


def test_citations_name_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(siamura.__version__)}$", citation, flags=re.M)
    assert f"version = {{{siamura.__version__}}}" in README
    (released,) = re.findall(r"^date-released: (.+)$", citation, flags=re.M)
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{siamura.__version__}] - {released}\n" in changes


def test_the_extra_all_holds_every_extra_of_a_user(setup: ConfigParser) -> None:
    extras = dict(setup["options.extras_require"])
    (held,) = re.findall(r"siamura\[(.+)\]", extras.pop("all"))
    assert set(held.split(",")) == set(extras) - {"docs", "test", "lint"}


def test_readme_measures_on_real_bones_before_phantoms_and_says_what_phantoms_are() -> None:
    assert README.index("<!-- real-bones table -->") < README.index("## Measured on phantoms")
    assert README.count("for research, not for diagnosis") == 1
    for picture in re.findall(r"!\[([^\]]*)\]\(docs/images/demo\.png\)", README):
        assert "PHANTOMS" in picture
