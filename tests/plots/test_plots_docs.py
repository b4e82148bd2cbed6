import re
from pathlib import Path

from siamura import plots

PAGE = (Path(__file__).parents[2] / "docs" / "plots.md").read_text(encoding="utf-8")


def test_the_pages_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(code, names)
    assert (tmp_path / "embedding.pdf").read_bytes().startswith(b"%PDF")


def test_the_page_names_every_function():
    table = PAGE.split("## Which function")[1].split("## ")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(plots.__all__)
