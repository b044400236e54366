"""What a reader finds on a page that was written, for the tests of all pages."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any


def text_of(page: Path) -> str:
    """The words of a page, without its scripts, markup and figures."""
    markup = re.sub("<(style|script).*?</\\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub("<[^>]*>", " ", markup)))


def tables_of(page: Path) -> dict[str, list[list[str]]]:
    """By caption, the cells of each row, with a line for each piece of markup in a cell."""
    tables = {}
    for whole in re.findall("<table>.*?</table>", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        caption, *rows = re.findall("<(?:caption|tr)>(.*?)</(?:caption|tr)>", whole, flags=re.DOTALL)
        cells = [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in rows]
        texts = [[unescape(re.sub("(<[^>]*>)+", "\n", cell)).strip() for cell in row] for row in cells]
        tables[unescape(re.sub("<[^>]*>", "", caption))] = texts
    return tables


def rows_below(page: Path, words: str) -> list[list[str]]:
    """The rows of the only table whose caption starts so, without its head."""
    (found,) = [rows for caption, rows in tables_of(page).items() if caption.startswith(words)]
    return found[1:]


def figures_of(page: Path) -> list[dict[str, Any]]:
    """The descriptions of all figures, in their order."""
    blocks = re.findall('<script type="application/json">(.*?)</script>', page.read_text(encoding="utf-8"))
    return [json.loads(block) for block in blocks]
