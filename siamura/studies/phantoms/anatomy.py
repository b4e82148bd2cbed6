"""The scene of each of MURA's parts."""

from __future__ import annotations

from collections.abc import Callable

from .arm import elbow_scene, forearm_scene, humerus_scene, shoulder_scene
from .hand import finger_scene, hand_scene, wrist_scene
from .people import Person, Pose, Scene

SCENES: dict[str, Callable[[Person, Pose], Scene]] = {
    "XR_ELBOW": elbow_scene,
    "XR_FINGER": finger_scene,
    "XR_FOREARM": forearm_scene,
    "XR_HAND": hand_scene,
    "XR_HUMERUS": humerus_scene,
    "XR_SHOULDER": shoulder_scene,
    "XR_WRIST": wrist_scene,
}
