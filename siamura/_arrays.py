"""Arrays from files that are not to be trusted: what they claim is checked before anything is read."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

__all__ = ["load_npy", "load_npz", "load_tensors", "pack", "unpack"]

_FREE = 64_000_000  # bytes that an array of no known size may always take
_RATIO = 50  # beyond that, at most so many times what it takes in the file

#: Shape of an array, None for a dimension of any size.
Shape = Sequence[int | None]


def load_npz(
    path: str | os.PathLike[str],
    shapes: Mapping[str, Shape],
    *,
    optional: Iterable[str] = (),
    kinds: Mapping[str, str] | None = None,
) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file, without pickle, after their sizes have been checked.

    Parameters
    ----------
    path : path
    shapes : mapping of str to shape
        The names that the file may hold, and their shapes; None for a dimension of any size. An array with
        such a dimension may take at most 64 MB, or 50 times what it takes in the file.
    optional : iterable of str
        The names that may be missing.
    kinds : mapping of str to str, optional
        NumPy's kinds that an array may have, as in ``{"embedding": "f"}``; by default ``"biufU"``.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no ``.npz``, is damaged, lacks a name, holds another, or an array has another shape or kind.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/embeddings.npz"
    >>> np.savez(path, embedding=np.zeros((2, 3)), label=[0, 1])
    >>> load_npz(path, {"embedding": (2, None), "label": (2,)})["label"]
    array([0, 1])
    >>> load_npz(path, {"embedding": (5, 3), "label": (5,)})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: .../embeddings.npz: embedding has shape (2, 3), not (5, 3); write the file again.
    """
    kinds = kinds or {}
    found: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            odd = [name for name in names if name not in shapes or names.count(name) > 1]
            absent = [name for name in shapes if name not in names and name not in set(optional)]
            if odd or absent:
                what = f"holds {odd[0]!r}, which is not expected" if odd else f"lacks {absent[0]!r}"
                raise ValueError(f"{what}; it may hold {', '.join(shapes)}")
            for member, name in zip(members, names, strict=True):
                with archive.open(member) as stream:
                    _check_header(
                        stream,
                        name,
                        shapes[name],
                        kinds.get(name, "biufU"),
                        member.file_size,
                        member.compress_size,
                    )
                with archive.open(member) as stream:
                    found[name] = np.lib.format.read_array(stream, allow_pickle=False)
    except FileNotFoundError:
        raise
    except (
        ValueError,
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        EOFError,
        OSError,
        NotImplementedError,
    ) as error:
        raise _unreadable(path, error) from error
    except (RuntimeError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise _unreadable(path, error) from error
    return found


def load_npy(
    path: str | os.PathLike[str], shape: Shape, *, kinds: str = "biufU", mmap: bool = False
) -> NDArray[Any]:
    """Read one ``.npy`` file, without pickle, after its size has been checked.

    Parameters
    ----------
    path : path
    shape : shape
        None for a dimension of any size.
    kinds : str
        NumPy's kinds that the array may have.
    mmap : bool
        Whether to map the file (read-only) instead.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no ``.npy``, is damaged, or the array has another shape or kind.
    """
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as stream:
            _check_header(stream, "the array", shape, kinds, size, size)
        array: NDArray[Any] = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except FileNotFoundError:
        raise
    except (ValueError, EOFError, OSError) as error:
        raise _unreadable(path, error) from error
    return array


def load_tensors(
    path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[Any]]:
    """Read a ``.safetensors`` file of float32 arrays after its names and shapes have been compared.

    Parameters
    ----------
    path : path
    shapes : mapping of str to tuple of int
        All names that the file holds, and their shapes.

    Returns
    -------
    dict of str to float32 ndarray

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, holds other names or shapes, or numbers that are not finite.
    """
    found: dict[str, NDArray[Any]] = {}
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{os.fspath(path)} is missing; write it again.")
    try:
        with safe_open(os.fspath(path), "numpy") as stored:
            if odd := set(stored.keys()) ^ set(shapes):
                raise ValueError(f"holds other arrays than expected ({', '.join(sorted(odd))})")
            for name, shape in shapes.items():
                piece = stored.get_slice(name)
                if (tuple(piece.get_shape()), piece.get_dtype()) != (tuple(shape), "F32"):
                    raise ValueError(
                        f"{name} is {piece.get_dtype()} of shape {tuple(piece.get_shape())}, not F32 of {tuple(shape)}"
                    )
                found[name] = stored.get_tensor(name)
                if not np.isfinite(found[name]).all():
                    raise ValueError(f"{name} holds numbers that are not finite")
    except (SafetensorError, ValueError, OSError) as error:
        raise _unreadable(path, error) from error
    return found


def _check_header(stream: IO[bytes], name: str, shape: Shape, kinds: str, size: int, stored: int) -> None:
    """Compare what an ``.npy`` stream says of itself with what is expected and with its size."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} is in version {version} of the form, which is not read")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    claimed, _, dtype = header(stream)
    if dtype.hasobject or dtype.kind not in kinds:
        raise ValueError(f"{name} holds {dtype}; it may be of NumPy's kinds {kinds!r}")
    same = len(claimed) == len(shape) and all(b in (None, a) for a, b in zip(claimed, shape, strict=True))
    if not same or min(claimed, default=0) < 0:
        wanted = "(" + ", ".join("any" if side is None else str(side) for side in shape)
        raise ValueError(f"{name} has shape {claimed}, not {wanted}{',' * (len(shape) == 1)})")
    bytes_ = math.prod(claimed) * dtype.itemsize
    if bytes_ != size - stream.tell():
        raise ValueError(f"{name} claims {bytes_:,} bytes, and {size - stream.tell():,} are there")
    known = None not in shape and dtype.kind != "U"
    if not known and bytes_ > max(_FREE, _RATIO * stored):
        raise ValueError(f"{name} would expand from {stored:,} to {bytes_:,} bytes")


def _unreadable(path: str | os.PathLike[str], error: BaseException) -> ValueError:
    return ValueError(f"{os.fspath(path)}: {str(error).rstrip('.')}; write the file again.")


def pack(vector: Any) -> bytes:
    """Give a vector's bytes as float32, little-endian, of which a checksum is kept."""
    return np.asarray(vector, "<f4").tobytes()


def unpack(
    found: Iterable[tuple[int, int, bytes]], dim: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read vectors from (number, checksum, bytes); those whose CRC-32 is another are left out.

    Returns
    -------
    numbers : int64 (n,)
    vectors : float32 (n, dim)
    """
    sound = [(number, content) for number, crc, content in found if zlib.crc32(content) == crc]
    joined = bytearray().join([content for _, content in sound])
    vectors = np.frombuffer(joined, "<f4").astype(np.float32, copy=False).reshape(-1, dim)
    return np.fromiter((number for number, _ in sound), np.int64, len(sound)), vectors
