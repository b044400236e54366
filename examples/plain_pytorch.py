"""Atom modeling in a training loop of your own: one line to attach it, one to add its loss."""

import torch
from torch.nn.functional import cross_entropy

from latentia.data import load, stratified_split
from latentia.separation import AtomModeling
from latentia.training import SmallCNN  # stands for your model

torch.manual_seed(0)
digits = load("digits")
train, test = (digits[part] for part in stratified_split(digits.labels, (0.8, 0.2), seed=0))
model = SmallCNN((1, 8, 8), classes=10)

atoms = AtomModeling(model, "features", weight=0.1)
optimizer = torch.optim.Adam([*model.parameters(), *atoms.parameters()], lr=3e-3)
for _ in range(5):
    for batch in torch.randperm(len(train)).split(64):
        loss = cross_entropy(model(train.inputs[batch]), train.labels[batch]) + atoms.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

accuracy = (model(test.inputs).argmax(dim=1) == test.labels).float().mean()
importance = atoms.importance(test.inputs[:1])[0]
print(f"test accuracy {accuracy:.3f}; importance of the cells of the first test image:")
for row in importance.tolist():
    print("  ".join(f"{value:+.2f}" for value in row))
