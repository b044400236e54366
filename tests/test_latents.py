"""The container: what it takes, what it refuses, and that nothing is lost on the way to disk and back."""

import dataclasses
import json
import pickle
import stat
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import latentia.latents
from latentia import Latents

quick = settings(max_examples=40, deadline=None)


# What NumPy has, too.
floats = (torch.float16, torch.float32, torch.float64)
text = st.text(max_size=8)


@st.composite
def arguments(draw, dtypes=(*floats, torch.bfloat16)):
    """Arguments that make latents of any sort, few in number."""
    n, t, d = (draw(st.integers(1, 5)) for _ in range(3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    tokens, masked = draw(st.booleans()), draw(st.booleans())
    shape = (n, t, d) if tokens else (n, d)
    mask = torch.rand(n, t, generator=generator) < 0.7 if tokens and masked else None
    labels = {
        "none": None,
        "integers": torch.randint(-3, 3, (n,), generator=generator),
        "floats": torch.randn(n, generator=generator),
    }[draw(st.sampled_from(["none", "integers", "floats"]))]
    ids = draw(
        st.none()
        | st.lists(text, min_size=n, max_size=n, unique=True)
        | st.lists(st.integers(-(2**62), 2**62), min_size=n, max_size=n, unique=True)
    )
    names = draw(st.lists(st.from_regex(r"[a-c][A-Z]{0,3}", fullmatch=True), max_size=3, unique=True))
    columns = [
        torch.randn(n, generator=generator),
        torch.randint(0, 9, (n,), generator=generator, dtype=torch.int16),
        torch.rand(n, generator=generator) < 0.5,
        draw(st.lists(text, min_size=n, max_size=n)),
    ]
    return {
        "values": torch.randn(shape, generator=generator).to(draw(st.sampled_from(dtypes))),
        "mask": mask,
        "labels": labels,
        "ids": ids,
        "attributes": {name: draw(st.sampled_from(columns)) for name in names},
    }


def same(left, right):
    """Whether two things hold equal tensors of equal dtypes, or equal anything else."""
    if isinstance(left, Latents):
        fields = [field.name for field in dataclasses.fields(Latents)]
        return all(same(getattr(left, field), getattr(right, field)) for field in fields)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    return left == right


@pytest.fixture
def latents():
    return Latents(
        torch.arange(24.0).view(4, 3, 2),
        mask=[[True, True, True], [True, True, False], [True, False, False], [False, True, True]],
        labels=[0, 1, 0, 1],
        ids=["a", "b", "c", "d"],
        attributes={"age": [30, 40, 50, 60], "split": ["train", "train", "test", "test"]},
    )


class TestConstructor:
    def test_converts_arrays_and_sequences(self):
        made = Latents(
            np.ones((2, 3, 1), dtype=np.float32),
            mask=np.array([[True, False, True]] * 2),
            labels=(0.5, 1.5),
            ids=np.array([7, 8]),
            attributes={"name": np.array(["x", "y"]), "size": [1, 2], "box": np.zeros((2, 4))},
        )
        assert made.values.dtype == torch.float32
        assert torch.equal(made.mask, torch.tensor([[True, False, True]] * 2))
        assert made.labels.tolist() == [0.5, 1.5]
        assert made.ids == (7, 8)
        assert all(type(i) is int for i in made.ids)
        assert made.attributes["name"] == ("x", "y")
        assert all(type(name) is str for name in made.attributes["name"])
        assert made.attributes["size"].tolist() == [1, 2]
        assert made.attributes["box"].shape == (2, 4)

    def test_keeps_the_memory_of_a_writable_array_and_of_a_tensor(self):
        array, tensor = np.ones((2, 3)), torch.ones(2, 3)
        assert Latents(tensor).values is tensor
        made = Latents(array)
        array[0, 0] = 5
        assert made.values[0, 0] == 5

    @pytest.mark.parametrize(
        "array",
        [
            np.arange(6.0).reshape(2, 3)[::-1],
            np.arange(6.0).reshape(3, 2).T,
            np.arange(6.0).reshape(2, 3).astype(">f8"),
            np.broadcast_to(np.arange(3.0), (2, 3)),
        ],
        ids=["negative strides", "transposed", "big-endian", "read-only"],
    )
    def test_takes_any_layout_of_an_array(self, array):
        assert Latents(array).values.tolist() == array.tolist()

    def test_takes_a_data_frame(self):
        assert Latents(pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})).values.tolist() == [[1, 3], [2, 4]]

    def test_booleans_are_labels_too(self):
        assert Latents(torch.ones(2, 1), labels=[True, False]).labels.tolist() == [1, 0]

    def test_sets_padding_to_zero_in_a_copy(self):
        values = torch.ones(2, 2, 1)
        values[0, 1], values[1, 0] = torch.nan, torch.inf
        made = Latents(values, mask=[[True, False], [False, True]])
        assert made.values.flatten().tolist() == [1, 0, 0, 1]
        assert values[0, 1].isnan()

    def test_copies_nothing_if_padding_is_zero(self):
        values = torch.tensor([[[1.0], [0.0]]])
        assert Latents(values, mask=[[True, False]]).values is values

    def test_gradients_pass(self):
        values = torch.ones(2, 2, 3, requires_grad=True)
        Latents(values, mask=[[True, False], [True, True]]).pooled().values.sum().backward()
        assert values.grad[:, :, 0].tolist() == [[1, 0], [0.5, 0.5]]

    def test_does_not_change(self, latents):
        with pytest.raises(dataclasses.FrozenInstanceError):
            latents.values = torch.ones(4, 2)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"values": torch.ones(3)}, ValueError, r"values must have shape .* got \(3,\)"),
            ({"values": torch.ones(1, 2, 3, 4)}, ValueError, "values must have shape"),
            ({"values": 1.5}, ValueError, "values must have shape"),
            ({"values": torch.ones(0, 3)}, ValueError, "values must not be empty"),
            ({"values": torch.ones(2, 0, 3)}, ValueError, "values must not be empty"),
            ({"values": [[1, 2], [3, 4]]}, TypeError, "values must be floating, got torch.int64"),
            ({"values": torch.ones(2, 3, dtype=torch.complex64)}, TypeError, "values must be floating"),
            ({"values": [[1.0], [2.0, 3.0]]}, TypeError, "values must be a tensor"),
            ({"values": [["a", "b"]]}, TypeError, "values must be a tensor"),
            ({"values": None}, TypeError, "values must be a tensor"),
            ({"values": torch.eye(2).to_sparse()}, TypeError, "values must be a dense tensor"),
            (
                {"values": [[1.0, float("nan")], [0.0, 0.0]]},
                ValueError,
                "values must be finite, but sample 0",
            ),
            (
                {"values": [[1.0, 0.0], [0.0, float("-inf")]]},
                ValueError,
                "values must be finite, but sample 1",
            ),
            ({"mask": torch.ones(2, 3)}, TypeError, "mask must be boolean"),
            ({"mask": torch.ones(2, 4).bool()}, ValueError, r"mask must have shape \(2, 3\), got \(2, 4\)"),
            ({"mask": torch.ones(2, 3, 4).bool()}, ValueError, "mask must have shape"),
            ({"values": torch.ones(2, 3), "mask": torch.ones(2, 3).bool()}, ValueError, "mask needs values"),
            ({"labels": [1, 2, 3]}, ValueError, "labels must have 2 rows"),
            ({"labels": 1}, ValueError, "labels must have 2 rows"),
            ({"labels": [[1], [2]]}, ValueError, r"labels must have shape \(2,\)"),
            ({"labels": ["cat", "dog"]}, TypeError, "labels must be integers or floats, got strings"),
            ({"labels": [1.0, float("nan")]}, ValueError, "labels must be finite"),
            ({"labels": torch.ones(2, dtype=torch.complex64)}, TypeError, "labels must be .* real"),
            ({"ids": ["a"]}, ValueError, "ids: 1 ids for 2 samples"),
            ({"ids": "ab"}, TypeError, "ids must be a sequence"),
            ({"ids": ["a", "a"]}, ValueError, "ids must differ .* 'a' comes 2 times"),
            ({"ids": [1, "a"]}, TypeError, "ids must be all strings or all integers, got int, str"),
            ({"ids": [1.0, 2.0]}, TypeError, "ids must be all strings"),
            ({"ids": [True, False]}, TypeError, "ids must be all strings"),
            ({"attributes": {"age": [1]}}, ValueError, r"attributes\['age'\] must have 2 rows"),
            ({"attributes": {"age": [1.0, float("inf")]}}, ValueError, r"attributes\['age'\] must be finite"),
            ({"attributes": {"kind": ["a"]}}, ValueError, r"attributes\['kind'\] holds 1 strings"),
            ({"attributes": {"kind": "ab"}}, TypeError, r"attributes\['kind'\] must be"),
            ({"attributes": {"kind": ["a", 1]}}, TypeError, r"attributes\['kind'\] holds strings among"),
            ({"attributes": {"kind": [None, None]}}, TypeError, r"attributes\['kind'\] must be"),
            ({"attributes": {"": [1, 2]}}, TypeError, "attributes must have names"),
            ({"attributes": {1: [1, 2]}}, TypeError, "attributes must have names"),
        ],
    )
    def test_refuses(self, unchecked, arguments, error, message):
        with pytest.raises(error, match=message):
            Latents(**{"values": torch.ones(2, 3, 4)} | arguments)

    @quick
    @given(n=st.integers(1, 9), at=st.integers(0, 8), block=st.integers(1, 40))
    def test_finds_nan_in_whatever_block(self, n, at, block):
        values = torch.ones(n, 2, 3)
        values[at % n, 1, 2] = torch.nan
        mask = torch.ones(n, 2, dtype=torch.bool)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(latentia.latents, "_BLOCK", block)
            with pytest.raises(ValueError, match=f"sample {at % n} holds"):
                Latents(values, mask=mask)
            mask[at % n, 1] = False
            assert Latents(values, mask=mask).values.sum() == 6 * n - 3


