"""Draw what each loss does to the same points: `python docs/draw_losses.py` writes docs/images/loss_*.svg."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from siamura.losses import (
    BatchHardTripletLoss,
    SelectivelyContrastiveLoss,
    SemiHardTripletLoss,
    TripletFocalLoss,
    TripletLoss,
)

IMAGES = Path(__file__).parent / "images"
LOSSES = {
    "triplet": TripletLoss(margin=0.2),
    "batch_hard": BatchHardTripletLoss(margin=0.2),
    "semi_hard": SemiHardTripletLoss(margin=0.2),
    "focal": TripletFocalLoss(margin=0.2, sigma=0.3),
    "selective": SelectivelyContrastiveLoss(lam=1.0),
}
COLOURS = ("#0072B2", "#D55E00")  # Okabe and Ito's blue and vermilion


def points() -> tuple[torch.Tensor, torch.Tensor]:
    """Twelve points on the unit circle: two labels, mostly in order, one of each on the wrong side."""
    angles = np.deg2rad([20, 35, 52, 68, 80, 128, 100, 118, 140, 152, 166, 44])
    xy = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return torch.tensor(xy, dtype=torch.float32), torch.tensor([0] * 6 + [1] * 6)


def draw(name: str) -> None:
    """Points, and on each the step of gradient descent along the circle."""
    start, labels = points()
    x = start.clone().requires_grad_()
    LOSSES[name](x, labels).backward()
    step = -x.grad.numpy()
    xy = start.numpy()
    step = step - (step * xy).sum(1, keepdims=True) * xy  # the sphere has no inside: what is left is along it
    step *= 0.3 / max(np.linalg.norm(step, axis=1).max(), 1e-9)
    figure = Figure(figsize=(5.2, 2.9))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    circle = np.deg2rad(np.linspace(-2, 182, 200))
    axes.plot(np.cos(circle), np.sin(circle), color="0.8", linewidth=1, zorder=0)
    for label, marker, text in ((0, "o", "normal"), (1, "s", "abnormal")):
        own = labels.numpy() == label
        axes.scatter(*xy[own].T, s=42, marker=marker, color=COLOURS[label], label=text, zorder=2)
        for (a, b), (u, v) in zip(xy[own], step[own], strict=True):
            lift = (
                1.1 + 0.12 * label
            )  # the labels' arrows on circles of their own, so that none hides another
            if np.hypot(u, v) > 0.01:
                axes.annotate(
                    "",
                    xy=(a * lift + u, b * lift + v),
                    xytext=(a * lift, b * lift),
                    arrowprops={
                        "arrowstyle": "-|>",
                        "color": COLOURS[label],
                        "lw": 1.4,
                        "mutation_scale": 8,
                        "shrinkA": 0,
                        "shrinkB": 0,
                    },
                )
            else:
                axes.plot(a * lift, b * lift, marker="x", color="0.5", markersize=4)
    axes.legend(loc="lower center", frameon=False, ncols=2, fontsize=8, bbox_to_anchor=(0.5, 0.02))
    axes.text(0, 0.28, "arrow: where one step moves the point\ncross: not moved", ha="center", fontsize=8)
    axes.set(xlim=(-1.45, 1.45), ylim=(-0.12, 1.42), aspect="equal")
    axes.axis("off")
    save(figure, f"loss_{name}")


def draw_pull() -> None:
    """How hard one pair pulls, by its distance."""
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    axes = figure.add_subplot()
    d = np.linspace(0, 2, 200)
    axes.plot(d, np.ones_like(d), color="0.3", label="triplet, batch hard, semi-hard")
    for sigma, style in ((1.0, "-"), (0.5, "--"), (0.3, ":")):
        axes.plot(d, np.exp(d / sigma) / sigma, style, color=COLOURS[1], label=f"focal, sigma {sigma:g}")
    axes.set(yscale="log", xlabel="distance D of the pair", ylabel="gradient of an active pair", xlim=(0, 2))
    axes.legend(frameon=False, fontsize=8)
    save(figure, "loss_pull")


def save(figure: Figure, name: str) -> None:
    """Write the SVG, the same bytes each time."""
    with rc_context({"svg.hashsalt": "siamura"}):
        figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})


def main() -> None:
    """Draw all of them."""
    IMAGES.mkdir(exist_ok=True)
    for name in LOSSES:
        draw(name)
    draw_pull()


if __name__ == "__main__":
    main()
