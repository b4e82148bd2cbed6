"""Networks as ONNX files, with their preprocessing described beside them."""

from __future__ import annotations

import copy
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from siamura._fingerprints import fingerprint
from siamura.networks import EmbeddingNet

if TYPE_CHECKING:
    from siamura.heads import MLPHead

__all__ = ["to_onnx"]

#: Largest difference from PyTorch that is accepted.
TOLERANCE = 1e-4

log = logging.getLogger(__name__)


class _WithHead(nn.Module):
    """Images to embeddings and the probability of each class."""

    def __init__(self, net: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.net, self.head = net, head

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.net(image)
        return embedding, self.head(embedding).softmax(dim=1)


def to_onnx(
    net: EmbeddingNet, path: str | os.PathLike[str], head: MLPHead | None = None, *, size: int | None = None
) -> Path:
    """Write an embedding network, alone or with an MLP head, as one ONNX file and one JSON file.

    The ONNX model takes ``image``, uint8 (batch, 1, S, S), as the network's `Preprocess` gives it, and gives
    ``embedding``, float32 (batch, dim), and with a head ``probability``, float32 (batch, classes). The file is
    run by onnxruntime and compared with PyTorch before it gets its name.

    Parameters
    ----------
    net : EmbeddingNet
        Left as it is; a copy is exported, in evaluation mode.
    path : path
        Ends in ``.onnx``. ``NAME.json`` beside it holds the preprocessing, the names and shapes of inputs and
        outputs, the classes, and the fingerprint that `CaseIndex` knows the network by.
    head : MLPHead, optional
        Fitted on the network's embeddings.
    size : int, optional
        Side of the images; by default that of ``net.preprocess``.

    Returns
    -------
    Path
        The ONNX file.

    Raises
    ------
    ImportError
        Without the ``[onnx]`` extra.
    TypeError
        If `net` is no `EmbeddingNet`.
    ValueError
        If the path does not end in .onnx, no size is known, or the head is not fitted or does not fit the network.
    RuntimeError
        If ONNX cannot express the network, or onnxruntime's outputs differ from PyTorch's by more than 1e-4;
        nothing is written then.

    Examples
    --------
    >>> import onnxruntime, tempfile
    >>> from siamura import EmbeddingNet, Preprocess
    >>> net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=32))
    >>> path = to_onnx(net, f"{tempfile.mkdtemp()}/net.onnx")
    >>> session = onnxruntime.InferenceSession(path)
    >>> session.run(["embedding"], {"image": np.zeros((2, 1, 32, 32), np.uint8)})[0].shape
    (2, 8)
    """
    try:
        # Optional extras.
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f'exporting needs {error.name}: pip install "siamura[onnx]".') from error

    if not isinstance(net, EmbeddingNet):
        raise TypeError(f"net is a {type(net).__name__}; give an EmbeddingNet, such as load(path) gives.")
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"path={str(path)!r} must end in .onnx.")
    preprocess = net.preprocess
    if size is None:
        if preprocess is None:
            raise ValueError(
                "size is missing, and the network holds no preprocessing; give the images' side."
            )
        size = preprocess.size
    elif preprocess is not None and size != preprocess.size:
        raise ValueError(f"size={size} differs from the {preprocess.size} of the network's preprocessing.")
    module: nn.Module = copy.deepcopy(net).cpu().eval()
    outputs = ["embedding"]
    if head is not None:
        if not hasattr(head, "module_"):
            told = "is not fitted; call head.fit(embeddings, labels) first"
            if not hasattr(type(head), "module"):
                told = "is no network; give an MLPHead, or None for embeddings alone"
            raise ValueError(f"head={type(head).__name__} {told}.")
        if head.n_features_in_ != net.dim:
            raise ValueError(f"head takes {head.n_features_in_} dimensions, and the network gives {net.dim}.")
        module = _WithHead(module, copy.deepcopy(head.module).cpu().float()).eval()
        outputs.append("probability")
    module.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 1, size, size), generator=generator, dtype=torch.uint8)

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.onnx")
    try:
        try:
            torch.onnx.export(
                module,
                (images[:2],),
                beside,
                input_names=["image"],
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=18,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            onnx.checker.check_model(str(beside))
            difference = _difference(module, beside, images, outputs)
        except Exception as error:  # the exporter, the checker and onnxruntime raise some twenty kinds
            told = str(error).strip().split("\n")[0]
            name = getattr(getattr(net, "trunk", None), "name", type(net).__name__)
            raise RuntimeError(
                f"{name} cannot be exported to ONNX ({type(error).__name__}: {told:.200}). Nothing was written; choose "
                "another trunk, or run it by PyTorch."
            ) from error
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"the exported network differs from PyTorch's by {difference:.1e}, over {TOLERANCE:.0e}."
            )
        about: dict[str, Any] = {
            "format": "siamura ONNX",
            "preprocessing": None if preprocess is None else preprocess.to_dict(),
            "fingerprint": fingerprint(net),
            "input": {
                "name": "image",
                "dtype": "uint8",
                "shape": ["batch", 1, size, size],
                "range": [0, 255],
            },
            "outputs": {"embedding": {"dtype": "float32", "shape": ["batch", net.dim]}},
            "largest_difference": difference,
        }
        if head is not None:
            classes = np.asarray(head.classes_).tolist()
            about["outputs"]["probability"] = {"dtype": "float32", "shape": ["batch", len(classes)]}
            about["classes"] = classes
        described = beside.with_suffix(".json")
        described.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        described.replace(path.with_suffix(".json"))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
        beside.with_suffix(".json").unlink(missing_ok=True)
    log.info("%s written; it differs from PyTorch by at most %.1e.", path, difference)
    return path


def _difference(module: nn.Module, path: Path, images: Tensor, outputs: list[str]) -> float:
    """Largest absolute difference of any output, over one image and over several."""
    import onnxruntime  # an optional extra

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in (images[:1], images):
        with torch.no_grad():
            expected = module(batch)
        found: list[NDArray[np.float32]] = session.run(outputs, {"image": batch.numpy()})
        for ours, theirs in zip(
            (expected,) if isinstance(expected, Tensor) else expected, found, strict=True
        ):
            largest = max(largest, float(np.abs(ours.numpy() - theirs).max()))
    return largest
