"""A layer with something else in its place, against networks whose answer is known."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latentia import capture
from latentia.data import load
from latentia.dictionaries import ITDA, AtomDictionary, loss_recovered, patched, patched_losses


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, 0], 2 * x


class Mapped(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"loss": x.sum(), "last_hidden_state": x, "more": None}


class TestPatched:
    def test_vectors_tokens_and_maps(self) -> None:
        for shape, last in (((3, 4), False), ((3, 5, 4), False), ((3, 4, 2, 6), False), ((3, 2, 6, 4), True)):
            x, model = torch.randn(shape), nn.Sequential(nn.Identity(), nn.Identity())
            factors = torch.arange(1.0, 5)
            with patched(model, "0", lambda rows, f=factors: rows * f, channels_last=last):
                found = model(x)
            axis = 1 if len(shape) == 4 and not last else -1
            torch.testing.assert_close(found.movedim(axis, -1), x.movedim(axis, -1) * factors)
            assert torch.equal(model(x), x)

    def test_padding_stays(self) -> None:
        x, mask = torch.randn(2, 3, 4), torch.tensor([[True, False, True], [False, False, True]])
        with patched(nn.Identity(), "", torch.zeros_like):
            pass
        model = nn.Identity()
        with patched(model, "", torch.zeros_like, mask=mask):
            assert torch.equal(model(x), x * ~mask[:, :, None])

    def test_what_holds_the_tensor_stays(self) -> None:
        x = torch.randn(2, 3, 4)
        pair, mapped = Pair(), Mapped()
        with patched(pair, "", torch.zeros_like):
            first, second = pair(x)
        assert not first.any() and torch.equal(second, 2 * x)
        with patched(mapped, "", torch.zeros_like):
            found = mapped(x)
        assert not found["last_hidden_state"].any() and found["loss"] == x.sum()

    def test_hooks_go_after_an_error(self) -> None:
        model = nn.Linear(2, 2)
        with pytest.raises(RuntimeError, match="enough"), patched(model, "", torch.zeros_like):
            raise RuntimeError("enough")
        assert model(torch.ones(1, 2)).any()
        with pytest.raises(ValueError, match="no submodule 'x'"), patched(model, "x", torch.zeros_like):
            pass


class TestLossRecovered:
    def test_ends(self) -> None:
        assert loss_recovered(1, 3, 1) == 1
        assert loss_recovered(1, 3, 3) == 0
        assert loss_recovered(1.0, 3.0, 5.0) == -1
        with pytest.raises(ValueError, match="nothing to recover"):
            loss_recovered(1, 1, 1)
        with pytest.raises(ValueError, match="finite"):
            loss_recovered(1, float("nan"), 1)

    def test_of_a_classifier(self) -> None:
        digits = load("digits")
        x, y = digits.tensor.flatten(1)[:400], torch.as_tensor(digits.labels)[:400]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        batches = list(zip(x.split(150), y.split(150), strict=True))
        hidden = capture(model, "1", [b[0] for b in batches], progress=False).values
        model.train()

        def losses(batch: tuple[Tensor, Tensor]) -> Tensor:
            assert not model.training
            return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

        found = [
            patched_losses(model, "1", AtomDictionary(atoms, k), batches, losses)
            for atoms, k in ((torch.eye(16), 16), (ITDA(4, 0.02).fit(hidden).atoms_, 4), (torch.eye(16), 1))
        ]
        assert model.training
        with torch.no_grad():
            assert found[0].original == pytest.approx(float(nn.functional.cross_entropy(model(x), y)), rel=1e-5)
            zeroed = float(nn.functional.cross_entropy(model[2].bias.expand(400, 10), y))
        assert found[0].zeroed == pytest.approx(zeroed, rel=1e-5)
        assert found[0].recovered == pytest.approx(1, abs=1e-5)
        assert 1 > found[1].recovered > 0.9 > found[2].recovered

    def test_padding_counts_neither_way(self) -> None:
        mask = torch.tensor([[True, True, False]])
        x = torch.tensor([[[1.0, 0], [0, 1], [torch.nan, 0]]])
        model = nn.Identity()
        found = patched_losses(
            model, "", AtomDictionary(torch.eye(2), 1), [x], lambda b: -model(b)[mask].norm(dim=1), mask=lambda b: mask
        )
        assert found == (-1, 0, -1)

    def test_refuses_nothing(self) -> None:
        with pytest.raises(ValueError, match="batches gave no loss"):
            patched_losses(nn.Identity(), "", AtomDictionary(torch.eye(2), 1), [], lambda b: b)
