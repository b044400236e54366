"""The README and the pages of the documentation: their examples run, their links lead somewhere."""

import re
import textwrap
from pathlib import Path

import pytest
import torch

import latentia

ROOT = Path(__file__).parents[1]
PAGES = sorted(str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXAMPLE = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(page: str) -> set[str]:
    """What the headings of a page are called in its address, by GitHub and by MkDocs alike."""
    headings = re.findall(r"^#+ (.*)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if EXAMPLE.search(text(page))])
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace = {"__name__": "example"}
    # The examples of a page are one program: later ones go on where earlier ones stopped.
    for example in EXAMPLE.finditer(text(page)):
        # Empty lines in front, so that an error names the line of the page.
        before = "\n" * (text(page).count("\n", 0, example.start()) + 1)
        exec(compile(before + textwrap.dedent(example[2]), ROOT / page, "exec"), namespace)


def test_the_readme_has_an_example() -> None:
    assert EXAMPLE.search(text("README.md"))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for path, anchor in LINK.findall(text(page)):
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {path}, which does not exist"
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), f"{page} links to {path}#{anchor}"


@pytest.mark.parametrize("package", latentia._PACKAGES)
def test_every_public_name_is_in_the_reference(package: str) -> None:
    listed = set(re.findall(r"^::: latentia\.[\w.]*?(\w+)$", text(f"docs/api/{package}.md"), re.MULTILINE))
    assert set(getattr(latentia, package).__all__) <= listed


def test_the_version_is_the_same_everywhere() -> None:
    assert f"\nversion: {latentia.__version__}\n" in text("CITATION.cff")
    assert f"\n## {latentia.__version__} – " in text("CHANGELOG.md")