class TestOf:
    def test_passes_latents_through(self, latents):
        assert Latents.of(latents) is latents

    @pytest.mark.parametrize("make", [torch.tensor, np.array, list, pd.DataFrame])
    def test_makes_them_of_anything_else(self, make):
        assert Latents.of(make([[1.0, 2.0], [3.0, 4.0]])).values.tolist() == [[1, 2], [3, 4]]

    def test_refuses_what_is_none(self):
        with pytest.raises(TypeError, match="values must be a tensor"):
            Latents.of({"values": [[1.0]]})


def test_length_and_description(latents):
    assert len(latents) == 4
    assert repr(latents) == (
        "Latents(values=float32 (4, 3, 2), mask=bool (4, 3), labels=int64 (4,), ids=str, "
        "attributes={age: int64 (4,), split: str})"
    )
    assert repr(Latents(torch.ones(2, 5).double())) == "Latents(values=float64 (2, 5))"


class TestSelection:
    @quick
    @given(known=arguments(), data=st.data())
    def test_is_that_of_lists(self, known, data):
        made = Latents(**known)
        n = len(made)
        form = data.draw(st.sampled_from(["slice", "booleans", "integers"]))
        if form == "slice":
            index = data.draw(st.slices(n))
            positions = list(range(n)[index])
        elif form == "booleans":
            index = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
            positions = [i for i in range(n) if index[i]]
        else:
            index = data.draw(st.lists(st.integers(-n, n - 1), max_size=n, unique_by=lambda i: i % n))
            positions = [i % n for i in index]
        if not positions:
            with pytest.raises(ValueError, match="index selects none"):
                made[index]
            return
        if form != "slice":
            index = data.draw(st.sampled_from([list, np.array, torch.tensor]))(index)
        picked = made[index]
        assert len(picked) == len(positions)
        for new, old in enumerate(positions):
            assert torch.equal(picked.values[new], made.values[old])
            assert made.mask is None or torch.equal(picked.mask[new], made.mask[old])
            assert made.labels is None or picked.labels[new] == made.labels[old]
            assert made.ids is None or picked.ids[new] == made.ids[old]
            assert all(picked.attributes[name][new] == column[old] for name, column in made.attributes.items())

    def test_slices_share_memory(self, latents):
        assert latents[1::2].values.data_ptr() == latents.values[1].data_ptr()

    def test_repeats_samples_without_ids(self):
        assert Latents(torch.tensor([[1.0], [2.0]]))[[1, 0, 1]].values.flatten().tolist() == [2, 1, 2]

    @pytest.mark.parametrize(
        ("index", "error", "message"),
        [
            (0, TypeError, "one-dimensional"),
            (torch.tensor(0), TypeError, "one-dimensional"),
            ([[0, 1]], TypeError, "one-dimensional"),
            ([0.0, 1.0], TypeError, "got torch.float64"),
            ("ab", TypeError, "index must be"),
            ([True, False], ValueError, "2 booleans for 4 samples"),
            ([False] * 4, ValueError, "selects none"),
            ([], ValueError, "selects none"),
            (slice(3, 2), ValueError, "selects none"),
            ([0, 4], IndexError, "index 4 is out of range for 4 samples"),
            ([-5], IndexError, "index -5"),
            ([1, 1], ValueError, "ids must differ"),
        ],
    )
    def test_refuses(self, latents, index, error, message):
        with pytest.raises(error, match=message):
            latents[index]


