"""Atom modeling in a training with the Trainer of Hugging Face Transformers: one class in place of another."""

from tempfile import TemporaryDirectory

import torch
from transformers import TrainingArguments, ViTConfig, ViTForImageClassification

from latentia.data import load, stratified_split
from latentia.separation import AtomModeling
from latentia.separation.huggingface import AtomTrainer

torch.manual_seed(0)
digits = load("digits")
train, test = (
    [{"pixel_values": digits.inputs[i], "labels": digits.labels[i]} for i in part]
    for part in stratified_split(digits.labels, (0.8, 0.2), seed=0)
)

# A small one with random weights, so that nothing is downloaded. Yours is more likely
# AutoModelForImageClassification.from_pretrained("google/vit-base-patch16-224-in21k", num_labels=10),
# or, of texts, AutoModelForSequenceClassification.from_pretrained("bert-base-uncased") with the layer "bert.encoder".
config = ViTConfig(
    image_size=8,
    patch_size=2,
    num_channels=1,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    num_labels=10,
)
model = ViTForImageClassification(config)

atoms = AtomModeling(model, "vit.layernorm", weight=0.1, warmup=10)
with TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder,
        num_train_epochs=4,
        per_device_train_batch_size=64,
        learning_rate=3e-3,
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = AtomTrainer(
        model,
        arguments,
        train_dataset=train,
        eval_dataset=test,
        compute_metrics=lambda found: {"accuracy": (found.predictions.argmax(-1) == found.label_ids).mean()},
        atoms=atoms,
    )
    trainer.train()  # prints what it logs, atoms_loss and its parts among them
    accuracy = trainer.evaluate()["eval_accuracy"]

image = test[0]["pixel_values"].to(model.device)
importance = atoms.importance(pixel_values=image[None])[0]
print(f"test accuracy {accuracy:.3f}; importance of the patches of the first test image:")
for row in importance.unflatten(0, (4, 4)).tolist():
    print("  ".join(f"{value:+.2f}" for value in row))
