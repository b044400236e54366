import csv
import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentia.data import load, read_table

GOOD = "text,label\nfine,yes\nbad,no\ngreat,yes\nawful,no\n"


@pytest.fixture
def table(tmp_path):
    """Writes a table, and gives its path."""

    def write(content, name="mine.csv"):
        path = tmp_path / name
        content = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


def parquet(**columns):
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    writer.write_table(arrow.table(columns), stream)
    return stream.getvalue()


def labelled(data):
    return [(text, data.classes[label]) for text, label in zip(data.texts, data.labels, strict=True)]


# Formats


@pytest.mark.parametrize("name", ["mine.csv", "mine.csv.gz", "mine.CSV"])
def test_csv(table, name):
    data, notes = read_table(table(GOOD, name))
    assert labelled(data) == [("fine", "yes"), ("bad", "no"), ("great", "yes"), ("awful", "no")]
    assert (data.name, data.classes, notes) == ("mine", ("no", "yes"), ())


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_csv_with_another_separator(table, separator):
    data = read_table(table(GOOD.replace(",", separator).replace("fine", "well, fine"))).data
    assert data.texts[0] == "well, fine"


@pytest.mark.parametrize("name", ["mine.tsv", "mine.tsv.gz"])
def test_tsv(table, name):
    data = read_table(table(GOOD.replace(",", "\t"), name)).data
    assert len(data) == 4


@pytest.mark.parametrize("name", ["mine.parquet", "mine.parquet.gz"])
def test_parquet(table, name):
    content = parquet(text=["a", None, "b", "c"], label=[True, False, False, True], other=[1.5, 2.5, 3.5, 4.5])
    data, notes = read_table(table(content, name))
    assert labelled(data) == [("a", "True"), ("b", "False"), ("c", "True")]
    assert notes == (f"{name}: 1 of 4 rows left out, without a text.",)


def test_parquet_labels_of_every_type(table):
    for label in ([1, 0, 1], [1.0, 0.0, 1.0], ["1", "0", "1"]):
        data = read_table(table(parquet(text=["a", "b", "c"], label=label), "mine.parquet")).data
        assert (data.classes, data.labels.tolist()) == (("0", "1"), [1, 0, 1])


def test_parquet_of_other_types(table):
    with pytest.raises(ValueError, match="the texts of column 'text' must be strings, got 1"):
        read_table(table(parquet(text=[1, 2, 3], label=[1, 0, 1]), "mine.parquet"))
    with pytest.raises(ValueError, match=r"labels must be strings, integers or booleans, got \[1\]"):
        read_table(table(parquet(text=["a", "b"], label=[[1], [2]]), "mine.parquet"))


def test_byte_order_mark_and_line_ends_of_windows(table):
    data = read_table(table(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())).data
    assert data.texts == ("fine", "bad", "great", "awful")


def test_quoted_fields(table):
    text = 'label,text\n1,"one, ""two""\nthree"\n0,\'four\'\n1,five\n'
    assert read_table(table(text)).data.texts == ('one, "two"\nthree', "'four'", "five")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(st.characters(codec="utf-8")).filter(str.strip), min_size=4, max_size=6), st.booleans())
def test_round_trip_of_any_text(tmp_path_factory, texts, tabs):
    path = tmp_path_factory.mktemp("table") / ("mine.tsv" if tabs else "mine.csv")
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *((text, i % 2) for i, text in enumerate(texts))])
    assert read_table(path).data.texts == tuple(texts)


def test_quotes_that_belong_to_the_text_of_a_tsv(table):
    text = 'text\tlabel\n"No" she said\t1\n"and on\t0\nthen" he\t1\n'
    assert read_table(table(text, "mine.tsv")).data.texts == ('"No" she said', '"and on', 'then" he')


def test_blank_lines_are_no_rows(table):
    assert read_table(table(GOOD.replace("\n", "\n\n"))).notes == ()


def test_documents_longer_than_the_csv_module_takes(table):
    before = csv.field_size_limit()
    data = read_table(table(GOOD.replace("fine", "x" * 200_000))).data
    assert len(data.texts[0]) == 200_000
    assert csv.field_size_limit() == before


# Real files


def test_raw_files_of_cola(local):
    data, notes = read_table(local("cola") / "in_domain_train.tsv", header=False, text_column=3, label_column=1)
    published = load("cola")
    assert data.texts == published.texts
    assert data.labels.equal(published.labels)
    assert data.classes == ("0", "1")
    assert len(notes) == 1 and "kept, though they repeat the text of an earlier row" in notes[0]


def test_raw_files_of_poem_sentiment(local):
    data = read_table(local("poem-sentiment") / "train.tsv", header=False, text_column="1", label_column="2").data
    published = load("poem-sentiment")
    assert data.texts == published.texts  # with all their quotes
    assert data.classes == ("-1", "0", "1", "2")
    assert data.labels.equal(published.labels)


def test_news_as_csv(local):
    data = read_table(local("ag-news") / "test.csv", header=False, text_column=2, label_column=0).data
    assert data.labels.bincount().tolist() == [1900] * 4
    assert data.texts[0].startswith("Unions representing workers at Turner   Newall")


# Columns


def test_columns_by_name(table):
    path = table("a,text,b\n1,x,first\n0,y,second\n1,z,third\n")
    assert read_table(path, text_column="b", label_column="a").data.texts == ("first", "second", "third")
    assert read_table(path, label_column="a").data.texts == ("x", "y", "z")


@pytest.mark.parametrize(
    ("text", "label"), [("sentence", "class"), ("Review", "Target"), ("verse", "label"), (" text ", "category")]
)
def test_usual_names(table, text, label):
    assert len(read_table(table(GOOD.replace("text,label", f"{text},{label}"))).data) == 4


