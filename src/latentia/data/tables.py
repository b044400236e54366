"""The user's own texts: a table with a column of texts and one of labels, as CSV, TSV or Parquet."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from latentia.data.labels import encode, listed
from latentia.data.samples import Dataset, Found
from latentia.extras import require

FORMATS = (".csv", ".tsv", ".parquet", ".csv.gz", ".tsv.gz", ".parquet.gz")

_TEXT_NAMES = ("text", "sentence", "verse", "review", "document", "content", "comment", "message", "tweet")
_LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "y")

# The names of the columns, and what gives the values of the column with a number.
_Table = tuple[list[str], Callable[[int], list[Any]]]


def read_table(
    path: str | Path,
    *,
    text_column: str | int | None = None,
    label_column: str | int | None = None,
    header: bool = True,
    classes: tuple[str, ...] | None = None,
) -> Found:
    """Read texts and their classes from a table.

    The format is told by the end of the file name: `.csv`, `.tsv` or `.parquet`, also followed by `.gz`. Text is in
    UTF-8. What separates the fields of a `.csv` is the first of `,`, `;`, tab and `|` that its first line has. A
    field may be put in double quotes; but a `.tsv` in which quotes are not so used is read as it is.

    Rows without a text, or without a label (nothing, or NaN), are left out, and counted in a note. So are rows that
    repeat a text, but they are kept. Labels become classes as `latentia.data.labels.encode` says.

    Args:
        path: the file.
        text_column: name of the column of texts; by default the only one with a usual name, such as `text`,
            `sentence` or `review`.
        label_column: name of the column of labels; by default the only one with a usual name, such as `label`,
            `class` or `target`.
        header: whether the first line of a CSV or TSV names the columns; if not, they are named `0`, `1`, ...
        classes: the classes that the labels must be among, such as those of a training part; by default found out.

    Returns:
        Texts, in the order of the file, and notes.

    Raises:
        ValueError: if the file has another format, or is damaged (the message names the line); if a column is not
            there, or which one is meant is unclear; if a text is no string; or if the labels are no classes.
        FileNotFoundError: if there is no such file.
        ImportError: if it takes the extra `tables` to read Parquet, and it is not installed.

    Cost: O(size of the file) time and memory.
    """
    path = Path(path)
    names, column = _parquet(path) if ".parquet" in _format(path) else _delimited(path, header)
    text_index = _find("text_column", text_column, names, _TEXT_NAMES, path)
    label_index = _find("label_column", label_column, names, _LABEL_NAMES, path)
    if text_index == label_index:
        raise ValueError(f"{path}: text_column and label_column are both {names[text_index]!r}; name two columns")

    origin = f"column {names[label_index]!r} of {path}"
    texts = [_text(value, names[text_index], path) for value in column(text_index)]
    labels = [_label(value, origin) for value in column(label_index)]
    whole = [(text, label) for text, label in zip(texts, labels, strict=True) if text and label]
    if not whole:
        raise ValueError(f"{path}: none of its {len(texts):,} rows has a text and a label")
    kept_texts, kept_labels = zip(*whole, strict=True)
    numbers, classes = encode(kept_labels, classes, origin=origin)

    repeated = len(whole) - len(set(kept_texts))
    contradictory = len(set(whole)) - len(set(kept_texts))
    otherwise = f", {contradictory:,} of them under another label" if contradictory else ""
    counts = {
        "left out, without a text": texts.count(""),
        "left out, with a text but no label": len(texts) - texts.count("") - len(whole),
        f"kept, though they repeat the text of an earlier row{otherwise}": repeated,
    }
    notes = tuple(f"{path.name}: {count:,} of {len(texts):,} rows {what}." for what, count in counts.items() if count)
    return Found(Dataset(path.name.partition(".")[0], kept_texts, numbers, classes), notes)


def _format(path: Path) -> str:
    for end in FORMATS:
        if path.name.lower().endswith(end):
            return end
    raise ValueError(f"{path} is no table that can be read: its name must end in {', '.join(FORMATS)}")


def _find(argument: str, wanted: str | int | None, names: Sequence[str], usual: Sequence[str], path: Path) -> int:
    """Number of the column that is wanted, or the only one with a usual name."""
    if wanted is not None:
        places = [place for place, name in enumerate(names) if name == str(wanted)]
        problem = f"there {'is no column' if not places else 'are several columns'} {str(wanted)!r}"
    else:
        places = [place for place, name in enumerate(names) if name.strip().lower() in usual]
        problem = f"{'none' if not places else 'more than one'} of the columns has a usual name"
    if len(places) == 1:
        return places[0]
    raise ValueError(
        f"{path}: {problem}; name one of {listed(names, 20)} as {argument}. "
        "(If these are no names but values, the file has no header line: say so, and name columns by number, from 0.)"
    )


def _text(value: Any, name: str, path: Path) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{path}: the texts of column {name!r} must be strings, got {value!r}")
    # Only what is blank goes; the spaces around a text may mean something to a tokenizer.
    return value if value and not value.isspace() else ""


def _label(value: Any, origin: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float | Decimal):
        raise ValueError(f"{origin}: labels must be strings, integers or booleans, got {value!r}")
    label = str(value).strip()
    return "" if label.lower() == "nan" else label


def _parquet(path: Path) -> _Table:
    parquet = require("pyarrow.parquet", "tables")
    try:
        file = parquet.ParquetFile(io.BytesIO(_content(path)))
        names = file.schema_arrow.names
        return names, lambda place: file.read(columns=[names[place]]).column(0).to_pylist()
    except require("pyarrow", "tables").ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file, or a damaged one: {error}") from error


def _delimited(path: Path, header: bool) -> _Table:
    content = _content(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: this is not UTF-8; save the file as UTF-8") from error
    try:
        rows = _tab_separated(text) if ".tsv" in _format(path) else _rows(text, _delimiter(text), csv.QUOTE_MINIMAL)
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error
    if not rows:
        raise ValueError(f"{path} is empty")
    names = [str(place) for place in range(len(rows[0]))]
    if header:
        names, rows = rows[0], rows[1:]
    return names, lambda place: [row[place] for row in rows]


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix.lower() != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is a truncated or damaged gzip file: {error}") from error


def _delimiter(text: str) -> str:
    first = text.lstrip("\r\n").partition("\n")[0]
    return next((sign for sign in ",;\t|" if sign in first), ",")


def _tab_separated(text: str) -> list[list[str]]:
    # Spreadsheets quote fields; linguists write quotes that are part of the text. Only the former can be read by the
    # strict rules of quoting; where these fail, quotes are characters as any other.
    try:
        return _rows(text, "\t", csv.QUOTE_MINIMAL)
    except ValueError:
        return _rows(text, "\t", csv.QUOTE_NONE)


def _rows(text: str, delimiter: str, quoting: int) -> list[list[str]]:
    """Fields of each row, equally many in all, without blank lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
    rows: list[list[str]] = []
    line = 1
    longest = csv.field_size_limit(2**31 - 1)  # the default is 131,072 characters, less than some documents have
    try:
        for row in reader:
            if rows and row and len(row) != len(rows[0]):
                raise ValueError(
                    f"line {line}: the number of fields is {len(row)}, but {len(rows[0])} in the first line; "
                    "put a field that holds the separator in double quotes"
                )
            rows += [row] if row else []
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"line {line}: {error}; write a double quote within a quoted field as two") from error
    finally:
        csv.field_size_limit(longest)
    return rows
