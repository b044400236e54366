import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pages import text_of
from rich.console import Console
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier

from latentia import report
from latentia.evaluation import Comparison, compare_predictions
from latentia.report.comparison import (
    explanation,
    pair_rows,
    read_predictions,
    score_rows,
    write_comparison_report,
)
from latentia.report.terminal import comparison_tables

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
CLASSIFIERS = {
    "neighbours": KNeighborsClassifier(3),
    "bayes": GaussianNB(),
    "tree": DecisionTreeClassifier(random_state=0),
}


@pytest.fixture(scope="module")
def digits() -> pd.DataFrame:
    """What classifiers say of digits that they have not seen."""
    x, y = load_digits(return_X_y=True)
    said = {name: model.fit(x[:1000], y[:1000]).predict(x[1000:]) for name, model in CLASSIFIERS.items()}
    return pd.DataFrame({"y_true": y[1000:], **said})


@pytest.fixture(scope="module")
def diabetes() -> pd.DataFrame:
    x, y = load_diabetes(return_X_y=True)
    models = {"ridge": Ridge(0.1), "neighbours": KNeighborsRegressor()}
    said = {name: model.fit(x[:300], y[:300]).predict(x[300:]) for name, model in models.items()}
    return pd.DataFrame({"y_true": y[300:], **said})


def compared(table: pd.DataFrame, **options: Any) -> Comparison:
    return compare_predictions(table["y_true"], {name: table[name] for name in table if name != "y_true"}, **options)


