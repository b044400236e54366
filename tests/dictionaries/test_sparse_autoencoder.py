"""Sparse autoencoders: what each part does by definition, and planted atoms that training has to find."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latentia import Latents, capture
from latentia.dictionaries import (
    SparseAutoencoder,
    SparseAutoencoderTraining,
    auxiliary_loss,
    batch_top_k,
    dense,
    score_dictionary,
    top_k,
    train_sparse_autoencoder,
)
from latentia.dictionaries.sparse_autoencoder import _ShuffledRows

KINDS = [("top_k", 3), ("batch_top_k", 3), ("relu", None)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def planted(n: int, d: int = 16, k: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows that are sums of 1 to 3 of k unit atoms, with coefficients from 1 to 2; and the atoms."""
    generator = torch.Generator().manual_seed(seed)
    atoms = nn.functional.normalize(normal(k, d, seed=99), dim=1)
    order = torch.rand(n, k, generator=generator).argsort(dim=1)
    active = order < torch.randint(1, 4, (n, 1), generator=generator)
    return (active * (1 + torch.rand(n, k, generator=generator))) @ atoms, atoms


def train(model: SparseAutoencoder, batches: Any, **settings: Any) -> dict[str, list[float]]:
    return train_sparse_autoencoder(
        model, batches, **{"epochs": 2, "batch_size": 64, "device": "cpu", "progress": False} | settings
    )


class Embedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu()


class TestKeepingFew:
    def test_top_k(self) -> None:
        a = torch.tensor([[1.0, 5, 3, 0], [0, 0, 2, 0]])
        assert top_k(a, 2).tolist() == [[0, 5, 3, 0], [0, 0, 2, 0]]
        assert torch.equal(top_k(a, 4), a)

    def test_batch_top_k(self) -> None:
        a = torch.tensor([[1.0, 5, 3, 4], [0, 0, 2, 0]])
        assert batch_top_k(a, 1).tolist() == [[0, 5, 0, 4], [0, 0, 0, 0]]
        assert batch_top_k(a, 2).tolist() == [[0, 5, 3, 4], [0, 0, 2, 0]]
        row = normal(1, 9).relu()
        assert torch.equal(batch_top_k(row, 3), top_k(row, 3))


class TestAuxiliaryLoss:
    def test_nothing_dead_is_zero_without_gradient(self) -> None:
        a = normal(4, 6).relu().requires_grad_()
        loss = auxiliary_loss(normal(4, 3), a, normal(6, 3), torch.zeros(6, dtype=torch.bool), 2)
        assert loss == 0 and not loss.requires_grad

    def test_is_what_it_says(self) -> None:
        error, a, atoms = normal(5, 3), normal(5, 6).relu(), normal(6, 3)
        dead = torch.tensor([True, False, True, True, False, False])
        for k, scale in ((1, 1.0), (2, 1.0), (3, 1.0), (6, 0.5)):
            expected = 0.0
            for row, target in zip(a, error, strict=True):
                largest = sorted((0, 2, 3), key=lambda j: -float(row[j]))[:k]
                expected += float((sum(row[j] * atoms[j] for j in largest) - target).square().sum()) / 5
            assert float(auxiliary_loss(error, a, atoms, dead, k)) == pytest.approx(scale * expected)

    def test_only_the_dead_have_gradients(self) -> None:
        error, a, atoms = (t.requires_grad_() for t in (normal(5, 3), normal(5, 6).abs(), normal(6, 3)))
        dead = torch.tensor([True, False, False, True, False, False])
        auxiliary_loss(error, a, atoms, dead, 2).backward()
        assert error.grad is None
        assert atoms.grad[dead].any() and not atoms.grad[~dead].any()
        assert a.grad[:, dead].any() and not a.grad[:, ~dead].any()

    def test_an_error_that_is_explained_costs_nothing(self) -> None:
        a, atoms = normal(5, 4).abs(), normal(4, 3)
        dead = torch.tensor([True, True, False, False])
        assert auxiliary_loss(a[:, :2] @ atoms[:2], a, atoms, dead, 2) == pytest.approx(0, abs=1e-12)


