from pathlib import Path

import pytest
import torch

from latentia.claims import atom_gans, atom_modeling
from latentia.claims.atom_modeling import _penalty
from latentia.metrics import uniformity
from latentia.training import PatchTransformer

DIGITS = {"data": "digits", "labels": 60, "backbone": "transformer", "epochs": 2, "batch_size": 30, "measure": "mcc"}


@pytest.mark.parametrize("arm", ["atoms", *atom_modeling.CONTROLS])
def test_arms_of_a_seed_differ_in_nothing_but_the_penalty(arm: str) -> None:
    plain = atom_modeling.cell("plain", {"learning_rate": 1e-3}, 3, DIGITS)
    without = atom_modeling.cell(arm, {"learning_rate": 1e-3, "weight": 0.0}, 3, DIGITS)
    assert without == plain
    assert atom_modeling.cell(arm, {"learning_rate": 1e-3, "weight": 1.0}, 3, DIGITS) != plain


def test_seeds_draw_other_labels_and_settings_are_chosen_by_the_measure() -> None:
    first, second = (atom_modeling.cell("plain", {"learning_rate": 1e-3}, seed, DIGITS) for seed in (0, 1))
    assert first != second
    other = atom_modeling.cell("plain", {"learning_rate": 1e-3}, 0, DIGITS | {"measure": "accuracy"})
    assert {k: v for k, v in other.items() if k != "validation"} == {
        k: v for k, v in first.items() if k != "validation"
    }
    assert other["validation"] != first["validation"]


def test_a_pretrained_model_takes_the_place_of_the_backbone(text_model: Path, tmp_path: Path) -> None:
    rows = [("the cat sat on the mat .", 0), ("a dog sat on a log !", 1)] * 30
    table = tmp_path / "animals.csv"
    table.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    settings = DIGITS | {"data": str(table), "labels": 30, "model": str(text_model), "precision": "bf16-mixed"}
    pretrained = atom_modeling.cell("atoms", {"learning_rate": 1e-3, "weight": 0.1}, 0, settings)
    assert pretrained == atom_modeling.cell("atoms", {"learning_rate": 1e-3, "weight": 0.1}, 0, settings)
    del settings["model"]
    assert atom_modeling.cell("atoms", {"learning_rate": 1e-3, "weight": 0.1}, 0, settings) != pretrained


def attached(arm: str) -> tuple[PatchTransformer, object]:
    torch.manual_seed(0)
    model = PatchTransformer((1, 8, 8), 10, patch=2)
    return model, _penalty(arm, model, {"weight": 1.0}, steps=0)


def test_constraints_have_no_energy() -> None:
    model, penalty = attached("constraints")
    model(torch.rand(6, 1, 8, 8))
    penalty().backward()
    assert penalty.last.energy.abs() < 1e-5
    assert penalty.head.importance.weight.grad.norm() > 0


def test_random_importances_say_something_and_do_not_learn() -> None:
    model, penalty = attached("random importance")
    reading = penalty.read(torch.rand(6, 1, 8, 8))
    assert reading.importance.abs().mean() > 0.1
    model(torch.rand(6, 1, 8, 8))
    penalty().backward()
    assert penalty.head.importance.weight.grad is None and penalty.head.position.weight.grad.norm() > 0


def test_uniformity_is_that_of_pooled_tokens() -> None:
    model, penalty = attached("uniformity")
    images = torch.rand(6, 1, 8, 8)
    model(images)
    tokens = penalty.read(images).position
    torch.testing.assert_close(penalty(), uniformity(tokens.mean(dim=1)))


def test_identity_has_no_map() -> None:
    _, penalty = attached("identity")
    assert not list(penalty.head.position.parameters())


@pytest.mark.parametrize("data", ["ring", "grid"])
@pytest.mark.parametrize("arm", ["atoms", "repulsion"])
def test_generators_of_a_seed_differ_in_nothing_but_the_penalty(arm: str, data: str) -> None:
    settings = {"data": data, "steps": 20, "measure": "quality"}
    plain = atom_gans.cell("plain", {}, 0, settings)
    assert set(plain) == {"modes", "quality", "divergence", "validation"} and plain["validation"] == plain["quality"]
    assert atom_gans.cell(arm, {"weight": 0.0}, 0, settings) == plain
    assert atom_gans.cell(arm, {"weight": 1.0}, 0, settings) != plain


def test_a_setting_may_change_the_layer_the_warm_up_and_the_loss() -> None:
    model = PatchTransformer((1, 8, 8), 10, patch=2)
    setting = {"weight": 2.0, "layer": "encoder.layers.0", "warmup": 0.5, "loss": {"neutrality": 3.0}}
    penalty = _penalty("atoms", model, setting, steps=100)
    assert (penalty.layer, penalty.warmup) == ("encoder.layers.0", 50)
    assert penalty.criterion.weights["neutrality"] == 3
    plain = {"learning_rate": 1e-3, "batch_size": 10}
    assert atom_modeling.cell("plain", plain, 0, DIGITS) == atom_modeling.cell(
        "plain", plain, 0, DIGITS | {"batch_size": 10}
    )