class TestTo:
    def test_changes_the_dtype_of_values_only(self, latents):
        for half in (
            latents.to(torch.float16),
            latents.to("cpu", torch.float16),
            latents.to(dtype=torch.float16),
        ):
            assert half.values.dtype == torch.float16
            assert same(half.to(torch.float32), latents)

    def test_refuses_integers_and_overflow(self, latents):
        with pytest.raises(TypeError, match="values must be floating"):
            latents.to(torch.int32)
        with pytest.raises(ValueError, match="values must be finite"):
            Latents(torch.tensor([[1e6]])).to(torch.float16)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
    def test_moves_everything(self, latents, tmp_path):
        moved = latents.to("cuda")
        assert "device=cuda" in repr(moved)
        for tensor in (moved.values, moved.mask, moved.labels, moved.attributes["age"]):
            assert tensor.device.type == "cuda"
        assert same(moved.to("cpu"), latents)
        assert same(moved[[2, 0]].to("cpu"), latents[[2, 0]])
        assert torch.equal(moved.pooled().values.cpu(), latents.pooled().values)
        moved.save(tmp_path / "moved")
        assert same(Latents.load(tmp_path / "moved"), latents)
        assert moved.to_pandas().equals(latents.to_pandas())
        assert Latents(moved.values, labels=np.arange(4)).labels.device.type == "cuda"


