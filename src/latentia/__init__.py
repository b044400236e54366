"""Latentia: shape, measure, align, discover and generate the latent spaces of deep models.

`import latentia` loads nothing heavy: PyTorch comes with the first name that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from latentia.capturing import capture as capture
    from latentia.latents import Latents as Latents

_OBJECTS = {"Latents": "latentia.latents", "capture": "latentia.capturing"}
_PACKAGES = ("alignment", "claims", "data", "dictionaries", "evaluation", "metrics", "report", "separation", "training")

__all__ = ["Latents", "__version__", "capture", *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _OBJECTS:
        value = getattr(import_module(_OBJECTS[name]), name)
    elif name in _PACKAGES:
        value = import_module(f"latentia.{name}")
    else:
        raise AttributeError(f"module 'latentia' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
