"""Augmentation against torchvision's own functions, its draws, and its state."""

import io

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from siamura.pixels import Augmentation
from siamura.pixels.augmentation import PRESETS

EVERYTHING = {
    "hflip": 0.5, "vflip": 0.5, "shift": 0.1, "zoom": 0.2, "rotation": 30.0, "sharpen": 0.5, "blur": 0.5,
}  # fmt: skip


def batch(count=6, height=40, width=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, height // 4, width // 4, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").to(torch.uint8)


def given(augment, images, **values):
    """Transform with chosen parameters, the others neutral."""
    count = len(images)
    params = {
        "hflip": torch.zeros(count, dtype=torch.bool),
        "vflip": torch.zeros(count, dtype=torch.bool),
        "dx": torch.zeros(count, dtype=torch.float64),
        "dy": torch.zeros(count, dtype=torch.float64),
        "scale": torch.ones(count, dtype=torch.float64),
        "angle": torch.zeros(count, dtype=torch.float64),
        "sharpen": torch.zeros(count, dtype=torch.bool),
        "sharpness": torch.ones(count, dtype=torch.float64),
        "blur": torch.zeros(count, dtype=torch.bool),
        "sigma": torch.ones(count, dtype=torch.float64),
    }
    assert set(values) <= set(params)
    for name, value in values.items():
        params[name] = torch.as_tensor(value, dtype=params[name].dtype)
    assert set(params) == set(augment.make_params([images]))
    return augment.transform(images, params)


def apart(a, b):
    return (a.int() - b.int()).abs().max().item()


def test_no_augmentation_is_the_identity():
    images = batch()
    assert torch.equal(Augmentation.preset("none")(images), images)
    # Neutral moves through the resampling lose nothing either.
    assert torch.equal(given(Augmentation(rotation=30), images), images)


def test_flips_are_exact_and_chosen_for_each_image():
    images = batch(4)
    out = given(Augmentation(hflip=0.5, vflip=0.5), images, hflip=[1, 0, 1, 0], vflip=[0, 0, 1, 1])
    assert torch.equal(out[0], F.horizontal_flip(images[0]))
    assert torch.equal(out[1], images[1])
    assert torch.equal(out[2], F.vertical_flip(F.horizontal_flip(images[2])))
    assert torch.equal(out[3], F.vertical_flip(images[3]))


@pytest.mark.parametrize("shape", [(40, 40), (32, 56)])
def test_moves_are_torchvisions_affine_image_by_image(shape):
    images = batch(5, *shape)
    angles, scales = [0.0, 30.0, -17.0, 5.0, -30.0], [1.0, 1.0, 1.1, 0.9, 0.8]
    dx, dy = [0.1, 0.0, -0.05, 0.1, 0.0], [0.0, 0.05, 0.1, -0.1, 0.0]
    out = given(
        Augmentation(rotation=30, zoom=0.2, shift=0.1), images, angle=angles, scale=scales, dx=dx, dy=dy
    )
    for i in range(5):
        # torchvision turns clockwise, moves in pixels, and fills with black.
        peer = F.affine(
            images[i].float(), -angles[i], [dx[i] * shape[1], dy[i] * shape[0]], scales[i], [0.0, 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
        )  # fmt: skip
        assert apart(out[i], peer.round()) <= 1


def test_what_comes_in_from_outside_is_black():
    images = torch.full((1, 1, 40, 40), 200, dtype=torch.uint8)
    out = given(Augmentation(shift=0.25), images, dx=[0.25])[0, 0]
    assert (out[:, :10] == 0).all()
    assert (out[:, 10:] == 200).all()
    corners = given(Augmentation(rotation=30), images, angle=[30.0])[0, 0]
    assert corners[0, 0] == corners[-1, -1] == 0


def test_a_shift_by_whole_pixels_moves_every_value_as_it_is():
    images = batch(1)
    out = given(Augmentation(shift=0.1), images, dx=[0.1], dy=[-0.05])
    assert torch.equal(out[0, 0, :-2, 4:], images[0, 0, 2:, :-4])


def test_sharpening_is_torchvisions_image_by_image():
    images = batch(3)
    out = given(Augmentation(sharpen=1), images, sharpen=[1, 0, 1], sharpness=[1.9, 1.5, 1.2])
    assert apart(out[0], F.adjust_sharpness(images[0], 1.9)) <= 1
    assert torch.equal(out[1], images[1])
    assert apart(out[2], F.adjust_sharpness(images[2], 1.2)) <= 1
    assert apart(out[0], images[0]) > 3


def test_blur_is_torchvisions_image_by_image():
    images = batch(3)
    out = given(Augmentation(blur=1), images, blur=[1, 1, 0], sigma=[1.5, 0.4, 1.0])
    assert apart(out[0], F.gaussian_blur(images[0], [11, 11], [1.5, 1.5])) <= 1
    assert apart(out[1], F.gaussian_blur(images[1], [11, 11], [0.4, 0.4])) <= 1
    assert torch.equal(out[2], images[2])


def test_draws_stay_in_their_ranges_and_fill_them():
    augment = Augmentation(**EVERYTHING, seed=3)
    drawn = augment.make_params([torch.zeros(4000, 1, 1, 1)])
    for name, low, high in [
        ("dx", -0.1, 0.1), ("dy", -0.1, 0.1), ("scale", 0.8, 1.2), ("angle", -30, 30),
        ("sharpness", 1, 2), ("sigma", 0.1, 1.5),
    ]:  # fmt: skip
        values = drawn[name].numpy()
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.03 * (high - low)
    for name in ("hflip", "vflip", "sharpen", "blur"):
        assert 0.45 < drawn[name].double().mean() < 0.55
    # No two draws follow each other.
    numbers = np.corrcoef([drawn[name].double().numpy() for name in sorted(drawn)])
    assert np.abs(numbers - np.eye(len(numbers))).max() < 0.08


@pytest.mark.parametrize("name", PRESETS)
def test_presets_keep_shape_type_and_range(name):
    images = batch(8)
    out = Augmentation.preset(name, seed=1)(images)
    assert out.shape == images.shape
    assert out.dtype == torch.uint8
    assert torch.equal(out, images) == (name == "none")


def test_the_published_settings():
    assert PRESETS["mura"] == {"hflip": 0.5, "rotation": 30.0}
    assert set(PRESETS["keras"]) == {"hflip", "vflip", "shift", "zoom"}
    assert set(PRESETS["part"]) == {"hflip", "rotation", "sharpen", "blur"}


def test_the_same_seed_gives_the_same_batches_and_another_seed_others():
    images = batch(8)
    a, b, c = (Augmentation(**EVERYTHING, seed=seed) for seed in (5, 5, 6))
    first, second = a(images), a(images)
    assert torch.equal(first, b(images))
    assert torch.equal(second, b(images))
    assert not torch.equal(first, second)
    assert not torch.equal(first, c(images))


def test_no_global_random_state_is_read_or_moved():
    images = batch(4)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = Augmentation(**EVERYTHING, seed=5)(images)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, Augmentation(**EVERYTHING, seed=5)(images))


def test_resumed_from_a_checkpoint_it_goes_on_bit_for_bit():
    images = batch(8)
    augment = Augmentation(**EVERYTHING, seed=5)
    augment(images)
    file = io.BytesIO()
    torch.save(augment.state_dict(), file)
    file.seek(0)
    ahead = [augment(images) for _ in range(3)]
    resumed = Augmentation(**EVERYTHING, seed=99)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert all(torch.equal(x, resumed(images)) for x in ahead)


def test_labels_pass_through_and_it_composes_with_torchvision():
    images, labels = batch(4), torch.tensor([0, 1, 1, 0])
    both = v2.Compose([Augmentation.preset("mura", seed=2), v2.ToDtype(torch.float32)])(images, labels)
    assert torch.equal(both[0], Augmentation.preset("mura", seed=2)(images).float())
    assert torch.equal(both[1], labels)


def test_floats_on_the_same_scale_and_single_images():
    images = batch(4)
    by_bytes = Augmentation(**EVERYTHING, seed=1)(images)
    by_floats = Augmentation(**EVERYTHING, seed=1)(images.float())
    assert by_floats.dtype == torch.float32
    assert apart(by_floats.round(), by_bytes) <= 1
    alone = Augmentation(**EVERYTHING, seed=1)(images[0])
    assert torch.equal(alone, Augmentation(**EVERYTHING, seed=1)(images[:1])[0])


@pytest.mark.parametrize(
    "wrong", [{"hflip": 1.5}, {"rotation": -1}, {"rotation": 270}, {"zoom": 1.0}, {"blur": float("nan")}]
)
def test_impossible_ranges_are_named(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name}="):
        Augmentation(**wrong)


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(ValueError, match=r"'strong' is unknown; .*mura"):
        Augmentation.preset("strong")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_draws_are_the_same():
    images = batch(8)
    here = Augmentation(**EVERYTHING, seed=5)(images)
    there = Augmentation(**EVERYTHING, seed=5)(images.cuda())
    assert there.is_cuda
    assert apart(here, there.cpu()) <= 1
