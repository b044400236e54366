"""Watch a latent space form: two entropies of one layer's latents, measured after every epoch of a training.

Prints them, and with `--page curves.html` draws them too. The entropy counts the regions of the latents, in bits, and
the information says how many bits of the classes these regions tell: of ten classes far apart, log2(10) = 3.3.
"""

import argparse
from pathlib import Path

import torch

from latentia.data import load, stratified_split
from latentia.metrics.spectral_entropy import diffusion_spectral_entropy, diffusion_spectral_mutual_information
from latentia.report.page import Page, figure, panels
from latentia.training import Classification, SmallCNN, batches, fit
from latentia.training.measuring import MeasureLatents

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", choices=["digits", "mnist", "fashion-mnist"], default="digits")
parser.add_argument("--page", type=Path, help="HTML file to draw the curves in")
options = parser.parse_args()

images = load(options.data, limit=1797)  # all of the digits, and of MNIST as many
train, test = (images[part] for part in stratified_split(images.labels, (0.8, 0.2), seed=0))
torch.manual_seed(0)
model = SmallCNN(tuple(images.tensor.shape[1:]), classes=10)

measure = MeasureLatents(
    "features",
    test.tensor,
    test.labels,
    metrics={"entropy": diffusion_spectral_entropy, "information": diffusion_spectral_mutual_information},
    before=True,
)
history = fit(
    Classification(model, learning_rate=1e-2),
    batches(train.tensor, train.labels, batch_size=64),
    batches(test.tensor, test.labels, batch_size=512, shuffle=False),
    epochs=6,
    seed=0,
    device="cpu",
    progress=False,
    callbacks=[measure],
)

curves = {name: [history[f"latents_before/{name}"][0], *history[f"latents/{name}"]] for name in measure.metrics}
accuracies = [None, *history["validation_accuracy"]]
print(f"{options.data}, {len(test)} test images\nepoch  entropy  information  accuracy")
for epoch, (entropy, information, accuracy) in enumerate(zip(*curves.values(), accuracies, strict=True)):
    print(f"{epoch:5}  {entropy:7.2f}  {information:11.2f}  {'' if accuracy is None else f'{accuracy:8.3f}'}")

if options.page:
    epochs = list(range(len(accuracies)))
    lines = [
        {"x": epochs, "y": curves["entropy"], "name": "entropy", "line": {"color": "var(--baseline)"}},
        {"x": epochs, "y": curves["information"], "name": "information", "line": {"color": "var(--treated)"}},
        {"x": epochs, "y": accuracies, "xaxis": "x2", "yaxis": "y2", "showlegend": False},
    ]
    layout, narrow = panels(["bits", "accuracy"])
    layout |= {"xaxis": {"title": {"text": "epoch"}}, "xaxis2": {"title": {"text": "epoch"}}}
    page = Page("A latent space forms", lead=f"{model.layer} of a small network that learns {options.data}.")
    alt = "Entropy and information of the latents, and accuracy, over the epochs."
    caption = f"Latents of {len(test)} test images; epoch 0 is before the training. Entropies depend on that number."
    page.section("Over the epochs", figure(lines, layout, narrow=narrow, alt=alt, caption=caption))
    print(f"curves in {page.write(options.page)}")