class TestPooled:
    @quick
    @given(arguments())
    def test_is_the_mean_over_real_tokens(self, known):
        made = Latents(**known)
        if made.values.ndim == 2:
            assert made.pooled() is made
            return
        real = torch.ones(made.values.shape[:2]).bool() if made.mask is None else made.mask
        if not real.any(dim=1).all():
            with pytest.raises(ValueError, match="samples are all padding"):
                made.pooled()
            return
        pooled = made.pooled()
        expected = [values[mask].double().mean(dim=0) for values, mask in zip(made.values, real, strict=True)]
        torch.testing.assert_close(pooled.values, torch.stack(expected).to(made.values.dtype))
        assert same(dataclasses.replace(pooled, values=made.values, mask=made.mask), made)

    def test_accumulates_in_float32(self):
        # The sum of these is 131072, beyond the largest number of float16.
        assert Latents(torch.full((1, 2048, 1), 64.0, dtype=torch.float16)).pooled().values.item() == 64

    def test_names_the_sample_that_is_all_padding(self):
        with pytest.raises(ValueError, match="1 samples are all padding, the first is 1"):
            Latents(torch.ones(2, 2, 1), mask=[[True, True], [False, False]]).pooled()


class TestFile:
    @quick
    @given(arguments())
    def test_round_trip(self, tmp_path_factory, known):
        made = Latents(**known)
        path = tmp_path_factory.mktemp("latents") / "made.safetensors"
        made.save(path)
        assert same(Latents.load(path), made)

    def test_round_trip_of_views(self, tmp_path):
        values = torch.arange(24.0).view(2, 3, 4)
        made = Latents(
            values.transpose(1, 2),
            labels=values[:, 0, 0],
            attributes={"whole": values, "part": values[:, 1], "same": values},
        )
        made.save(str(tmp_path / "made"))
        assert same(Latents.load(str(tmp_path / "made")), made)

    def test_drops_gradients(self, tmp_path):
        Latents(torch.ones(2, 2, requires_grad=True)).save(tmp_path / "made")
        assert not Latents.load(tmp_path / "made").values.requires_grad

    def test_is_one_file_that_others_may_read(self, latents, tmp_path):
        latents.save(tmp_path / "made")
        (tmp_path / "other").touch()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "other"]
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert len(modes) == 1

    @pytest.mark.skipif(sys.platform != "linux", reason="reads the list of maps")
    def test_is_mapped_into_memory(self, latents, tmp_path):
        latents.save(tmp_path / "made")
        loaded = Latents.load(tmp_path / "made")
        assert str(tmp_path / "made") in Path("/proc/self/maps").read_text()
        loaded.values[0] = 7
        assert same(Latents.load(tmp_path / "made"), latents)

    def test_may_replace_the_file_that_it_came_from(self, latents, tmp_path):
        path = tmp_path / "made"
        latents.save(path)
        loaded = Latents.load(path)
        loaded[1:].save(path)
        assert same(Latents.load(path), latents[1:])
        assert same(loaded, latents)

    def test_refuses_more_text_than_fits_and_keeps_the_old_file(self, latents, tmp_path, monkeypatch):
        latents[:2].save(tmp_path / "made")
        monkeypatch.setattr(latentia.latents, "_LARGEST_HEADER", 100)
        with pytest.raises(ValueError, match="more text"):
            latents.save(tmp_path / "made")
        assert same(Latents.load(tmp_path / "made"), latents[:2])

    def test_missing_file_and_folder(self, latents, tmp_path):
        with pytest.raises(FileNotFoundError):
            Latents.load(tmp_path / "made")
        with pytest.raises(FileNotFoundError):
            latents.save(tmp_path / "folder" / "made")

    def test_refuses_a_truncated_file(self, latents, tmp_path):
        latents.save(tmp_path / "made")
        content = (tmp_path / "made").read_bytes()
        for length in [*range(0, len(content), 7), len(content) - 1]:
            (tmp_path / "made").write_bytes(content[:length])
            with pytest.raises(ValueError, match="no safetensors file, or is truncated"):
                Latents.load(tmp_path / "made")

    @pytest.mark.parametrize("content", [b"", b"just a text", pickle.dumps([1, 2]), b"\xff" * 100])
    def test_refuses_another_sort_of_file(self, tmp_path, content):
        (tmp_path / "made").write_bytes(content)
        with pytest.raises(ValueError, match="no safetensors file"):
            Latents.load(tmp_path / "made")

    @pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
    def test_refuses_the_safetensors_of_others(self, tmp_path, metadata):
        save_file({"values": torch.ones(2, 2)}, tmp_path / "made", metadata=metadata)
        with pytest.raises(ValueError, match=r"Latents\.save did not write it"):
            Latents.load(tmp_path / "made")

    @pytest.mark.parametrize(
        ("header", "tensors"),
        [
            ("{", {"values": torch.ones(2, 2)}),
            ("[]", {"values": torch.ones(2, 2)}),
            ("{}", {"values": torch.ones(2, 2)}),
            (json.dumps({"version": 1, "ids": None, "attributes": {}}), {"labels": torch.ones(2)}),
            (json.dumps({"version": 2, "ids": None, "attributes": {}}), {"values": torch.ones(2, 2)}),
            (json.dumps({"version": 1, "ids": [1], "attributes": {}}), {"values": torch.ones(2, 2)}),
            (json.dumps({"version": 1, "ids": None, "attributes": []}), {"values": torch.ones(2, 2)}),
            (
                json.dumps({"version": 1, "ids": None, "attributes": {"a": None}}),
                {"values": torch.ones(2, 2)},
            ),
            (json.dumps({"version": 1, "ids": None, "attributes": {}}), {"values": torch.ones(2)}),
            (
                json.dumps({"version": 1, "ids": None, "attributes": {}}),
                {"values": torch.full((2, 2), torch.nan)},
            ),
        ],
    )
    def test_refuses_damaged_contents(self, tmp_path, header, tensors):
        save_file(tensors, tmp_path / "made", metadata={"latentia.latents": header})
        with pytest.raises(ValueError, match="holds no latents that can be read"):
            Latents.load(tmp_path / "made")


