"""Capture on real small models, against hooks written by hand."""

import gc
import subprocess
import sys
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import latentia.capturing
from latentia import capture
from latentia.capturing import find_layer, layer_tensor, to_tokens

quick = settings(max_examples=30, deadline=None)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def by_hand(model, layer, *inputs, **named):
    """What a layer puts out, by the shortest hook there is."""
    seen = []
    handle = layer.register_forward_hook(lambda module, args, output: seen.append(output))
    model.eval()
    with torch.no_grad():
        model(*inputs, **named)
    handle.remove()
    return seen[0]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0][:, -1]


class Output(OrderedDict):
    """A mapping, as Hugging Face returns it."""


class Encoder(nn.Module):
    def forward(self, x):
        return Output(loss=x.sum(), last_hidden_state=2 * x, pooler_output=x[:, 0])


class Language(nn.Module):
    """Called with keywords, as the models of Hugging Face are."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.encoder = Encoder()

    def forward(self, input_ids, attention_mask=None):
        assert input_ids.device == self.embed.weight.device
        return self.encoder(self.embed(input_ids))["pooler_output"]


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(5 * 4 * 6, 2),
    )


def transformer():
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


@contextmanager
def counting_files(folder):
    """Let nothing be left in a folder."""
    before = list(folder.iterdir())
    yield
    assert list(folder.iterdir()) == before


class TestFindLayer:
    def test_finds_each_by_its_name(self):
        model = transformer()
        for name, module in model.named_modules():
            assert find_layer(model, name) is module

    def test_finds_a_shared_module_by_both_names(self):
        shared = nn.Linear(2, 2)
        model = nn.ModuleDict({"left": shared, "right": shared})
        assert find_layer(model, "right") is find_layer(model, "left") is shared

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("0.linear1", "did you mean 'layers.0.linear1'"),
            ("layers.0.liner1", "did you mean 'layers.0.linear1'"),
            ("zzzzzz", r"its layers are 'layers', 'layers.0', .*, \.\.\."),
        ],
    )
    def test_names_those_that_resemble_it(self, name, hint):
        with pytest.raises(ValueError, match=rf"TransformerEncoder has no submodule '{name}'; {hint}"):
            find_layer(transformer(), name)

    def test_a_model_without_submodules(self):
        with pytest.raises(ValueError, match="it has no submodules"):
            find_layer(nn.ReLU(), "x")


class TestLayerTensor:
    x, y, i = torch.ones(2, 3), torch.ones(4), torch.ones(2).long()

    @pytest.mark.parametrize(
        ("output", "expected"),
        [
            (x, x),
            ((x, y), x),
            ([None, i, y, x], y),
            ({"a": i, "b": x}, x),
            ({"loss": y, "last_hidden_state": x}, x),
            (Output(last_hidden_state=None, b=y), y),
        ],
    )
    def test_takes_the_right_one(self, output, expected):
        assert layer_tensor(output) is expected

    @pytest.mark.parametrize(
        ("output", "got"),
        [
            (i, r"got int64 tensor \(2,\)"),
            (None, "got NoneType"),
            ((), r"got tuple of \(\)"),
            (("a", [x]), r"got tuple of \(str, list of \(float32 tensor \(2, 3\)\)\)"),
            ({"ids": i}, r"got dict of \{'ids': int64 tensor \(2,\)\}"),
        ],
    )
    def test_says_what_it_got(self, output, got):
        with pytest.raises(TypeError, match=got):
            layer_tensor(output)


class TestToTokens:
    @quick
    @given(sizes=st.lists(st.integers(1, 4), min_size=4, max_size=5), channels_last=st.booleans())
    def test_each_position_is_a_token(self, sizes, channels_last):
        hidden = torch.rand(sizes)
        tokens, grid = to_tokens(hidden.movedim(1, -1) if channels_last else hidden, channels_last=channels_last)
        assert grid == tuple(sizes[2:])
        assert tokens.shape == (sizes[0], np.prod(grid), sizes[1])
        for place, position in enumerate(np.ndindex(grid)):
            assert torch.equal(tokens[:, place], hidden[(slice(None), slice(None), *position)])
        assert torch.equal(tokens.unflatten(1, grid).movedim(-1, 1), hidden)

    def test_tokens_pass(self):
        hidden = torch.rand(2, 3, 4)
        for channels_last in (False, True):
            assert to_tokens(hidden, channels_last=channels_last) == (hidden, None)

    @pytest.mark.parametrize(
        ("shape", "message"),
        [((2, 3), "channel_groups"), ((2,), "must be tokens"), ((1,) * 6, "must be tokens"), ((), "must be")],
    )
    def test_refuses_other_shapes(self, shape, message):
        with pytest.raises(ValueError, match=message):
            to_tokens(torch.ones(shape))

    @pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
    def test_refuses_other_dtypes(self, dtype):
        with pytest.raises(TypeError, match=f"hidden must be a floating tensor, got {dtype}"):
            to_tokens(torch.ones(1, 2, 3, dtype=dtype))


class TestModels:
    """The layers of each sort of model, in batches, against the same model run by hand at once."""

    def test_convolutional(self):
        model, images, classes = convolutional(), torch.randn(7, 3, 4, 6), torch.randint(0, 3, (7,))
        loader = DataLoader(TensorDataset(images, classes), batch_size=3)
        expected = by_hand(model, model[1], images).flatten(2).transpose(1, 2)
        # By hand, the activation after it has already overwritten this one.
        assert (expected >= 0).all()
        latents = capture(model, "1", loader, progress=False)
        assert (latents.values < 0).any()
        torch.testing.assert_close(latents.values.relu(), expected)
        assert latents.mask is None
        assert torch.equal(latents.labels, classes)

        vectors = capture(model, "", loader, progress=False)
        torch.testing.assert_close(vectors.values, model(images))
        assert torch.equal(vectors.labels, classes)

    def test_channels_last(self):
        latents = capture(nn.Identity(), "", [torch.ones(2, 4, 6, 3)], channels_last=True, progress=False)
        assert latents.values.shape == (2, 24, 3)

    def test_transformer_with_padding(self):
        model = transformer()
        x = torch.randn(5, 6, 8)
        real = torch.arange(6) < torch.tensor([6, 2, 4, 1, 3])[:, None]
        batches = [{"src": x[i : i + 2], "src_key_padding_mask": ~real[i : i + 2]} for i in (0, 2, 4)]
        for name in ("layers.0", "layers.1.linear2", "layers.1.norm2", ""):
            latents = capture(model, name, batches, mask=lambda batch: ~batch["src_key_padding_mask"], progress=False)
            torch.backends.mha.set_fastpath_enabled(False)
            expected = by_hand(model, find_layer(model, name), x, src_key_padding_mask=~real)
            torch.backends.mha.set_fastpath_enabled(True)
            torch.testing.assert_close(latents.values, expected * real[:, :, None])
            assert torch.equal(latents.mask, real)

    def test_tuple(self):
        model, x = Recurrent(), torch.randn(5, 7, 3)
        expected, _ = by_hand(model, model.lstm, x)
        latents = capture(model, "lstm", x.split(2), progress=False)
        torch.testing.assert_close(latents.values, expected)

    def test_mapping_called_with_keywords(self):
        model, ids = Language(), torch.randint(0, 10, (4, 5))
        mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
        batch = {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(4)}
        latents = capture(model, "encoder", [batch], progress=False)
        expected = 2 * model.embed(ids) * mask[:, :, None]
        torch.testing.assert_close(latents.values, expected.detach())
        assert torch.equal(latents.mask, mask.bool())
        assert latents.labels.tolist() == [0, 1, 2, 3]

        inverted = capture(model, "encoder", [batch], mask=lambda b: b["attention_mask"] == 0, progress=False)
        assert torch.equal(inverted.mask, mask == 0)

    def test_mapping_with_labels_in_a_tuple(self):
        batch = ({"input_ids": torch.zeros(2, 3).long()}, torch.tensor([4, 5]))
        assert capture(Language(), "encoder", [batch], progress=False).labels.tolist() == [4, 5]

    @pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32, torch.float16, torch.float64])
    def test_labels_keep_their_dtype(self, dtype):
        labels = torch.tensor([0.1, 2.7, 3]).to(dtype)
        latents = capture(nn.Identity(), "", [(torch.ones(3, 2), labels)] * 2, progress=False)
        assert latents.labels.dtype == dtype
        assert torch.equal(latents.labels, labels.repeat(2))

    def test_labels_of_another_shape_are_none(self):
        ids = torch.zeros(2, 3).long()
        assert capture(Language(), "", [{"input_ids": ids, "labels": ids}], progress=False).labels is None
        assert capture(nn.Identity(), "", [(torch.ones(2, 3), ids)], progress=False).labels is None
        assert capture(nn.Identity(), "", [[torch.ones(2, 3)]], progress=False).labels is None

    def test_attention_mask_of_another_length_is_no_mask(self):
        batch = {"input_ids": torch.zeros(2, 3).long(), "attention_mask": torch.ones(2, 4)}
        assert capture(Language(), "encoder", [batch], progress=False).mask is None

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_gives_float32(self, dtype):
        x = torch.randn(4, 3).to(dtype)
        latents = capture(nn.Identity(), "", [x], progress=False)
        assert latents.values.dtype == torch.float32
        assert torch.equal(latents.values, x.float())

    def test_autocast(self):
        with torch.autocast("cpu", torch.bfloat16):
            latents = capture(nn.Sequential(nn.Linear(3, 4)), "0", [torch.randn(2, 3)], progress=False)
        assert latents.values.dtype == torch.float32

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
    def test_on_a_gpu(self):
        model, ids = Language(), torch.randint(0, 10, (4, 5))
        batch = {"input_ids": ids, "attention_mask": ids > 3, "labels": torch.arange(4)}
        expected = capture(model, "encoder", [batch], progress=False)
        latents = capture(model.cuda(), "encoder", [batch], progress=False)
        torch.testing.assert_close(latents.values, expected.values)
        assert torch.equal(latents.mask, expected.mask)

    def test_device_moves_the_inputs(self):
        # "meta" stands in for a device that is not the model's: no number arrives on it.
        with pytest.raises(RuntimeError, match="meta"):
            capture(nn.Sequential(nn.Linear(3, 4)), "0", [torch.ones(2, 3)], device="meta", progress=False)


class TestJoining:
    @quick
    @given(
        sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=6),
        max_bytes=st.sampled_from([0, 1, 50, 300, 2**30]),
        block=st.sampled_from([1, 40, 2**26]),
        masked=st.booleans(),
        vectors=st.booleans(),
    )
    def test_batches_of_any_size_wherever_they_are_kept(self, sizes, max_bytes, block, masked, vectors):
        generator = torch.Generator().manual_seed(len(sizes))
        batches = [torch.randn((b, 3) if vectors else (b, t, 3), generator=generator) for b, t in sizes]
        masks = [torch.rand(b, t, generator=generator) < 0.5 for b, t in sizes]
        remaining = iter(masks)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(latentia.capturing, "_BLOCK", block)
            latents = capture(
                nn.Identity(),
                "",
                batches,
                mask=(lambda batch: next(remaining)) if masked and not vectors else None,
                max_bytes=max_bytes,
                progress=False,
            )
        assert len(latents) == sum(b for b, _ in sizes)
        if vectors:
            assert torch.equal(latents.values, torch.cat(batches))
            assert latents.mask is None
            return
        assert latents.values.shape[1] == max(t for _, t in sizes)
        mask = torch.ones(latents.values.shape[:2]).bool() if latents.mask is None else latents.mask
        row = 0
        for batch, real in zip(batches, masks, strict=True):
            real = real if masked else torch.ones_like(real)
            for values, kept in zip(batch, real, strict=True):
                assert torch.equal(latents.values[row, : len(values)], values * kept[:, None])
                assert torch.equal(mask[row, : len(values)], kept)
                assert not latents.values[row, len(values) :].any()
                assert not mask[row, len(values) :].any()
                row += 1

    def test_says_nothing_of_a_mask_without_padding(self):
        x = torch.ones(2, 3, 4)
        latents = capture(nn.Identity(), "", [x], mask=lambda batch: torch.ones(2, 3).bool(), progress=False)
        assert latents.mask is None

    def test_a_spilled_result_is_mapped_from_a_file_without_a_name(self, tmp_path):
        x = torch.randn(9, 4, 5)
        with counting_files(tmp_path):
            latents = capture(nn.Identity(), "", x.split(2), max_bytes=100, spill_dir=tmp_path, progress=False)
        assert is_mapped(tmp_path)
        assert torch.equal(latents.values, x)
        # It is as good as any other tensor: it may be written to, and parts of it outlive it.
        latents.values[:] = 2
        part = latents.values[1]
        del latents
        gc.collect()
        assert (part == 2).all()
        del part
        gc.collect()
        assert not is_mapped(tmp_path)

    def test_nothing_is_left_after_an_error(self, tmp_path):
        with counting_files(tmp_path), pytest.raises(ValueError, match="values must be finite"):
            capture(
                nn.Identity(),
                "",
                [torch.ones(2, 3), torch.full((2, 3), torch.nan)],
                max_bytes=0,
                spill_dir=tmp_path,
                progress=False,
            )

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
    def test_memory_is_bounded(self, tmp_path):
        code = f"""