class TestSparseAutoencoder:
    @pytest.mark.parametrize(("activation", "k"), KINDS)
    def test_sparse_and_dense_agree(self, activation: str, k: int | None) -> None:
        model = SparseAutoencoder(6, 20, k, activation=activation).eval()
        model.standardize(normal(6, seed=3), 2.5)
        with torch.no_grad():
            model.encoder_bias += 0.1 * normal(20, seed=4)
            model.decoder_bias += normal(6, seed=5)
            model.threshold.fill_(0.2)
        x = 3 * normal(9, 6)
        latents, codes = model.latents(x), model.encode(x)
        assert torch.equal(dense(codes.indices, codes.values.detach(), 20), latents.detach())
        torch.testing.assert_close(model.decode(codes), model(x))
        assert (latents >= 0).all() and (codes.values.diff(dim=1) <= 0).all()
        if activation == "top_k":
            assert int((latents > 0).sum(dim=1).max()) <= 3
        # Decoded by hand.
        torch.testing.assert_close(model(x), latents @ model.atoms + model.mean + 2.5 * model.decoder_bias)

    def test_nothing_active_is_the_bias(self) -> None:
        model = SparseAutoencoder(4, 8, 2)
        model.standardize(torch.arange(4.0), 1.0)
        with torch.no_grad():
            model.encoder_bias.fill_(-100)
        x = normal(3, 4)
        assert torch.equal(model(x), torch.arange(4.0).expand(3, 4))
        assert torch.equal(model.decode(model.encode(x)), model(x))

    def test_all_latents_are_a_relu_autoencoder(self) -> None:
        x = normal(7, 4)
        assert torch.equal(SparseAutoencoder(4, 8, 8)(x), SparseAutoencoder(4, 8, None, activation="relu")(x))

    def test_order_of_latents_does_not_matter(self) -> None:
        model, other, order = SparseAutoencoder(4, 8, 3), SparseAutoencoder(4, 8, 3, seed=1), torch.arange(7, -1, -1)
        state = model.state_dict()
        other.load_state_dict(
            {n: v[order] if n in ("atoms", "encoder", "encoder_bias") else v for n, v in state.items()}
        )
        x = normal(6, 4)
        torch.testing.assert_close(other.latents(x), model.latents(x)[:, order])
        torch.testing.assert_close(other(x), model(x))

    def test_scale_and_origin(self) -> None:
        model, moved = SparseAutoencoder(4, 8, 3), SparseAutoencoder(4, 8, 3)
        x = normal(6, 4)
        moved.standardize(torch.full((4,), 64.0), 8.0)
        torch.testing.assert_close(moved(8 * x + 64), 8 * model(x) + 64)
        torch.testing.assert_close(moved.latents(8 * x + 64), 8 * model.latents(x))

    @pytest.mark.parametrize(("activation", "k"), KINDS)
    def test_a_row_does_not_depend_on_others(self, activation: str, k: int | None) -> None:
        model = SparseAutoencoder(6, 20, k, activation=activation).eval()
        model.threshold.fill_(0.5)
        x = normal(9, 6)
        torch.testing.assert_close(model(x)[2:3], model(x[2:3]))

    def test_same_seed_same_weights(self) -> None:
        first, second, third = (SparseAutoencoder(4, 8, 3, seed=seed) for seed in (1, 1, 2))
        assert torch.equal(first.atoms, second.atoms) and not torch.equal(first.atoms, third.atoms)
        torch.testing.assert_close(first.atoms.norm(dim=1), torch.ones(8))

    def test_no_row(self) -> None:
        model = SparseAutoencoder(4, 8, 3)
        assert model.decode(model.encode(torch.ones(0, 4))).shape == (0, 4)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"d": 0}, "d and n_latents must be at least 1"),
            ({"n_latents": 0}, "d and n_latents must be at least 1"),
            ({"k": 9}, "k must be from 1 to n_latents, 8, got 9"),
            ({"k": 0}, "got 0"),
            ({"k": None}, "got None"),
            ({"activation": "relu"}, "k must be None for 'relu'"),
            ({"activation": "tanh"}, "activation must be"),
        ],
    )
    def test_refuses(self, arguments: dict[str, Any], message: str, unchecked: None) -> None:
        with pytest.raises(ValueError, match=message):
            SparseAutoencoder(**{"d": 4, "n_latents": 8, "k": 3} | arguments)

    def test_refuses_a_scale(self) -> None:
        for scale in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match="scale above 0 and finite"):
                SparseAutoencoder(4, 8, 3).standardize(torch.zeros(4), scale)


class TestShuffledRows:
    def deal(self, batches: Any, n: int, batch_size: int, held: int, epoch: int = 0) -> list[Tensor]:
        return list(_ShuffledRows(batches, n, batch_size, held, lambda: (0, epoch)))

    @pytest.mark.parametrize("held", [1, 7, 20, 1000])
    @pytest.mark.parametrize("batch_size", [1, 4, 100])
    def test_every_row_once(self, held: int, batch_size: int) -> None:
        rows = torch.arange(50.0)[:, None]
        found = self.deal([rows[:13], rows[13:14], rows[14:]], 50, batch_size, held)
        assert sorted(torch.cat(found)[:, 0].tolist()) == list(range(50))
        assert len(found) == len(_ShuffledRows([], 50, batch_size, held, lambda: (0, 0)))
        assert {len(part) for part in found[:-1]} <= {batch_size}

    def test_seed_and_epoch_decide_the_order(self) -> None:
        rows = torch.arange(50.0)[:, None]
        first, again, later = (torch.cat(self.deal([rows], 50, 8, 1000, epoch)) for epoch in (0, 0, 1))
        assert torch.equal(first, again) and not torch.equal(first, later) and not torch.equal(first, rows)