class TestTables:
    def test_vectors(self):
        made = Latents(
            torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
            labels=[5, 6],
            ids=["x", "y"],
            attributes={"kind": ["p", "q"], "box": torch.tensor([[7, 8], [9, 10]])},
        )
        frame = made.to_pandas()
        assert list(frame.columns) == ["id", "label", "kind", "box.0", "box.1", "d0", "d1"]
        assert frame.to_numpy().tolist() == [["x", 5, "p", 7, 8, 1.0, 2.0], ["y", 6, "q", 9, 10, 3.0, 4.0]]
        assert frame["d0"].dtype == np.float32

    def test_tokens(self, latents):
        frame = latents.to_pandas()
        assert list(frame.columns) == ["sample", "token", "id", "label", "age", "split", "d0", "d1"]
        assert len(frame) == latents.mask.sum()
        last = frame.iloc[-1]
        assert last.tolist() == [3, 2, "d", 1, 60, "test", 22.0, 23.0]
        for row in frame.itertuples():
            assert latents.values[row.sample, row.token].tolist() == [row.d0, row.d1]

    @quick
    @given(known=arguments(dtypes=floats), parquet=st.booleans())
    def test_round_trip(self, tmp_path_factory, known, parquet):
        made = Latents(**known)
        frame = made.to_pandas()
        if parquet:
            path = tmp_path_factory.mktemp("tables") / "made.parquet"
            frame.to_parquet(path)
            frame = pd.read_parquet(path)
        tokens = made.values.ndim == 3
        columns = {
            "labels": None if made.labels is None else "label",
            "ids": None if made.ids is None else "id",
            "attributes": list(made.attributes),
        }
        if tokens:
            # A table has no place for what is only padding, and does not say that a mask masks nothing.
            mask = torch.ones(made.values.shape[:2]).bool() if made.mask is None else made.mask
            if not mask.any():
                with pytest.raises(ValueError, match="frame has no rows"):
                    Latents.from_pandas(frame, **columns, tokens=True)
                return
            made, mask = made[mask.any(dim=1)], mask[mask.any(dim=1)]
            length = int(mask.any(dim=0).nonzero().max()) + 1
            mask = mask[:, :length]
            made = dataclasses.replace(made, values=made.values[:, :length], mask=None if mask.all() else mask)
            frame = frame.sample(frac=1, random_state=0)
        assert same(Latents.from_pandas(frame, **columns, tokens=tokens), made)

    def test_bfloat16_becomes_float32(self):
        assert Latents(torch.ones(1, 1, dtype=torch.bfloat16)).to_pandas()["d0"].dtype == np.float32

    def test_prefix_in_the_order_of_numbers(self):
        frame = pd.DataFrame({"z10": [10.0], "z2": [2.0], "z02": [0.0], "z": [0.0], "az1": [0.0], "zoo": ["a"]})
        assert Latents.from_pandas(frame, values="z").values.tolist() == [[2, 10]]

    def test_columns_by_name(self):
        frame = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0], "who": [3, 5]}, index=[7, 7])
        made = Latents.from_pandas(frame, values=["y", "x"], ids="who", labels="who", attributes=["x"])
        assert made.values.tolist() == [[3, 1], [4, 2]]
        assert made.ids == (3, 5)
        assert made.labels.tolist() == [3, 5]
        assert made.attributes["x"].tolist() == [1, 2]

    def test_samples_of_tokens_by_any_name(self):
        frame = pd.DataFrame({"sample": ["b", "a", "b"], "token": [1, 0, 0], "d0": [1.0, 2.0, 3.0]})
        made = Latents.from_pandas(frame, ids="sample", tokens=True)
        assert made.ids == ("a", "b")
        assert made.values[:, :, 0].tolist() == [[2, 0], [3, 1]]
        assert made.mask.tolist() == [[True, False], [True, True]]

    @pytest.mark.parametrize("name", ["id", "label", "sample", "token", "d0"])
    def test_refuses_an_attribute_with_the_name_of_a_column(self, latents, name):
        clash = dataclasses.replace(latents, attributes={name: latents.labels})
        with pytest.raises(ValueError, match=f"two columns would have the name '{name}'"):
            clash.to_pandas()

    @pytest.mark.parametrize(
        ("columns", "arguments", "error", "message"),
        [
            ({}, {"values": "z"}, ValueError, "no columns z0"),
            ({}, {"values": ["d0", "q"]}, ValueError, "no column 'q'"),
            ({}, {"labels": "q"}, ValueError, "no column 'q'"),
            ({}, {"ids": "q"}, ValueError, "no column 'q'"),
            ({}, {"attributes": ["q"]}, ValueError, "no column 'q'"),
            ({}, {"tokens": True}, ValueError, "no column 'sample'"),
            ({"d0": [1.0, np.nan]}, {}, ValueError, "values must be finite, but sample 1"),
            ({"d0": ["a", "b"]}, {}, TypeError, "values must be"),
            ({"d0": [1, 2]}, {}, TypeError, "values must be floating"),
            ({"a": ["x", None]}, {"attributes": ["a"]}, TypeError, r"attributes\['a'\] holds strings among"),
            ({"sample": 0, "token": [0.0, 1.0]}, {"tokens": True}, ValueError, "'token' must hold integers"),
            ({"sample": 0, "token": [0, -1]}, {"tokens": True}, ValueError, "'token' must hold integers"),
            ({"sample": 0, "token": 0}, {"tokens": True}, ValueError, "comes twice"),
            (
                {"sample": 0, "token": [0, 1], "label": [0, 1]},
                {"tokens": True, "labels": "label"},
                ValueError,
                "must be the same in all rows of a sample",
            ),
        ],
    )
    def test_refuses(self, columns, arguments, error, message):
        frame = pd.DataFrame({"d0": [1.0, 2.0]} | columns)
        with pytest.raises(error, match=message):
            Latents.from_pandas(frame, **arguments)

    def test_refuses_a_table_without_rows(self):
        with pytest.raises(ValueError, match="frame has no rows"):
            Latents.from_pandas(pd.DataFrame({"d0": np.zeros(0)}))
