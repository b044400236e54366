import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from latentia.separation import AtomHead, AtomicLoss, AtomModeling, channel_groups
from latentia.training import PatchTransformer, SmallCNN


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def images(b: int = 6) -> Tensor:
    return torch.rand(b, 1, 8, 8)


class TextModel(nn.Module):
    """Stands for a Hugging Face model: keyword arguments, a mapping out, blocks that can be checkpointed."""

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.block = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 3)
        self.reentrant = reentrant

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        hidden = self.embed(input_ids)
        if self.reentrant is None:
            hidden = self.block(hidden)
        else:
            hidden = checkpoint(self.block, hidden, use_reentrant=self.reentrant)
        return {"last_hidden_state": hidden, "logits": self.head(hidden.mean(dim=1))}


def test_loss_is_the_weighted_criterion_of_the_hooked_tokens() -> None:
    model = PatchTransformer((1, 8, 8), 10, patch=2)
    atoms = AtomModeling(model, "encoder", weight=0.3)
    kept: list[Tensor] = []
    model.encoder.register_forward_hook(lambda module, args, output: kept.append(output))
    model(images())
    loss = atoms.loss()
    expected = 0.3 * AtomicLoss()(*atoms.head(kept[0])).loss
    torch.testing.assert_close(loss, expected)
    parameters = [model.embed.weight, atoms.head.position.weight]
    got, want = (
        torch.autograd.grad(loss, parameters, retain_graph=True),
        torch.autograd.grad(expected, parameters),
    )
    torch.testing.assert_close(got, want)
    assert all(gradient.abs().sum() > 0 for gradient in got)
    assert atoms.last is not None and "pair_distance_min" in atoms.last.diagnostics


def test_feature_maps_become_tokens_and_importances_come_back_as_maps() -> None:
    model = SmallCNN((1, 8, 8), 10)
    atoms = AtomModeling(model, "features")
    x = images(3)
    hidden = model.features(x)
    expected, _ = atoms.head(hidden.flatten(2).transpose(1, 2))
    torch.testing.assert_close(atoms.importance(x), expected.reshape(3, 4, 4))
    model(images())
    assert atoms.loss().isfinite()


def test_an_activation_has_the_width_of_what_comes_before_it() -> None:
    model = SmallCNN((1, 8, 8), 10)
    assert isinstance(model.features[1], nn.ReLU)
    assert AtomModeling(model, "features.1").importance(images(2)).shape == (2, 8, 8)


def test_channels_last_maps() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Identity())
    model[0].register_forward_hook(lambda module, args, output: output.permute(0, 2, 3, 1))
    atoms = AtomModeling(model, "1", tokens="channels_last", head=AtomHead(4))
    assert atoms.importance(images(2)).shape == (2, 6, 6)


def test_the_model_owns_nothing_new_and_the_hook_can_be_removed() -> None:
    model = SmallCNN((1, 8, 8), 10)
    before = {name for name, _ in model.named_parameters()}
    with AtomModeling(model, "features") as atoms:
        model(images())
        atoms.loss()
        assert {name for name, _ in model.named_parameters()} == before
        owned = {id(parameter) for parameter in model.parameters()}
        assert not owned & {id(parameter) for parameter in atoms.parameters()}
        assert set(atoms.state_dict()) == {"steps", *(f"head.{name}" for name in atoms.head.state_dict())}
    model(images())
    with pytest.raises(RuntimeError, match="nothing was captured"):
        atoms.loss()
    assert not model._forward_hooks and not model._forward_pre_hooks and not model.features._forward_hooks


def test_each_pass_counts_once() -> None:
    model = SmallCNN((1, 8, 8), 10)
    atoms = AtomModeling(model, "features")
    with pytest.raises(RuntimeError, match="nothing was captured at layer 'features'"):
        atoms.loss()
    first, second = images(), images()
    model(first)
    model(second)
    loss = atoms.loss()
    model(second)
    torch.testing.assert_close(atoms.loss(), loss)
    with pytest.raises(RuntimeError, match="run the model in training mode"):
        atoms.loss()