import resource
import torch
from torch import nn
from latentia import capture

torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(2, 1000))

def run(number, longest, **options):
    batches = (torch.ones(10, longest if i % 2 else 40, 2) for i in range(number))
    latents = capture(model, "0", batches, progress=False, **options)
    assert latents.values.shape == (10 * number, longest, 1000), latents
    return latents.values.nbytes

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

# In memory: never the batches and the whole at once.
run(2, 41)
before = peak()
size = run(250, 41)
assert peak() - before < 1.75 * size, (peak() - before, size)

# 160 MB in a file, where the limit leaves no room for them in memory.
used = next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]
limit = int(used) * 1024 + 60 * 10**6
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    torch.ones(160 * 10**6 // 4)
except RuntimeError:
    pass
else:
    raise SystemExit("the limit does not work")
for longest in (40, 41):
    run(100, longest, max_bytes=10**7, spill_dir={str(tmp_path)!r})
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout


def is_mapped(folder):
    """Whether a file of this folder that no longer has a name is mapped into memory."""
    if sys.platform != "linux":
        pytest.skip("reads the list of maps")
    maps = Path("/proc/self/maps").read_text().splitlines()
    return any(str(folder) in line and "(deleted)" in line for line in maps)


class TestTheModelAfterwards:
    def model(self):
        model = convolutional().train()
        model[1].eval()  # as someone who fine-tunes would
        return model

    def state(self, model):
        modes = [module.training for module in model.modules()]
        hooks = [len(module._forward_hooks) for module in model.modules()]
        return modes, hooks, torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled()

    def test_is_as_before(self):
        model = self.model()
        before, weights = self.state(model), {name: t.clone() for name, t in model.state_dict().items()}
        capture(model, "0", [torch.randn(2, 3, 4, 6)], progress=False)
        assert self.state(model) == before
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, weights[name])

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_is_as_before_if_it_raises(self, error):
        model = self.model()
        before = self.state(model)

        def fail(module, inputs):
            raise error("broken")

        handle = model[5].register_forward_pre_hook(fail)
        with pytest.raises(error, match="broken"):
            capture(model, "0", [torch.randn(2, 3, 4, 6)], progress=False)
        handle.remove()
        assert self.state(model) == before

    def test_runs_in_evaluation_mode_without_gradients(self):
        model = self.model()
        seen = []
        model[3].register_forward_hook(
            lambda module, inputs, output: seen.append((module.training, output.requires_grad))
        )
        latents = capture(model, "3", [torch.randn(2, 3, 4, 6)], progress=False)
        assert seen == [(False, False)]
        assert not latents.values.requires_grad

    def test_what_it_caches_can_be_trained_with(self):
        class Caching(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear, self.positions = nn.Linear(3, 3), None

            def forward(self, x):
                if self.positions is None:
                    self.positions = torch.arange(3.0)
                return self.linear(x) * self.positions

        model = Caching()
        capture(model, "linear", [torch.ones(2, 3)], progress=False)
        model(torch.ones(2, 3)).sum().backward()
        assert model.linear.weight.grad is not None


class TestProgress:
    def test_counts_batches_on_standard_error(self, capsys):
        capture(nn.Identity(), "", [torch.ones(1, 2)] * 7)
        out, err = capsys.readouterr()
        assert out == ""
        assert "7/7" in err

    def test_without_a_length(self, capsys):
        class Stream(IterableDataset):
            def __iter__(self):
                yield from torch.ones(5, 2)

        for batches in (iter([torch.ones(1, 2)] * 5), DataLoader(Stream())):
            assert len(capture(nn.Identity(), "", batches)) == 5
            assert "5/" in capsys.readouterr().err

    def test_silent(self, capsys):
        capture(nn.Identity(), "", [torch.ones(1, 2)], progress=False)
        assert capsys.readouterr() == ("", "")


class TestErrors:
    x = torch.ones(2, 3)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"layer": "1"}, ValueError, "no submodule '1'"),
            ({"batches": []}, ValueError, "batches yielded nothing"),
            ({"batches": iter(())}, ValueError, "batches yielded nothing"),
            ({"max_bytes": -1}, ValueError, "max_bytes must not be negative, got -1"),
            ({"spill_dir": "no such folder"}, ValueError, "spill_dir: no such folder is not a folder"),
            ({"batches": [1]}, TypeError, "batches must be tensors.*got int"),
            ({"batches": [()]}, TypeError, r"batches must be tensors.*got tuple of \(\)"),
            ({"batches": [x[:0]]}, ValueError, "values must not be empty"),
            ({"batches": [x, x / 0 * 0]}, ValueError, "values must be finite"),
            ({"batches": [x.double() * 1e300]}, ValueError, "values must be finite"),
            ({"batches": [x, torch.ones(2, 4)]}, ValueError, r"latents \(2, 4\) do not fit .* \(2, 3\)"),
            ({"batches": [x, torch.ones(2, 4, 3)]}, ValueError, "do not fit those before"),
            ({"batches": [(x, torch.ones(3))]}, ValueError, "labels must have 2 rows"),
            ({"batches": [(x, torch.ones(2)), x]}, ValueError, "some have labels, and some have none"),
            ({"batches": [x, (x, torch.ones(2))]}, ValueError, "some have labels, and some have none"),
            ({"batches": [(x, x[:, 0] / 0)]}, ValueError, "labels must be finite"),
            ({"batches": [x.long()]}, TypeError, "output of a layer must be a floating tensor"),
            ({"batches": [x[0]]}, ValueError, "hidden must be tokens"),
            ({"mask": lambda batch: batch > 0}, ValueError, "mask needs values"),
            ({"batches": [x[None]], "mask": lambda batch: batch > 0}, ValueError, "mask must have shape"),
            ({"batches": [x[None]], "mask": lambda batch: batch[:, :, 0]}, TypeError, "mask must be boolean"),
        ],
    )
    def test_refuses(self, arguments, error, message):
        with pytest.raises(error, match=message):
            capture(nn.Identity(), **{"layer": "", "batches": [self.x], "progress": False} | arguments)

    def test_refuses_a_floating_attention_mask(self):
        batch = {"input_ids": torch.zeros(2, 3).long(), "attention_mask": torch.ones(2, 3)}
        with pytest.raises(TypeError, match="attention_mask must be boolean or of integers"):
            capture(Language(), "encoder", [batch], progress=False)

    def test_says_which_batch(self):
        with pytest.raises(ValueError, match="values must be finite") as caught:
            capture(nn.Identity(), "", [self.x, self.x, self.x * torch.nan], progress=False)
        assert caught.value.__notes__ == ["(while capturing layer '' from batch 2, counted from 0)"]

    def test_a_layer_that_does_not_run(self):
        model = Recurrent()
        model.unused = nn.Linear(2, 2)
        with pytest.raises(RuntimeError, match=r"layer 'unused' must run once .* ran not at all"):
            capture(model, "unused", [torch.ones(2, 3, 3)], progress=False)

    def test_a_layer_that_runs_twice(self):
        linear = nn.Linear(3, 3)
        with pytest.raises(RuntimeError, match=r"layer '0' must run once .* ran 2 times"):
            capture(nn.Sequential(linear, nn.ReLU(), linear), "0", [self.x], progress=False)