def test_columns_by_number(table):
    path = table(GOOD.partition("\n")[2])
    for text, label in ((0, 1), ("0", "1")):
        assert len(read_table(path, header=False, text_column=text, label_column=label).data) == 4


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("text,text", {}, "more than one of the columns has a usual name; name one of 'text', 'text' as text_column"),
        ("text,sentence", {}, "more than one of the columns .* as text_column"),
        ("a,label", {}, "none of the columns has a usual name; name one of 'a', 'label' as text_column"),
        ("text,b", {}, "none of .* name one of 'text', 'b' as label_column"),
        ("text,label", {"text_column": "Text"}, "there is no column 'Text'; name one of 'text', 'label' as text_"),
        ("a,a", {"text_column": "a"}, "there are several columns 'a'"),
        ("text,label", {"label_column": "text"}, "text_column and label_column are both 'text'"),
        ("text,label", {"label_column": 1}, "there is no column '1'; .* no header line: say so"),
    ],
)
def test_columns_that_are_not_there_or_unclear(table, header, columns, message):
    with pytest.raises(ValueError, match=message):
        read_table(table(GOOD.replace("text,label", header)), **columns)


def test_a_file_without_header_read_as_if_it_had_one(table):
    with pytest.raises(ValueError, match=r"name one of 'fine', 'yes' as text_column. \(If these are no names but val"):
        read_table(table(GOOD.partition("\n")[2]))


# Rows


def test_rows_that_are_left_out_are_counted(table):
    rows = "text,label\nfine,yes\n,no\n   ,no\nbad, no\nodd,\nstrange,NaN\nNone,yes\nnan,no\n"
    data, notes = read_table(table(rows))
    assert labelled(data) == [("fine", "yes"), ("bad", "no"), ("None", "yes"), ("nan", "no")]
    assert notes == (
        "mine.csv: 2 of 8 rows left out, without a text.",
        "mine.csv: 2 of 8 rows left out, with a text but no label.",
    )


def test_repeated_texts_are_kept_and_counted(table):
    data, notes = read_table(table(GOOD + "fine,yes\nfine,no\nbad,no\n"))
    assert len(data) == 7
    assert notes == (
        "mine.csv: 3 of 7 rows kept, though they repeat the text of an earlier row, 1 of them under another label.",
    )
    assert read_table(table(GOOD + "fine,yes\n")).notes == (
        "mine.csv: 1 of 5 rows kept, though they repeat the text of an earlier row.",
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("text,label\na,1\nb,c,0\n", r"mine.csv, line 3: the number of fields is 3, but 2 in the first line; put"),
        ("text,label\na,1\nb\n", "line 3: the number of fields is 1"),
        ('text,label\n"a\nb",1\n"c" d,0\n', "line 4: .*; write a double quote within a quoted field as two"),
        ('text,label\na,1\n"b,0\nc,1\n', "line 3: unexpected end of data"),
        ("text,label\na,1\nb\xe9,0\n".encode("latin-1"), "line 3: this is not UTF-8; save the file as UTF-8"),
        ("", "mine.csv is empty"),
        ("text,label\n", "none of its 0 rows has a text and a label"),
        ("text,label\na,\n,1\n", "none of its 2 rows"),
    ],
)
def test_damaged_tables(table, rows, message):
    with pytest.raises(ValueError, match=message):
        read_table(table(rows))


def test_tsv_with_rows_of_different_lengths(table):
    with pytest.raises(ValueError, match=r"mine.tsv, line 3: the number of fields is 1, but 2"):
        read_table(table("text\tlabel\na\t1\nb\n", "mine.tsv"))


@pytest.mark.parametrize("name", ["mine.csv.gz", "mine.parquet", "mine.parquet.gz"])
def test_damaged_files(table, name):
    path = table(GOOD, name)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="truncated or damaged gzip" if name.endswith("gz") else "no Parquet file"):
        read_table(path)


def test_other_formats(table):
    with pytest.raises(ValueError, match=r"mine.xlsx is no table that can be read: its name must end in .csv, .tsv"):
        read_table(table(GOOD, "mine.xlsx"))
    with pytest.raises(FileNotFoundError):
        read_table("nowhere.csv")


def test_parquet_without_pyarrow(table, uninstall):
    path = table(b"PAR1", "mine.parquet")
    uninstall("pyarrow")
    with pytest.raises(ImportError, match="extra 'tables'"):
        read_table(path)


# Labels


def test_whole_floats_are_integers(table):
    assert read_table(table("text,label\na,10.0\nb,9.0\nc,10.0\n")).data.classes == ("9", "10")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["0.5", "1.5", "0.5"], "column 'label' of .*mine.csv: the labels are not classes: they are continuous"),
        (["a", "b", "c"], "3 distinct labels among 3 samples do not look like classes"),
        (["a", "a", "a"], "all 3 labels are 'a'"),
    ],
)
def test_labels_that_are_no_classes(table, labels, message):
    with pytest.raises(ValueError, match=message):
        read_table(table("text,label\n" + "".join(f"t{i},{label}\n" for i, label in enumerate(labels))))


def test_labels_among_known_classes(table):
    data = read_table(table("text,label\nfine,yes\n"), classes=("yes", "no", "perhaps")).data
    assert (data.classes, data.labels.tolist()) == (("yes", "no", "perhaps"), [0])
    with pytest.raises(ValueError, match="'no' is none of the 1 known classes, 'yes'"):
        read_table(table(GOOD), classes=("yes",))