def test_evaluation_is_ignored() -> None:
    model = SmallCNN((1, 8, 8), 10)
    atoms = AtomModeling(model, "features")
    model(images())
    model.eval()
    model(images())
    model.train()
    with torch.no_grad():
        model(images())
    atoms.loss().backward()
    assert model.features[0].weight.grad is not None


def test_reading_leaves_modes_and_the_pending_pass_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    model[1].eval()
    atoms = AtomModeling(model, "1")
    x = images()
    model(x)
    reading = atoms.read(images(2))
    assert model.training and model[2].training and not model[1].training
    assert reading.output.shape == (2, 4, 6, 6) and not reading.tokens.requires_grad
    assert torch.equal(atoms.read(x[:2]).importance, atoms.read(x[:2]).importance)
    torch.testing.assert_close(atoms.loss(), 0.1 * AtomicLoss()(*atoms.head(atoms.read(x).tokens)).loss)


def test_attention_masks_are_found() -> None:
    model = TextModel()
    atoms = AtomModeling(model, "block")
    ids = torch.randint(20, (4, 6))
    mask = (torch.arange(6) < torch.tensor([6, 3, 1, 4])[:, None]).long()
    hidden = model(input_ids=ids, attention_mask=mask)["last_hidden_state"]
    expected = AtomicLoss()(*atoms.head(hidden), mask.bool()).loss * 0.1
    torch.testing.assert_close(atoms.loss(), expected)
    reading = atoms.read(ids, attention_mask=mask)
    assert reading.mask is not None and (reading.importance[~reading.mask] == 0).all()
    own = AtomModeling(model, "block", head=atoms.head, mask=lambda input_ids, **_: input_ids != 0)
    ids[:, -2:] = 0
    model(ids)
    torch.testing.assert_close(
        own.loss(), 0.1 * AtomicLoss()(*atoms.head(model.block(model.embed(ids))), ids != 0).loss
    )


def test_padding_that_holds_nan_reaches_no_gradient() -> None:
    model = nn.Sequential(nn.Identity())
    atoms = AtomModeling(model, "0", head=AtomHead(3), mask=lambda x: ~x.isnan().any(dim=-1))
    x = torch.randn(4, 5, 3)
    x[:, 3:] = math.nan
    model(x)
    atoms.loss().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in atoms.parameters())


class WithClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.register_tokens = nn.Parameter(torch.zeros(1, 2, 4))
        self.block = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        prefix = torch.cat([self.cls_token, self.register_tokens], dim=1).expand(len(x), -1, -1)
        return self.block(torch.cat([prefix, x], dim=1))


def test_class_and_register_tokens_are_left_out_unless_asked_for() -> None:
    model, x = WithClassToken(), torch.randn(2, 5, 4)
    assert AtomModeling(model, "block").importance(x).shape == (2, 5)
    assert AtomModeling(model, "block", prefix_tokens=0).importance(x).shape == (2, 8)
    assert AtomModeling(model, "block", prefix_tokens=1).importance(x).shape == (2, 7)


def test_vectors_become_tokens_only_on_request() -> None:
    model = nn.Sequential(nn.Linear(5, 12))
    x = torch.randn(4, 5)
    atoms = AtomModeling(model, "0", tokens=channel_groups(3), head=AtomHead(4))
    torch.testing.assert_close(atoms.read(x).tokens, model(x).reshape(4, 3, 4))
    AtomModeling(model, "0")
    with pytest.raises(ValueError, match="channel_groups"):
        model(x)
    with pytest.raises(ValueError, match="divisible by 5"):
        channel_groups(5)(torch.zeros(2, 12))
    with pytest.raises(ValueError, match="groups must be at least 1"):
        channel_groups(0)


