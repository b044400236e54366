"""The idx format, in which MNIST and the sets modelled on it are published.

A file is two zero bytes, a byte for the type of the elements, a byte for the number of dimensions, the size
of each dimension as a big-endian 32-bit integer, and then the elements, the last dimension running fastest.
"""

import math

import numpy as np
from jaxtyping import UInt8

_UNSIGNED_BYTE = 0x08


def parse_idx(content: bytes) -> UInt8[np.ndarray, "..."]:
    """Read an idx file of unsigned bytes, the one element type that the published sets have.

    Args:
        content: the whole file, decompressed.

    Returns:
        A read-only view of `content`, in the shape that the file declares.

    Raises:
        ValueError: if this is no idx file of unsigned bytes, or it is shorter or longer than it declares.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[3] == 0:
        raise ValueError(f"not an idx file: it begins with bytes [{content[:4].hex(' ')}]")
    element, dimensions = content[2], content[3]
    if element != _UNSIGNED_BYTE:
        raise ValueError(f"idx file with elements of type 0x{element:02x}; only 0x08, unsigned byte, is read")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError(f"truncated idx file: its header takes {start} bytes, and there are {len(content)}")
    shape = tuple(np.frombuffer(content, ">u4", dimensions, offset=4).tolist())
    end = start + math.prod(shape)
    if len(content) != end:
        problem = "truncated idx file" if len(content) < end else "idx file with bytes after its end"
        raise ValueError(f"{problem}: shape {shape} takes {end} bytes, and there are {len(content)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
