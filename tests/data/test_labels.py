import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from latentia.data.labels import MOST_CLASSES, encode, in_order, listed

words = st.text(st.characters(codec="utf-8", categories=("L", "P", "N")), min_size=1, max_size=6)


def decoded(values, classes=None):
    numbers, names = encode(values, classes)
    return [names[number] for number in numbers]


@settings(deadline=None)
@given(st.lists(words, min_size=2, max_size=5, unique=True), st.data())
def test_round_trip(classes, data):
    assume(not any(name[0] in "+-.0123456789" for name in classes))
    values = data.draw(st.permutations(classes * 2))
    numbers, names = encode(values)
    assert [names[number] for number in numbers] == values
    assert names == tuple(sorted(classes))


@settings(deadline=None)
@given(st.sets(st.integers(), min_size=2, max_size=5), st.data())
def test_round_trip_of_integers(classes, data):
    values = data.draw(st.permutations(list(classes) * 2))
    numbers, names = encode([str(value) for value in values])
    assert [int(names[number]) for number in numbers] == values
    assert [int(name) for name in names] == sorted(classes)


@settings(deadline=None)
@given(st.lists(words, min_size=2, max_size=6, unique=True), st.data())
def test_labels_are_aligned_with_known_classes_by_name(classes, data):
    values = data.draw(st.lists(st.sampled_from(classes), min_size=1, max_size=8))
    numbers, names = encode(values, tuple(classes))
    assert names == tuple(classes)
    assert [classes[number] for number in numbers] == values


def test_numbers_are_in_the_order_of_numbers():
    assert encode(["10", "9", "-1", "9", "10"])[1] == ("-1", "9", "10")
    assert encode(["10", "9", "a", "a"])[1] == ("10", "9", "a")


@pytest.mark.parametrize(
    "values", [["1", "0", "1.0"], ["1.0", "0.0", "1e0"], ["01", "00", "+1"], ["1.", "-0", "10e-1"]]
)
def test_whole_numbers_in_any_spelling_are_integers(values):
    numbers, names = encode(values)
    assert (numbers.tolist(), names) == ([1, 0, 1], ("0", "1"))


def test_large_integers_stay_apart():
    values = ["12345678901234567890", "12345678901234567891"]
    assert encode(values * 2)[1] == tuple(values)


def test_known_classes_are_found_in_another_spelling():
    assert decoded(["1.0", "0.0"], ("0", "1", "2")) == ["1", "0"]
    assert decoded(["01", "x"], ("x", "01")) == ["01", "x"]


def test_known_classes_may_be_missing_or_but_one():
    assert encode(["b"], ("c", "b", "a"))[0].tolist() == [1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["0.5", "1", "2.25"], r"they are continuous, such as '0.5', '2.25'; name a column of classes"),
        (["a"] * 4, "all 4 labels are 'a'; it takes at least two"),
        (["1", "1.0"], "all 2 labels are '1'"),
        (["a", "b", "c"], "3 distinct labels among 3 samples do not look like classes: 'a', 'b', 'c';"),
        ([str(i // 2) for i in range(2 * MOST_CLASSES + 2)], "1,001 distinct labels .* there may be 1,000 at most"),
    ],
)
def test_labels_that_are_no_classes(values, message):
    with pytest.raises(ValueError, match=f"^labels: .*{message}"):
        encode(values)


def test_most_classes():
    assert len(encode([str(i // 2) for i in range(2 * MOST_CLASSES)])[1]) == MOST_CLASSES


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "d"], "y of f: 'd' is none of the 3 known classes, 'a', 'b', 'c'; rename"),
        (["A", "d"], "y of f: 'A', 'd' are none of"),
    ],
)
def test_unknown_classes_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        encode(values, ("a", "b", "c"), origin="y of f")


def test_order_and_lists():
    assert in_order(["b", "a", "b"]) == ("a", "b")
    assert in_order(["10", "2"]) == ("2", "10")
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed("abcdef") == "'a', 'b', 'c', 'd', 'e', ..."