@pytest.mark.parametrize("in_eval", [True, False])
def test_frozen_trains_the_head_alone(in_eval: bool) -> None:
    model = SmallCNN((1, 8, 8), 10).train(not in_eval)
    atoms = AtomModeling(model, "features", frozen=True)
    model(images())
    atoms.loss().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert atoms.head.position.weight.grad is not None
    with torch.no_grad():
        model(images())
    assert atoms.loss().requires_grad


def test_warmup_raises_the_weight_and_is_part_of_the_state() -> None:
    model, x = SmallCNN((1, 8, 8), 10), images()
    plain = AtomModeling(model, "features")
    warming = AtomModeling(model, "features", warmup=4, head=plain.head)
    shares = []
    for _ in range(6):
        model(x)
        shares.append((warming.loss() / plain.loss()).item())
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    again = AtomModeling(model, "features", warmup=4)
    again.load_state_dict(warming.state_dict())
    assert again.steps == 6


def test_paper_preset_is_the_literal_form() -> None:
    atoms = AtomModeling(SmallCNN((1, 8, 8), 10), "features", preset="paper")
    assert atoms.head.position_norm is None
    assert atoms.criterion.charge_reduction == "sum" and atoms.criterion.softening == 1e-6
    assert not any(atoms.criterion.weights.values())


def test_activation_checkpointing_gives_the_same_gradients_and_is_counted_once() -> None:
    plain = TextModel()
    saving = copy.deepcopy(plain)
    saving.reentrant = False
    head = AtomHead(8)
    ids = torch.randint(20, (5, 6))
    gradients = []
    for model in (plain, saving):
        atoms = AtomModeling(model, "block", head=head)
        for _ in range(2):  # a recomputed layer must not be taken for the next step's
            model.zero_grad()
            loss = model(ids)["logits"].square().mean() + atoms.loss()
            loss.backward()
            with pytest.raises(RuntimeError, match="nothing was captured"):
                atoms.loss()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_reentrant_checkpointing_is_refused() -> None:
    model = TextModel(reentrant=True)
    AtomModeling(model, "block")
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        model(torch.randint(20, (5, 6)))


def test_layers_that_run_twice_are_averaged_and_those_that_do_not_run_are_reported() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.shared(self.shared(x))

    model, x = Twice(), torch.randn(3, 5, 4)
    atoms = AtomModeling(model, "shared")
    model(x)
    once = model.shared(x)
    losses = [AtomicLoss()(*atoms.head(tokens)).loss for tokens in (once, model.shared(once))]
    torch.testing.assert_close(atoms.loss(), 0.1 * torch.stack(losses).mean())
    with pytest.raises(RuntimeError, match="ran 2 times"):
        atoms.read(x)
    idle = AtomModeling(model, "unused")
    model(x)
    with pytest.raises(RuntimeError, match="'unused' did not run"):
        idle.loss()


def test_a_failed_pass_leaves_nothing_behind() -> None:
    model = SmallCNN((1, 8, 8), 10)
    atoms = AtomModeling(model, "features")
    with pytest.raises(RuntimeError):
        model(torch.zeros(2, 3, 8, 8))
    model.features(images())
    with pytest.raises(RuntimeError, match="did not run"):
        atoms.loss()


def test_training_with_it_separates() -> None:
    model, x = SmallCNN((1, 8, 8), 10), images(16)
    atoms = AtomModeling(model, "features", weight=1.0)
    optimizer = torch.optim.AdamW([*model.parameters(), *atoms.parameters()], lr=1e-2)
    distances = []
    for _ in range(60):
        model(x)
        optimizer.zero_grad()
        atoms.loss().backward()
        optimizer.step()
        assert atoms.last is not None
        distances.append(atoms.last.diagnostics["pair_distance_mean"].item())
    assert distances[-1] > 1.5 * distances[0]


