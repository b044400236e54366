import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, log_loss, matthews_corrcoef
from torch import nn

from latentia.training import classification_scores, predict


def test_scores_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 4, generator=generator)
    labels = torch.randint(3, (200,), generator=generator)  # the last class does not occur
    scores = classification_scores(logits, labels)
    predicted = logits.argmax(dim=1)
    assert scores["accuracy"] == pytest.approx((predicted == labels).double().mean().item())
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert scores["mcc"] == pytest.approx(matthews_corrcoef(labels, predicted))
    expected = log_loss(labels, logits.double().softmax(dim=1), labels=range(4))
    assert scores["cross_entropy"] == pytest.approx(expected, rel=1e-5)


def test_always_answering_the_same_has_no_correlation() -> None:
    logits = torch.tensor([[1.0, 0.0]]).expand(10, 2)
    scores = classification_scores(logits, torch.tensor([0] * 9 + [1]))
    assert (scores["accuracy"], scores["balanced_accuracy"], scores["mcc"]) == (0.9, 0.5, 0)


def test_predictions_are_made_in_eval_mode_and_leave_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9)).train()
    inputs = torch.rand(10, 3)
    torch.testing.assert_close(predict(model, inputs, batch_size=3), model[0](inputs))
    assert model.training