@pytest.fixture(scope="module")
def classes_written(digits: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "digits.html"
    return write_comparison_report(compared(digits), path, title="On <digits>", command="latentia compare 'a b.csv'")


@pytest.fixture(scope="module")
def numbers_written(diabetes: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    comparison = compared(diabetes, error="absolute", confidence=0.9)
    return write_comparison_report(comparison, tmp_path_factory.mktemp("comparison") / "diabetes.html")


# Reading


@pytest.mark.parametrize("name", ["table.csv", "table.CSV", "table.tsv", "table.parquet"])
def test_every_format_says_the_same(digits: pd.DataFrame, tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        digits.to_parquet(tmp_path / name)
    else:  # with the numbers of rows in a column without a name, as pandas writes them
        digits.to_csv(tmp_path / name, sep="\t" if name.endswith("tsv") else ",")
    y_true, models = read_predictions(tmp_path / name)
    np.testing.assert_array_equal(y_true, digits["y_true"])
    assert list(models) == list(CLASSIFIERS) and y_true.dtype.kind == "i"
    for model, values in models.items():
        np.testing.assert_array_equal(values, digits[model])


def test_numbers_stay_as_they_are(diabetes: pd.DataFrame, tmp_path: Path) -> None:
    diabetes.to_csv(tmp_path / "table.csv", index=False)
    y_true, models = read_predictions(tmp_path / "table.csv")
    np.testing.assert_array_equal(y_true, diabetes["y_true"])
    for model, values in models.items():
        np.testing.assert_array_equal(values, diabetes[model])  # to the last digit


def test_labels_may_be_words_and_look_like_numbers(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("\ufeff id ; y_true; a ;b\nx1;1; 1 ;1\nx2;none;None;1\nx3;2;2;1\n\n", encoding="utf-8")
    y_true, models = read_predictions(path, models=["b", "a", "b"])
    assert y_true.tolist() == ["1", "none", "2"]
    assert {name: values.tolist() for name, values in models.items()} == {"b": ["1"] * 3, "a": ["1", "None", "2"]}
    assert list(models) == ["b", "a"]
    assert compare_predictions(y_true, models).scores["a"].estimate == 2 / 3


def test_any_column_may_hold_what_is_true(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b,answer\n1,2,1\n2.0,1,2\n")
    y_true, models = read_predictions(tmp_path / "table.csv", truth="answer")
    assert y_true.tolist() == [1, 2] and list(models) == ["a", "b"]


@pytest.mark.parametrize("kind", ["boolean", "category", "Int64"])
def test_parquet_keeps_its_kinds(tmp_path: Path, kind: str) -> None:
    values = pd.Series([True, False, True] if kind == "boolean" else [3, 4, 3], dtype=kind)
    pd.DataFrame({"y_true": values, "a": values, "b": values[::-1].tolist()}).to_parquet(tmp_path / "table.parquet")
    y_true, models = read_predictions(tmp_path / "table.parquet")
    assert y_true.tolist() == values.tolist()
    assert [score.estimate for score in compare_predictions(y_true, models).scores.values()] == [1, 1]


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("", {}, "cannot be read as a table"),
        ("y_true,a,b\n", {}, "no rows"),
        ("y_true,a,b\n1,1,1\n2,2,2,2\n", {}, "cannot be read as a table: .*line 3"),
        ("label,a,b\n1,1,1\n", {}, "no column 'y_true' of true values, only 'label', 'a', 'b'"),
        ("y_true,a,a,b,b\n1,1,1,1,1\n", {}, "several columns are called 'a', 'b'"),
        ("y_true,a\n1,1\n2,2\n", {}, "at least 2 models .* got 'a' beside 'y_true'"),
        ("y_true\n1\n2\n", {}, "at least 2 models .* got none"),
        ("y_true,a,b\n1,1,1\n", {"models": ["a"]}, "at least 2 models"),
        ("y_true,a,b\n1,1,1\n", {"models": ["a", "c"]}, "'c' is no column of predictions; there are 'a', 'b'"),
        ("y_true,a,b\n1,1,1\n", {"models": ["a", "y_true"]}, "'y_true' is no column of predictions"),
        ("y_true,a,b\n1,,1\n2,NA,nan\n3,3,3\n,4,4\n5,5\n", {}, r"4 of 5 rows .*\(1 in 'y_true', 2 in 'a', 2 in 'b'\)"),
        ("y_true,a,b\n7,1,7\n7,7,7\n", {}, "'y_true' is 7 in every row"),
        ("y_true,a,b\ncat,cat,dog\ncat,dog,cat\n", {}, "'y_true' is cat in every row"),
        ("y_true,a,b\n1,1,1\n2,two,2\n", {}, "'a' holds 'two' in row 2, and 'y_true' only numbers"),
        ("y_true,a,b\n1.5,1,1\nn/a,2,2\n", {}, "'y_true' holds fractions, and 'n/a' in row 2"),
        ("y_true,a,b\ncat,cat,1\ndog,cat,2\n", {}, "'b' never names a class .* '1', and 'y_true' 'cat'"),
    ],
)  # fmt: skip
def test_what_is_no_such_table(content: str, options: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_predictions(path, **options)
    assert str(path) in str(caught.value)


def test_what_is_no_table_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_predictions(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"must end in \.csv, \.tsv or \.parquet"):
        read_predictions(tmp_path / "table.xlsx")
    for name, content in (("table.parquet", b"no such thing"), ("table.csv", "y_true,ä,b\n".encode("utf-16"))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read as a table"):
            read_predictions(tmp_path / name)


# In words


def test_rows_say_what_the_summary_says(digits: pd.DataFrame, diabetes: pd.DataFrame) -> None:
    for comparison in (compared(digits), compared(diabetes, error="absolute", confidence=0.9)):
        summary = comparison.summary()
        (*_, level), scores = score_rows(comparison)
        assert level == f"{100 * comparison.confidence:g}% interval" and len(scores) == len(comparison.scores)
        for name, number, bounds in scores:
            assert re.search(rf"^  {name} +{number} \({bounds}\)$", summary, re.MULTILINE)
        head, pairs = pair_rows(comparison)
        assert len(pairs) == len(comparison.pairs)
        for row in pairs:
            name, number, bounds, *pvalues, verdict = (cell.replace("−", "-") for cell in row)
            words = [f"p {p}" if p.startswith("<") else f"p = {p}" for p in pvalues]
            line = f"  {name} = {number} ({bounds}), {', adjusted '.join(words)}: {verdict}"
            assert line in summary.splitlines()
            assert len(row) == len(head)
        assert explanation(comparison).startswith(f"{comparison.reason}.")
    assert "The models differ." in explanation(compared(digits))
    same = digits.assign(bayes=digits["tree"], neighbours=digits["tree"])
    assert "No evidence of a difference, and so none of any two." in explanation(compared(same))


def test_tables_for_the_terminal(digits: pd.DataFrame) -> None:
    comparison = compared(digits.rename(columns={"tree": "[bold]tree[/nothing]"}))
    file = io.StringIO()
    Console(file=file, width=160).print(*comparison_tables(comparison))
    found = [[cell.strip() for cell in line.split("│")[1:-1]] for line in file.getvalue().splitlines() if "│" in line]
    assert found == [*score_rows(comparison)[1], *pair_rows(comparison)[1]]


# The page


def test_a_page_of_classifiers(classes_written: Path, digits: pd.DataFrame) -> None:
    assert report.write_comparison_report is write_comparison_report
    comparison, text = compared(digits), text_of(classes_written)
    for words in (
        "On <digits>",
        "3 models, judged on the same 797 samples by their accuracy: the higher, the better.",
        "neighbours has the highest accuracy. It is better than bayes and tree beyond chance.",
        "latentia compare 'a b.csv'",
        "McNemar's test",
        "Wilson's interval",
        "Cochran's Q test",
        "Holm's correction",
        "at a level of 5%",
        *(cell for row in score_rows(comparison)[1] for cell in row),
        *(cell for row in pair_rows(comparison)[1] for cell in row),
    ):
        assert words in text
    assert "Bootstrap" not in text and "so is the worse one" not in text
    assert " ".join(comparison.summary().splitlines()[-1].split()) in text


def test_a_page_of_numbers(numbers_written: Path, diabetes: pd.DataFrame) -> None:
    comparison, text = compared(diabetes, error="absolute", confidence=0.9), text_of(numbers_written)
    ridge, neighbours = (np.abs(diabetes[name] - diabetes["y_true"]).mean() for name in ("ridge", "neighbours"))
    assert ridge < neighbours and f"{neighbours - ridge:+.2f}" in text
    for words in (
        "by their mean absolute error: the lower, the better.",
        "ridge has the lowest mean absolute error. It is better than neighbours beyond chance.",
        "ridge is better",
        "and so is the worse one",
        "90% interval",
        "at a level of 10%",
        "Bootstrap",
        *score_rows(comparison)[1][0],
    ):
        assert words in text
    for words in ("McNemar", "Cochran", "correction&", "adjusted", "<code>"):
        assert words not in text


def test_no_evidence_is_said_as_such(digits: pd.DataFrame, tmp_path: Path) -> None:
    same = digits.assign(twin=digits["neighbours"])[["y_true", "twin", "bayes", "neighbours"]]
    text = text_of(write_comparison_report(compared(same, correction="bonferroni"), tmp_path / "page.html"))
    assert "twin has the highest accuracy. It is better than bayes beyond chance." in text
    assert "There is no evidence that it is better than neighbours." in text
    assert "Bonferroni's correction" in text and "(bonferroni)" in text and "(holm)" not in text


def test_same_comparison_same_page(digits: pd.DataFrame, tmp_path: Path) -> None:
    first, second = (write_comparison_report(compared(digits), tmp_path / f"{k}.html") for k in range(2))
    assert first.read_bytes() == second.read_bytes()


# In the browser


def test_figures_are_drawn(classes_written: Path, numbers_written: Path, visit: Callable[..., Any]) -> None:
    for written, counts, scheme, phone in (
        (classes_written, (3, 3), "light", True),
        (numbers_written, (2, 1), "dark", False),
    ):
        page = visit(written, scheme=scheme, phone=phone)
        assert page.evaluate("() => document.documentElement.scrollWidth") == (390 if phone else 1280)
        for plot, count in zip(page.locator(".plot").all(), counts, strict=True):
            assert plot.locator(".ytick text").count() == count
            inner = plot.locator(".bglayer, .plot .gridlayer").first.bounding_box()
            frame = plot.bounding_box()
            assert inner["width"] > 150  # names leave room for what is drawn
            points = [point.bounding_box() for point in plot.locator(".point").all()]
            assert len(points) == 3 * count  # a dot, and the two ends of its interval
            assert all(
                frame["x"] < box["x"] and box["x"] + box["width"] < frame["x"] + frame["width"] for box in points
            )


def test_hovering_tells_the_numbers(classes_written: Path, digits: pd.DataFrame, visit: Callable[..., Any]) -> None:
    page = visit(classes_written)
    (name, number, bounds), *_ = score_rows(compared(digits))[1]
    page.locator(".plot").first.locator(".trace").nth(1).locator(".point").first.hover(force=True)
    page.locator(".hovertext").wait_for()
    assert page.locator(".hovertext").text_content() == f"{name}: {number} ({bounds})"


def test_tables_can_be_read_without_javascript(classes_written: Path, visit: Callable[..., Any]) -> None:
    page = visit(classes_written, javascript=False, phone=True)
    assert page.get_by_role("rowheader", name="bayes − neighbours").is_visible()
    assert page.get_by_role("cell", name="neighbours is better").first.is_visible()
    assert page.locator(".plot:visible").count() == 0


def test_hostile_and_long_names_stay_text(digits: pd.DataFrame, tmp_path: Path, visit: Callable[..., Any]) -> None:
    renamed = digits.rename(columns={"neighbours": HOSTILE, "bayes": "b" * 90})
    written = write_comparison_report(compared(renamed), tmp_path / "page.html", title=HOSTILE, command=HOSTILE)
    page = visit(written)
    assert page.locator("h1").text_content() == HOSTILE
    assert page.locator("pre code").text_content() == HOSTILE
    assert page.locator(".tiles dt").first.text_content() == HOSTILE
    tick = page.locator(".plot").first.locator(".ytick text").first.text_content()
    assert tick == f"{HOSTILE[:10]}…{HOSTILE[-9:]}"
    assert page.locator("img, script:not([type])").count() == 2
    assert page.evaluate("() => document.documentElement.scrollWidth") == 1280
    assert visit(written, phone=True).evaluate("() => document.documentElement.scrollWidth") == 390


def test_errors_of_many_digits_find_room(tmp_path: Path, visit: Callable[..., Any]) -> None:
    prices = np.random.default_rng(0).normal(4e6, 1e6, size=60)
    models = {"first": prices * 1.3, "second": prices * 0.9}
    written = write_comparison_report(compare_predictions(prices, models), tmp_path / "page.html")
    assert visit(written, phone=True).evaluate("() => document.documentElement.scrollWidth") == 390