@pytest.mark.usefixtures("unchecked")
def test_works_in_a_compiled_model() -> None:
    model, x = SmallCNN((1, 8, 8), 10), images()
    atoms = AtomModeling(model, "features")
    model(x)
    expected = atoms.loss()
    compiled = torch.compile(model, backend="aot_eager")
    compiled(x)
    torch.testing.assert_close(atoms.loss(), expected)


@pytest.mark.usefixtures("unchecked")
def test_names_code_that_was_compiled_before() -> None:
    model, x = SmallCNN((1, 8, 8), 10), images()
    compiled = torch.compile(model, backend="aot_eager")
    compiled(x)
    atoms = AtomModeling(model, "features")
    compiled(x)
    with pytest.raises(RuntimeError, match=r"torch.compiler.reset\(\)"):
        atoms.loss()
    torch.compiler.reset()
    compiled(x)
    assert atoms.loss().isfinite()


def test_loss_may_be_taken_outside_of_autocast() -> None:
    model, x = SmallCNN((1, 8, 8), 10), images()
    atoms = AtomModeling(model, "features")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x)
    outside = atoms.loss()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x)
        inside = atoms.loss()
    assert outside.dtype == inside.dtype == torch.float32
    torch.testing.assert_close(outside, inside, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_models_of_other_precision_need_no_head_of_their_own(dtype: torch.dtype) -> None:
    model = SmallCNN((1, 8, 8), 10).to(dtype)
    atoms = AtomModeling(model, "features")
    model(images().to(dtype))
    atoms.loss().backward()
    weight = next(model.parameters())
    assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.abs().sum() > 0


def test_attention_mask_may_lie_on_another_device() -> None:
    # As with a model spread over devices, which moves what it gets. "meta" stands for a device that is not the mask's.
    with torch.device("meta"):
        model = TextModel()
        atoms = AtomModeling(model, "block")
        ids = torch.zeros(2, 5, dtype=torch.long)
    reading = atoms.read(ids, attention_mask=torch.ones(2, 5, dtype=torch.long))
    assert reading.mask is not None and reading.mask.device.type == "meta"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"layer": "feature"}, ValueError, "'features'"),
        ({"weight": -1.0}, ValueError, "weight must be at least 0"),
        ({"warmup": -1}, ValueError, "warmup must be at least 0"),
        (
            {"tokens": "patches"},
            ValueError,
            "tokens must be 'auto', 'channels_last' or a function, got 'patches'",
        ),
        ({"tokens": channel_groups(2)}, ValueError, r"pass head=AtomHead\(width\)"),
        (
            {"model": nn.Sequential(nn.ReLU()), "layer": "0"},
            ValueError,
            "width of the tokens of layer '0' cannot be told",
        ),
        ({"preset": "v3"}, ValueError, "preset must be 'paper' or None"),
        ({"preset": "paper", "head": AtomHead(4)}, ValueError, "makes its own head"),
        ({"model": nn.DataParallel(SmallCNN((1, 8, 8), 10))}, TypeError, "DistributedDataParallel"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_refused(arguments: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        AtomModeling(**{"model": SmallCNN((1, 8, 8), 10), "layer": "features"} | arguments)


def test_output_that_does_not_fit_is_refused() -> None:
    model = SmallCNN((1, 8, 8), 10)
    AtomModeling(model, "features", head=AtomHead(7))
    with pytest.raises(ValueError, match=r"tokens of width 32, the head takes 7: pass head=AtomHead\(32\)"):
        model(images())
    text = TextModel()
    AtomModeling(text, "block", mask=lambda ids: torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask must be boolean of shape \(5, 6\)"):
        text(torch.randint(20, (5, 6)))


def test_layers_inside_pytorchs_transformer_can_be_read_in_eval_mode() -> None:
    model = PatchTransformer((1, 8, 8), 10, patch=2)
    atoms = AtomModeling(model, "encoder.layers.1.linear2")
    x = images(3)
    model(x)
    atoms.loss()
    assert atoms.importance(x).shape == (3, 16)
    assert torch.backends.mha.get_fastpath_enabled()
