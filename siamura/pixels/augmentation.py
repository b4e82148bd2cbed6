"""Random changes of whole batches, on their device, each image by its own draw."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from siamura._validation import check_choice, check_number

__all__ = ["PRESETS", "Augmentation"]

PRESETS: dict[str, dict[str, float]] = {
    "none": {},
    # Left and right hands look alike: the one change that is safe everywhere.
    "flip": {"hflip": 0.5},
    # The MURA paper: inversion of side, rotation up to 30 degrees.
    "mura": {"hflip": 0.5, "rotation": 30.0},
    # System B (Keras): shift in width and height, both flips, zoom. Their ranges are not stated: a tenth.
    "keras": {"hflip": 0.5, "vflip": 0.5, "shift": 0.1, "zoom": 0.1},
    # System D: flip, rotation, sharpening, blur, none with a stated range. Its centre crop is Preprocess's.
    "part": {"hflip": 0.5, "rotation": 15.0, "sharpen": 0.3, "blur": 0.3},
}
"""Settings of `Augmentation` by name."""


class Augmentation(v2.Transform):  # type: ignore[misc]  # torchvision is untyped
    """Shift, flip, zoom, rotate, sharpen and blur a batch of grey images at random.

    A torchvision v2 transform that draws for each image of a batch by itself, from a generator of its own:
    neither torch's global random state nor the order of other draws plays a part. Parameters are drawn on the
    CPU, the work is done where the batch is. The generator's state is part of `state_dict`, so that training
    resumes with the very draws that it would have made.

    Shift, zoom and rotation are one resampling, bilinear; what comes in from outside is black. Flips copy.

    Parameters
    ----------
    hflip, vflip : float
        Probability of a flip left to right (the inversion of side), and upside down.
    shift : float
        Largest shift along each axis, as a fraction of the side.
    zoom : float
        Largest change of scale: factors from ``1 - zoom`` to ``1 + zoom``.
    rotation : float
        Largest angle, in degrees, either way.
    sharpen, blur : float
        Probability of sharpening (torchvision's, by a factor of 1 to 2), and of a Gaussian blur (sigma of
        0.1 to 1.5 pixels).
    seed : int

    Examples
    --------
    >>> augment = Augmentation.preset("mura", seed=0)
    >>> batch = torch.zeros(4, 1, 64, 64, dtype=torch.uint8)
    >>> augment(batch).shape, augment(batch).dtype
    (torch.Size([4, 1, 64, 64]), torch.uint8)
    """

    SHARPNESS = 2.0
    SIGMA = (0.1, 1.5)

    def __init__(
        self,
        *,
        hflip: float = 0.0,
        vflip: float = 0.0,
        shift: float = 0.0,
        zoom: float = 0.0,
        rotation: float = 0.0,
        sharpen: float = 0.0,
        blur: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        limits = {"hflip": 1, "vflip": 1, "shift": 1, "zoom": 0.9, "rotation": 180, "sharpen": 1, "blur": 1}
        self.settings = {
            "hflip": hflip, "vflip": vflip, "shift": shift, "zoom": zoom,
            "rotation": rotation, "sharpen": sharpen, "blur": blur,
        }  # fmt: skip
        for name, value in self.settings.items():
            check_number(name, value, least=0, most=limits[name])
        self.generator = torch.Generator().manual_seed(seed)

    @classmethod
    def preset(cls, name: str, *, seed: int = 0) -> Augmentation:
        """Take one of the settings in `PRESETS`.

        Parameters
        ----------
        name : {"none", "flip", "mura", "keras", "part"}
            ``"mura"`` is the MURA paper's, ``"keras"`` system B's, ``"part"`` system D's.
        seed : int
        """
        check_choice("name", name, PRESETS)
        return cls(**PRESETS[name], seed=seed)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, torch.Tensor]:
        """Draw for each image of a batch; torchvision calls this.

        Returns
        -------
        dict of tensors (B,)
            ``hflip``, ``vflip``, ``sharpen`` and ``blur`` bool; ``dx``, ``dy`` in fractions of the side;
            ``scale``; ``angle`` in degrees, counter-clockwise; ``sharpness``; ``sigma`` in pixels.
        """
        batch = next(x for x in flat_inputs if isinstance(x, torch.Tensor) and x.ndim >= 3)
        count = batch.shape[0] if batch.ndim == 4 else 1
        # Every number is drawn whether it is used or not: adding a change does not alter the others' draws.
        u = torch.rand(10, count, generator=self.generator, dtype=torch.float64)
        s = self.settings
        low, high = self.SIGMA
        return {
            "hflip": u[0] < s["hflip"],
            "vflip": u[1] < s["vflip"],
            "dx": s["shift"] * (2 * u[2] - 1),
            "dy": s["shift"] * (2 * u[3] - 1),
            "scale": 1 + s["zoom"] * (2 * u[4] - 1),
            "angle": s["rotation"] * (2 * u[5] - 1),
            "sharpen": u[6] < s["sharpen"],
            "sharpness": 1 + (self.SHARPNESS - 1) * u[7],
            "blur": u[8] < s["blur"],
            "sigma": low + (high - low) * u[9],
        }

    def transform(self, inpt: Any, params: dict[str, torch.Tensor]) -> Any:
        """Change one batch by given parameters; torchvision calls this.

        Parameters
        ----------
        inpt : uint8 or float (B, C, H, W), or (C, H, W)
            Floats on the same scale, 0 to 255.
        params : dict
            As `make_params` draws them.
        """
        images = inpt if inpt.ndim == 4 else inpt[None]
        images = _flipped(images, params["hflip"], -1)
        images = _flipped(images, params["vflip"], -2)
        moves = self.settings["shift"] or self.settings["zoom"] or self.settings["rotation"]
        if moves or params["sharpen"].any() or params["blur"].any():
            work = images.float()
            if moves:
                work = _moved(work, params)
            if params["sharpen"].any():
                chosen = params["sharpen"].nonzero()[:, 0].to(work.device)
                work = work.index_copy(0, chosen, _sharpened(work[chosen], _at(params["sharpness"], chosen)))
            if params["blur"].any():
                chosen = params["blur"].nonzero()[:, 0].to(work.device)
                work = work.index_copy(0, chosen, _blurred(work[chosen], _at(params["sigma"], chosen)))
            images = work if images.is_floating_point() else work.round().clamp(0, 255).to(images.dtype)
        return images if inpt.ndim == 4 else images[0]

    def get_extra_state(self) -> torch.Tensor:
        """Give the generator's state, which `state_dict` takes in."""
        return self.generator.get_state()

    def set_extra_state(self, state: Any) -> None:
        """Take a state from `state_dict`."""
        self.generator.set_state(state.cpu())

    def extra_repr(self) -> str:
        """Show what is switched on."""
        return ", ".join(f"{name}={value:g}" for name, value in self.settings.items() if value)


