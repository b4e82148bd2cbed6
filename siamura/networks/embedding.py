"""The network of the triplet form: grey images to embeddings, with its preprocessing kept beside."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from siamura._files import atomic_path, atomic_write, writing

from ._config import check_sizes, read_config
from .heads import EmbeddingHead, Neck, Pooling
from .hub import fetched
from .trunk_check import check_trunk
from .trunks import Trunk
from .weights import load_weights, weight_shapes

if TYPE_CHECKING:
    from siamura.pixels import Preprocess

__all__ = ["EmbeddingNet", "GreyNet"]


class GreyNet(nn.Module):
    """What every network here shares: a grey input normalised inside, a trunk, and a folder to save to.

    Parameters
    ----------
    trunk, weights, image_size
        See `Trunk`.
    preprocess : Preprocess, optional
        How the images were made; kept in config.json.
    pool : str
        How the map will become a vector; ``"cls"`` takes the class token in its place.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: str,
        weights: str | Path | None = None,
        *,
        image_size: int | None = None,
        preprocess: Preprocess | None = None,
        pool: str = "avg",
    ) -> None:
        super().__init__()
        if image_size is None and preprocess is not None:
            image_size = preprocess.size
        self.preprocess = preprocess
        output: Literal["map", "class_token"] = "class_token" if pool == "cls" else "map"
        self.trunk = Trunk(trunk, weights, image_size=image_size, output=output)
        self.register_buffer("mean", torch.tensor(255.0 * self.trunk.mean))
        self.register_buffer("std", torch.tensor(255.0 * self.trunk.std))
        # The name and side by which the same trunk is made again, whatever the preprocessing will be.
        self.config: dict[str, Any] = {
            "trunk": self.trunk.name,
            "image_size": self.trunk.image_size or image_size,
        }

    def features(self, x: Tensor) -> Tensor:
        """Last feature map; with ``pool="cls"`` the class token, as a map of one place.

        Parameters
        ----------
        x : Tensor, uint8 or float, (B, 1, S, S)
            Grey images, 0 to 255.

        Returns
        -------
        Tensor (B, C, h, w)
        """
        if x.ndim != 4 or x.shape[1] != 1:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (B, 1, S, S), grey images from 0 to 255."
            )
        out: Tensor = self.trunk((x.to(self.mean.dtype) - self.mean) / self.std)
        return out

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write model.safetensors and config.json, each beside and then renamed.

        Parameters
        ----------
        folder : path
            Made if missing.

        Returns
        -------
        Path
            The folder.
        """
        import siamura  # not at the top, as it imports this module

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"class": type(self).__name__, "siamura": siamura.__version__, **self.config}
        config["preprocess"] = None if self.preprocess is None else self.preprocess.to_dict()
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        with writing(folder / "model.safetensors"), atomic_path(folder / "model.safetensors") as beside:
            save_file(state, beside, metadata={"format": "pt"})
        with writing(folder / "config.json"):
            atomic_write(folder / "config.json", json.dumps(config, indent=2) + "\n")
        return folder

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Read what `save_pretrained` wrote; no pickle is involved.

        Parameters
        ----------
        folder : path
            Holds model.safetensors and config.json; or ``"hf-hub:OWNER/NAME"``, which is fetched from the Hugging
            Face Hub (``pip install "siamura[hub]"``) and kept in its cache.
        revision, cache_dir, token, local_files_only
            Of the Hub: branch, tag or commit; where it is kept; who asks; whether the cache alone is looked at.

        Returns
        -------
        the network, in eval mode

        Raises
        ------
        FileNotFoundError
            If either file is missing, or the network cannot be fetched.
        ValueError
            If the folder holds another kind of network, or its files do not belong together.
        """
        folder = fetched(
            folder, revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only
        )
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder / name} is missing; save_pretrained writes it with the other one."
                )
        arguments = read_config(folder / "config.json", cls.__name__)
        shapes = weight_shapes(folder / "model.safetensors")
        check_sizes(arguments, shapes, folder / "config.json")
        check_trunk(arguments["trunk"], shapes)
        try:
            net = cls(**arguments)
        except (TypeError, RuntimeError) as error:  # what a trunk says of a size that it cannot take
            told = str(error).split("\n")[0]
            raise ValueError(f"{folder / 'config.json'} describes no network ({told}).") from error
        load_weights(net, folder / "model.safetensors")
        net.trunk.weights_given = True
        return net.eval()


