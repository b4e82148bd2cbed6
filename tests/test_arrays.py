"""Files that lie about themselves are refused before anything is read."""

import io
import json
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from siamura._arrays import load_npy, load_npz, load_tensors

SHAPES = {"embedding": (None, 3), "label": (None,)}


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def header(shape, descr="<f4"):
    """The first bytes of an ``.npy`` that claims this shape."""
    text = str({"descr": descr, "fortran_order": False, "shape": shape})
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_was_written_is_read(tmp_path, save):
    rng = np.random.default_rng(0)
    arrays = {"embedding": rng.normal(size=(5, 3)), "label": np.arange(5), "names": np.array(["a", "é"])}
    save(tmp_path / "a.npz", **arrays)
    found = load_npz(tmp_path / "a.npz", {**SHAPES, "names": (2,), "more": (None,)}, optional=["more"])
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"embedding": np.zeros((2, 3))}, "lacks 'label'"),
        ({"embedding": np.zeros((2, 3)), "label": [1], "x": [1]}, "holds 'x', which is not expected"),
        ({"embedding": np.zeros((2, 4)), "label": [1]}, r"embedding has shape \(2, 4\), not \(any, 3\)"),
        ({"embedding": np.zeros(3), "label": [1]}, r"embedding has shape \(3,\), not \(any, 3\)"),
        ({"embedding": np.zeros((2, 3)), "label": np.array([None])}, "label holds object"),
        ({"embedding": np.zeros((2, 3), complex), "label": [1]}, "embedding holds complex128"),
    ],
)
def test_other_content_is_named(tmp_path, arrays, message):
    path = npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        load_npz(path, SHAPES)
    assert str(path) in str(caught.value)
    assert "write the file again" in str(caught.value)


@pytest.mark.parametrize("rows", [None, 5])
def test_a_small_file_that_expands_to_a_large_one(tmp_path, rows):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("embedding.npy", header((20_000_000, 1)) + bytes(80_000_000))
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"would expand from|has shape"):
        load_npz(path, {"embedding": (rows, 1)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("claim", [(10**12, 3), (2, 3), (-1, 3), (2**62, 3)])
def test_a_claim_that_the_bytes_do_not_hold(tmp_path, claim):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("embedding.npy", header(claim) + bytes(100))
    with pytest.raises(ValueError, match=r"claims .* bytes, and 100 are there|has shape"):
        load_npz(path, {"embedding": (None, 3)})


def test_twice_the_same_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # zipfile warns of the second
                archive.writestr("label.npy", header((1,)) + bytes(4))
    with pytest.raises(ValueError, match="holds 'label', which is not expected"):
        load_npz(tmp_path / "a.npz", {"label": (None,)})


@pytest.mark.parametrize("damage", ["cut", "noise", "flip", "empty"])
def test_damaged_files(tmp_path, damage):
    path = npz(tmp_path / "a.npz", embedding=np.ones((9, 3)), label=np.arange(9))
    whole = path.read_bytes()
    changed = {"cut": whole[:200], "noise": bytes(range(256)), "empty": b""}.get(damage)
    if changed is None:
        at = whole.index(np.ones(3).tobytes())
        changed = whole[:at] + b"\x01" + whole[at + 1 :]
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=r"a\.npz: .*; write the file again"):
        load_npz(path, SHAPES)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_npz(tmp_path / "a.npz", SHAPES)
    with pytest.raises(FileNotFoundError):
        load_npy(tmp_path / "a.npy", (None,))
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "a.safetensors", {})


@pytest.mark.parametrize("mmap", [False, True])
def test_single_arrays(tmp_path, mmap):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(load_npy(path, (2, 3), mmap=mmap), [[0, 1, 2], [3, 4, 5]])
    for content, message in [
        (header((2, 3)) + bytes(9), "claims 24 bytes, and 9 are there"),
        (header((10**13, 3)), "claims"),
        (header((2, 3), "|O") + bytes(48), "holds object"),
        (b"nothing", "write the file again"),
        (b"\x93NUMPY\x09\x00", "version|write the file again"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_npy(path, (None, 3), mmap=mmap)


def test_tensors(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "a.safetensors"
    save_file({"w": np.ones((2, 3), np.float32)}, path)
    np.testing.assert_array_equal(load_tensors(path, {"w": (2, 3)})["w"], np.ones((2, 3)))
    for shapes, message in [
        ({"w": (3, 2)}, r"w is F32 of shape \(2, 3\), not F32 of \(3, 2\)"),
        ({"v": (2, 3)}, r"holds other arrays than expected \(v, w\)"),
        ({"w": (2, 3), "v": (1,)}, r"holds other arrays than expected \(v\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_tensors(path, shapes)
    whole = path.read_bytes()
    large = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 10**13]}}).encode()
    for content in (
        whole[:30],
        b"",
        bytes(64),
        struct.pack("<Q", 10**15),
        struct.pack("<Q", len(large)) + large,
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.safetensors: .*; write the file again"):
            load_tensors(path, {"w": (2, 3)})
    save_file({"w": np.full((2, 3), np.nan, np.float32)}, path)
    with pytest.raises(ValueError, match="w holds numbers that are not finite"):
        load_tensors(path, {"w": (2, 3)})


def test_pickles_are_never_read(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.array([print], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("label.npy", stream.getvalue())
    with pytest.raises(ValueError, match="label holds object"):
        load_npz(tmp_path / "a.npz", {"label": (1,)}, kinds={"label": "iO"})
