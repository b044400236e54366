"""Explain a latent space by a dictionary: few atoms that add up to each vector.

Collecting a dictionary (`ITDA`) needs scikit-learn, training one (`SparseAutoencoder`) needs Lightning; each comes with
the first name that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latentia.dictionaries.explanation import (
    AtomReadings,
    ClassPurity,
    Explanation,
    class_purity,
    explain,
    read_atoms,
)
from latentia.dictionaries.overlap import Overlap, dictionary_jaccard, dictionary_overlap, layer_matching
from latentia.dictionaries.patching import PatchedLosses, loss_recovered, patched, patched_losses
from latentia.dictionaries.pursuit import (
    Dictionary,
    DictionaryScores,
    SparseCodes,
    activation_rows,
    decode,
    dense,
    matching_pursuit,
    score_dictionary,
)

if TYPE_CHECKING:
    from latentia.dictionaries.itda import ITDA, AtomDictionary, cosine_error, distinct_atoms
    from latentia.dictionaries.sizing import fit_itda_of_size
    from latentia.dictionaries.sparse_autoencoder import (
        SparseAutoencoder,
        SparseAutoencoderTraining,
        auxiliary_loss,
        batch_top_k,
        top_k,
        train_sparse_autoencoder,
    )

__all__ = [
    "ITDA",
    "AtomDictionary",
    "AtomReadings",
    "ClassPurity",
    "Dictionary",
    "DictionaryScores",
    "Explanation",
    "Overlap",
    "PatchedLosses",
    "SparseAutoencoder",
    "SparseAutoencoderTraining",
    "SparseCodes",
    "activation_rows",
    "auxiliary_loss",
    "batch_top_k",
    "class_purity",
    "cosine_error",
    "decode",
    "dense",
    "dictionary_jaccard",
    "dictionary_overlap",
    "distinct_atoms",
    "explain",
    "fit_itda_of_size",
    "layer_matching",
    "loss_recovered",
    "matching_pursuit",
    "patched",
    "patched_losses",
    "read_atoms",
    "score_dictionary",
    "top_k",
    "train_sparse_autoencoder",
]

_TRAINED = {
    "SparseAutoencoder",
    "SparseAutoencoderTraining",
    "auxiliary_loss",
    "batch_top_k",
    "top_k",
    "train_sparse_autoencoder",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'latentia.dictionaries' has no attribute {name!r}")
    module = "sizing" if name == "fit_itda_of_size" else "sparse_autoencoder" if name in _TRAINED else "itda"
    return getattr(import_module(f"latentia.dictionaries.{module}"), name)