class EmbeddingNet(GreyNet):
    """A trunk and an embedding head: grey images in, vectors of length 1 out.

    Parameters
    ----------
    trunk : str
        ``"densenet169"``, ``"resnet50"``, any torchvision classifier, or ``"timm:NAME"``, vision transformers
        included; see `Trunk`.
    dim : int
        Dimensions of the embedding.
    weights : None, "imagenet" or path
        What the trunk starts from.
    pool, hidden, batch_norm, dropout, normalize
        See `EmbeddingHead`.
    image_size : int, optional
        See `Trunk`.
    preprocess : Preprocess, optional
        How the images were made. `fit` sets it from the data; it is saved with the weights.
    classes : int
        Where 2 or more, a classifier of so many classes stands on the embedding (`Neck`), for a loss beside the
        distance: ``fit(..., classify=1.0)``, which adds one itself where there is none.
    seed : int
        Of the weights drawn. The global random state is left alone.

    Attributes
    ----------
    trunk : Trunk
    head : EmbeddingHead
    neck : Neck or None

    Examples
    --------
    >>> net = EmbeddingNet("squeezenet1_1", dim=16)
    >>> net(torch.zeros(2, 1, 64, 64, dtype=torch.uint8)).shape
    torch.Size([2, 16])
    """

    def __init__(
        self,
        trunk: str = "densenet169",
        dim: int = 128,
        weights: str | Path | None = None,
        *,
        pool: Pooling = "avg",
        hidden: Sequence[int] = (),
        batch_norm: bool = False,
        dropout: float = 0.0,
        normalize: bool = True,
        image_size: int | None = None,
        preprocess: Preprocess | None = None,
        classes: int = 0,
        seed: int = 0,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(trunk, weights, image_size=image_size, preprocess=preprocess, pool=pool)
            self.head = EmbeddingHead(
                self.trunk.channels,
                dim,
                pool=pool,
                hidden=hidden,
                batch_norm=batch_norm,
                dropout=dropout,
                normalize=normalize,
            )
        self.dim = dim
        self.config |= {
            "dim": dim,
            "pool": pool,
            "hidden": list(hidden),
            "batch_norm": batch_norm,
            "dropout": dropout,
            "normalize": normalize,
        }
        self.neck: Neck | None = None
        if classes:
            self.add_neck(classes, seed=seed)

    def add_neck(self, classes: int, *, seed: int = 0) -> None:
        """Put a new classifier of so many classes on the embedding, in place of one that is there.

        Parameters
        ----------
        classes : int
            At least 2.
        seed : int
            Of the weights drawn.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.neck = Neck(self.dim, classes).to(self.mean.device)
        self.config["classes"] = classes

    def logits(self, embeddings: Tensor) -> Tensor:
        """Give the classifier's logits, float32 (B, classes), of embeddings, float32 (B, dim).

        Training draws as many images of each class, so their softmax is a probability for classes that are equally
        frequent; `siamura.MLPHead.from_network` corrects that.

        Raises
        ------
        ValueError
            If the network has no classifier.
        """
        if self.neck is None:
            raise ValueError(
                "the network has no classifier; give classes=, or train by fit(..., classify=1.0)."
            )
        out: Tensor = self.neck(embeddings)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Embed grey images, uint8 or float (B, 1, S, S) from 0 to 255, as float32 (B, dim)."""
        out: Tensor = self.head(self.features(x))
        return out