class TestTraining:
    def test_finds_planted_atoms(self) -> None:
        x, atoms = planted(4000)
        model = SparseAutoencoder(16, 48, 3)
        history = train(model, [x], epochs=8, batch_size=256, learning_rate=2e-2)
        found = (model.atoms.detach() @ atoms.T).amax(dim=0)
        assert float((found > 0.95).float().mean()) > 0.8
        fresh, _ = planted(1000, seed=1)
        scores = score_dictionary(model, [fresh])
        assert scores.unexplained < 0.06
        assert scores.l0 <= 3
        assert history["unexplained"][-1] < history["unexplained"][0]
        assert not model.training

    def test_batch_top_k_keeps_k_on_average(self) -> None:
        x, _ = planted(2000)
        model = SparseAutoencoder(16, 48, 2, activation="batch_top_k")
        train(model, [x], epochs=6, batch_size=256, learning_rate=2e-2)
        scores = score_dictionary(model, [planted(1000, seed=1)[0]])
        assert 1.7 < scores.l0 < 2.3
        # As many as it takes: rows are sums of 1 to 3 atoms.
        assert set(range(1, 4)) <= set((model.latents(x) > 0).sum(dim=1).tolist())

    def test_penalty_makes_latents_few(self) -> None:
        x, _ = planted(1000)
        counts = []
        for penalty in (0.0, 0.1, 0.5):
            model = SparseAutoencoder(16, 48, None, activation="relu")
            train(model, [x], epochs=4, batch_size=128, learning_rate=2e-2, penalty=penalty)
            counts.append(score_dictionary(model, [x]).l0)
        assert counts[0] > 1.3 * counts[1] and counts[1] > 2 * counts[2]

    @pytest.mark.parametrize(("activation", "k"), KINDS)
    def test_atoms_keep_their_length(self, activation: str, k: int | None) -> None:
        model = SparseAutoencoder(16, 32, k, activation=activation)
        train(model, [planted(500)[0]], epochs=1, learning_rate=0.1)
        torch.testing.assert_close(model.atoms.norm(dim=1), torch.ones(32))

    def test_gradients_along_atoms_are_taken_out(self) -> None:
        training = SparseAutoencoderTraining(SparseAutoencoder(4, 8, 3))
        atoms = training.model.atoms
        atoms.grad = normal(8, 4)
        before = atoms.grad.clone()
        training.on_before_optimizer_step(torch.optim.SGD([atoms], lr=1.0))
        torch.testing.assert_close((atoms.grad * atoms).sum(dim=1), torch.zeros(8), atol=1e-6, rtol=0)
        along = before - atoms.grad
        torch.testing.assert_close(along, (before * atoms).sum(dim=1, keepdim=True) * atoms)

    def test_scale_and_origin_of_the_data_do_not_matter(self) -> None:
        x, _ = planted(600)
        x = x - x.mean(dim=0)
        models = [SparseAutoencoder(16, 32, 3) for _ in range(2)]
        first = train(models[0], [x])
        second = train(models[1], [1024 * x])
        assert first["unexplained"] == pytest.approx(second["unexplained"], rel=1e-3)
        # One step only, as rounding grows over many.
        shifted = train(SparseAutoencoder(16, 32, 3), [x + 3], epochs=1, batch_size=600)
        plain = train(SparseAutoencoder(16, 32, 3), [x], epochs=1, batch_size=600)
        assert shifted["unexplained"] == pytest.approx(plain["unexplained"], rel=1e-4)

    def test_a_stream_trains_as_the_whole(self) -> None:
        x, _ = planted(500)
        whole, parts, tokens, made = (SparseAutoencoder(16, 32, 3) for _ in range(4))
        expected = train(whole, [x])
        mask = torch.ones(125, 5, dtype=torch.bool)
        mask[:, 4] = False
        padded = torch.full((125, 5, 16), torch.nan)
        padded[mask] = x

        def stream() -> Iterator[Tensor]:
            yield from x.split(90)

        for model, batches in ((parts, x.split(77)), (tokens, [Latents(padded, mask=mask)]), (made, stream)):
            assert train(model, batches)["unexplained"] == pytest.approx(expected["unexplained"], rel=1e-5)
            torch.testing.assert_close(model.atoms, whole.atoms, atol=1e-4, rtol=1e-3)

    def test_from_a_model(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = Embedder()
        inputs = normal(300, 5).split(50)
        model = SparseAutoencoder(8, 16, 2)
        history = train(model, lambda: (capture(net, "layer", [b], progress=False) for b in inputs), epochs=4)
        assert history["unexplained"][-1] < history["unexplained"][0] < 1.5
        assert set(history) == {"epoch", "train_loss", "unexplained", "l0", "dead"}

    def test_same_seed_same_result(self) -> None:
        x, _ = planted(300)
        models = [SparseAutoencoder(16, 32, 3) for _ in range(3)]
        histories = [train(model, [x], seed=seed) for model, seed in zip(models, (1, 1, 2), strict=True)]
        assert histories[0] == histories[1] != histories[2]
        assert torch.equal(models[0].atoms, models[1].atoms)

    @pytest.mark.parametrize(("activation", "k"), KINDS)
    def test_a_resumed_training_is_the_uninterrupted_one(self, activation: str, k: int | None, tmp_path: Path) -> None:
        x, _ = planted(300)
        settings = {"dead_after": 200, "penalty": 0.5, "learning_rate": 0.01}
        whole, half = (SparseAutoencoder(16, 64, k, activation=activation) for _ in range(2))
        expected = train(whole, x.split(120), epochs=4, **settings)
        train(copy.deepcopy(half), x.split(120), epochs=2, folder=tmp_path, **settings)
        found = train(half, x.split(120), epochs=4, folder=tmp_path, resume=True, **settings)
        assert found == expected
        for name, value in whole.state_dict().items():
            assert torch.equal(value, half.state_dict()[name]), name

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"batches": iter([torch.eye(4)])}, "batches can be gone through only once, being a list_iterator"),
            ({"batches": []}, "batches hold no vector"),
            ({"batches": [torch.eye(5)]}, "4 columns, as the model, got 5"),
            ({"batches": [torch.ones(3, 4)]}, "all vectors coincide"),
            ({"batches": [torch.full((3, 4), torch.nan)]}, "values must be finite"),
            ({"batch_size": 0}, "batch_size and shuffle_rows must be at least 1"),
            ({"shuffle_rows": 0}, "batch_size and shuffle_rows must be at least 1"),
            ({"learning_rate": 0.0}, "learning_rate must be above 0"),
            ({"penalty": -1.0}, "penalty and auxiliary must be at least 0"),
            ({"auxiliary": -1.0}, "penalty and auxiliary must be at least 0"),
            ({"dead_after": 0}, "dead_after must be at least 1 row"),
            ({"epochs": 0}, "epochs must be at least 1"),
        ],
    )
    def test_refuses(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            train(SparseAutoencoder(4, 8, 3), **{"batches": [torch.eye(4)]} | arguments)


class TestDeadLatents:
    def far_away(self, activation: str, k: int | None) -> SparseAutoencoder:
        """Half of the latents begin where hardly any row reaches them."""
        model = SparseAutoencoder(16, 64, k, activation=activation)
        with torch.no_grad():
            model.encoder[32:] *= 0.2
            if activation == "relu":
                model.encoder_bias[32:] = -10
        return model

    def test_the_auxiliary_loss_revives(self) -> None:
        x, _ = planted(1000)
        dead = []
        for auxiliary in (0.0, 1.0):
            model = self.far_away("top_k", 3)
            train(model, [x], epochs=4, batch_size=128, learning_rate=2e-2, auxiliary=auxiliary, dead_after=500)
            dead.append(score_dictionary(model, [x]).dead)
        assert dead[1] < dead[0]

    def test_resampling_revives(self) -> None:
        x, _ = planted(1000)
        dead = []
        for dead_after in (10**6, 500):
            model = self.far_away("relu", None)
            train(model, [x], epochs=4, batch_size=128, learning_rate=2e-2, penalty=0.05, dead_after=dead_after)
            dead.append(score_dictionary(model, [x]).dead)
        assert dead[0] >= 32 > 4 * dead[1]

    def test_who_is_dead(self) -> None:
        training = SparseAutoencoderTraining(SparseAutoencoder(4, 8, 2), dead_after=10)
        training.log_dict = lambda *args, **kwargs: None  # there is no trainer to log to
        x = normal(6, 4)
        used = (training.model.latents(x) > 0).any(dim=0)
        assert 0 < int(used.sum()) < 8
        training.training_step(x, 0)
        assert torch.equal(training.idle, torch.where(used, 0, 6))
        training.training_step(x, 1)
        assert torch.equal(training.idle, torch.where(used, 0, 12))

    def test_a_latent_chosen_at_zero_is_not_used(self) -> None:
        model = SparseAutoencoder(4, 8, 8)
        training = SparseAutoencoderTraining(model)
        training.log_dict = lambda *args, **kwargs: None
        x = normal(1, 4)
        training.training_step(x, 0)
        assert torch.equal(training.idle > 0, model.latents(x)[0] == 0)
        assert (training.idle > 0).any()
