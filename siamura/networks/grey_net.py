"""What every network here shares: a grey input normalised inside, a trunk, and a folder to save to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from siamura._files import atomic_path, atomic_write, writing

from ._config import check_sizes, read_config
from .hub import fetched
from .trunk_check import check_trunk
from .trunks import Trunk
from .weights import load_weights, weight_shapes

if TYPE_CHECKING:
    from siamura.pixels import Preprocess

__all__ = ["GreyNet"]


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
