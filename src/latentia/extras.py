"""Optional dependencies: import one, or say which extra installs it."""

from importlib import import_module
from typing import Any


def require(module: str, extra: str) -> Any:
    """Import `module`, which the extra `extra` of Latentia installs.

    Args:
        module: dotted name of the module, such as `"plotly.graph_objects"`.
        extra: the extra that brings it, such as `"report"`.

    Returns:
        The imported module.

    Raises:
        ImportError: if it is not installed; the message names the extra.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # A module that is there but lacks a dependency of its own is another problem: show that one as it is.
        if error.name != module.partition(".")[0]:
            raise
        raise ImportError(
            f"{module} is not installed; it comes with the extra {extra!r}: pip install 'latentia[{extra}]'",
            name=module,
        ) from error
