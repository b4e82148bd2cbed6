"""Checks of pixels: the range that a network expects, and whether an image shows anything."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_augmented", "check_gray", "check_radiograph"]

LEAST_SIDE: Final = 32
"""Pixels a side below which an image is no radiograph."""

LEAST_DEVIATION: Final = 2.0
"""Grey levels of standard deviation; an image of which a hundredth is lit has 12."""


def check_gray(images: Any, name: str = "images") -> None:
    """Refuse pixel values that are not on the scale of 0 to 255 on which networks are trained here.

    Parameters
    ----------
    images : ndarray or Tensor
        Of any shape. uint8 passes unseen; of all other types the values are looked at.
    name : str
        The argument's name, for the message.

    Raises
    ------
    ValueError
        Values are negative, NaN or above 255, or are floats in [0, 1] and not all 0, in one of
        several images too; the message has the remedy.

    Examples
    --------
    >>> check_gray(np.zeros((4, 1, 64, 64), np.uint8))
    >>> check_gray(np.full((4, 1, 64, 64), 0.5, np.float32))
    Traceback (most recent call last):
    ValueError: images holds float32 values from 0.5 to 0.5, which look like greys divided by 255; give uint8 from
    0 to 255, as Preprocess does: (images * 255).round() as uint8.
    """
    kind = str(getattr(images, "dtype", type(images).__name__)).removeprefix("torch.")
    if kind == "uint8" or not hasattr(images, "min"):
        if kind != "uint8":
            raise ValueError(f"{name} is a {kind}; give a uint8 array or tensor of greys from 0 to 255.")
        return
    if (images.numel() if hasattr(images, "numel") else images.size) == 0:
        return
    if kind in ("bool", "complex64", "complex128", "object"):
        raise ValueError(f"{name} holds {kind} values; give uint8 greys from 0 to 255, as Preprocess does.")
    if kind.startswith("uint") and hasattr(images, "double"):
        images = images.double()  # torch has no minimum of its wider unsigned types
    low, high = float(images.min()), float(images.max())
    said = f"{name} holds {kind} values from {low:g} to {high:g}"
    wanted = "give uint8 from 0 to 255, as Preprocess does"
    if low != low or high != high:
        raise ValueError(
            f"{name} holds {kind} values of which some are NaN; {wanted}, and find where they arise."
        )
    if low < 0:
        raise ValueError(
            f"{said}, which look standardised or signed; {wanted}: the network standardises them itself."
        )
    if high > 255:
        raise ValueError(
            f"{said}, more than 8 bits hold; {wanted}: siamura.read_image windows a file of more bits, "
            "and images * (255 / images.max()) an array."
        )
    if not kind.startswith(("float", "bfloat")):
        return
    divided = "which look like greys divided by 255"
    if 0 < high <= 1:
        raise ValueError(f"{said}, {divided}; {wanted}: (images * 255).round() as uint8.")
    if images.ndim > 2:  # one such image hides among others
        highest = images.reshape(len(images), -1)
        highest = highest.amax(1) if hasattr(highest, "amax") else highest.max(axis=1)
        found = [i for i, most in enumerate(highest.tolist()) if 0 < most <= 1]
        if found:
            raise ValueError(
                f"{name}[{found[0]}] reaches {float(highest[found[0]]):g} at most, as {len(found)} of {len(images)} "
                f"images do, {divided}, and others reach {high:g}; {wanted}: (image * 255).round() as uint8."
            )


def check_augmented(images: Any, augmented: Any) -> Any:
    """Return augmented images, if they are on the scale of the images.

    An augmentation that divides by 255 or standardises leaves it. Values a little below 0 or above 255, as
    noise makes them, pass.

    Parameters
    ----------
    images, augmented : Tensor (B, 1, S, S)
        Before and after.

    Raises
    ------
    ValueError
        The greys of `images` reach beyond 16, and those of `augmented` not beyond 4.

    Examples
    --------
    >>> import torch
    >>> greys = torch.tensor([[[[0, 100, 200]]]], dtype=torch.uint8)
    >>> check_augmented(greys, greys + 1).max()
    tensor(201, dtype=torch.uint8)
    >>> check_augmented(greys, greys / 255)
    Traceback (most recent call last):
    ValueError: augment made float32 values from 0 to 0.784314 of greys up to 200; give back the scale of 0 to 255.
    """
    kind = str(augmented.dtype).removeprefix("torch.")
    if kind == "uint8" or not augmented.numel():
        return augmented
    low, high, before = float(augmented.min()), float(augmented.max()), float(images.max())
    if before > 16 and high <= 4:
        raise ValueError(
            f"augment made {kind} values from {low:g} to {high:g} of greys up to {before:g}; give back the scale "
            "of 0 to 255."
        )
    return augmented


def check_radiograph(image: NDArray[np.uint8]) -> str:
    """Say why an image cannot be a radiograph; an empty string where nothing speaks against it.

    A network gives a score for anything, a black image included: ask here before one is shown.

    Parameters
    ----------
    image : uint8 (H, W)
        As `siamura.read_image` gives it, before preprocessing.

    Returns
    -------
    str

    Examples
    --------
    >>> check_radiograph(np.zeros((500, 400), np.uint8))
    'all its pixels are nearly one grey (0), so there is nothing to see'
    >>> check_radiograph(np.zeros((1, 1), np.uint8))
    'its 1 x 1 pixels are fewer than the 32 a side that a radiograph needs'
    """
    height, width = image.shape
    if min(height, width) < LEAST_SIDE:
        return f"its {width} x {height} pixels are fewer than the {LEAST_SIDE} a side that a radiograph needs"
    step = max(1, int((image.size / 1e6) ** 0.5))  # a million pixels tell it
    some = image[::step, ::step]
    if float(some.std()) < LEAST_DEVIATION:
        return f"all its pixels are nearly one grey ({round(float(some.mean()))}), so there is nothing to see"
    return ""