def _at(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return values.to(chosen.device, torch.float32)[chosen][:, None, None, None]


def _flipped(images: torch.Tensor, which: torch.Tensor, axis: int) -> torch.Tensor:
    if not which.any():
        return images
    return torch.where(which.to(images.device)[:, None, None, None], images.flip(axis), images)


def _moved(images: torch.Tensor, params: dict[str, torch.Tensor]) -> torch.Tensor:
    """Rotate and scale about the centre, then shift: each output pixel looks up where it came from."""
    height, width = images.shape[-2:]
    angle = params["angle"] * (math.pi / 180)
    cos, sin = torch.cos(angle) / params["scale"], torch.sin(angle) / params["scale"]
    dx, dy = params["dx"] * 2, params["dy"] * 2  # the grid runs from -1 to 1
    # Rows act on (x, y) counted in half sides; the aspect keeps a rotation a rotation.
    aspect = height / width
    matrix = torch.stack(
        [
            torch.stack([cos, -sin * aspect, -cos * dx + sin * aspect * dy], dim=-1),
            torch.stack([sin / aspect, cos, -sin / aspect * dx - cos * dy], dim=-1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix.to(images.device, images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _sharpened(images: torch.Tensor, sharpness: torch.Tensor) -> torch.Tensor:
    """Move away from a smoothed copy, as torchvision's adjust_sharpness; the outermost pixels stay."""
    channels = images.shape[1]
    kernel = images.new_tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    smooth = F.conv2d(images, kernel.expand(channels, 1, 3, 3), groups=channels)
    inner = images[..., 1:-1, 1:-1]
    out = images.clone()
    out[..., 1:-1, 1:-1] = (smooth + sharpness * (inner - smooth)).clamp(0, 255)
    return out


def _blurred(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur, each image by its own sigma; mirrored at the edges."""
    radius = math.ceil(3 * Augmentation.SIGMA[1])
    at = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (at / sigma.reshape(-1, 1)) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    count, channels, height, width = images.shape
    kernel = kernel.repeat_interleave(channels, dim=0)[:, None]
    out = F.pad(images, (radius,) * 4, mode="reflect").reshape(
        1, count * channels, *(height + 2 * radius, width + 2 * radius)
    )
    out = F.conv2d(out, kernel[:, :, :, None], groups=count * channels)
    out = F.conv2d(out, kernel[:, :, None, :], groups=count * channels)
    return out.reshape(count, channels, height, width)
