"""Volumes from files: read, turned to one orientation, resized and standardised."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.images.decode import BadImage, reading
from common.report import log

ENDINGS = (".npy", ".npz", ".nii", ".nii.gz")
SAID: list[str] = []  # orientations that the log has named


def decode_volume(path: Path, size: tuple[int, ...]) -> np.ndarray:
    """Return a volume resized to `size[:3]`, its voxels of mean 0 and deviation 1, as the bytes of float16.

    Axes of a NIfTI file are turned to RAS: they go to the right, to the front and up. Those of other files stay
    as they are. Raises BadImage for what is no volume of finite numbers.
    """
    with reading(path):
        array = read_array(path)
        if array.ndim == 4 and array.shape[3] == 1:
            array = array[..., 0]  # of one point in time
        if array.ndim != 3:
            raise BadImage(path, f"is {array.ndim}-D {array.shape}, and a volume is 3-D")
        if not array.size:
            raise BadImage(path, f"is empty {array.shape}")
        volume = array.astype(np.float32)
    if not np.isfinite(volume).all():
        raise BadImage(path, "holds NaN or infinite values")
    volume = resized(volume, size[:3])
    return packed((volume - volume.mean()) / max(float(volume.std()), 1e-6))


def read_array(path: Path) -> np.ndarray:
    """Return the array in a file; raises BadImage for one of another kind, or with several arrays."""
    if not path.name.lower().endswith(ENDINGS):
        raise BadImage(path, f"ends in none of {', '.join(ENDINGS)}")
    if ".nii" in path.name.lower()[-7:]:
        return read_nifti(path)
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    with found:
        if len(found.files) != 1:
            raise BadImage(path, f"holds {len(found.files)} arrays, and one is wanted")
        return found[found.files[0]]


def read_nifti(path: Path) -> np.ndarray:
    """Return the array in a NIfTI file with its axes in the order and direction of RAS."""
    try:
        import nibabel  # an optional extra
    except ImportError as error:
        raise UserError(f"{path}: NIfTI needs nibabel: pip install nibabel") from error
    image: Any = nibabel.load(path)
    axes = "".join(name or "?" for name in nibabel.aff2axcodes(image.affine))
    if axes not in {"RAS", *SAID}:
        SAID.append(axes)
        log.info("%s is oriented as %s: turned to RAS, as are others like it", path.name, axes)
    return np.asanyarray(nibabel.as_closest_canonical(image).dataobj)


def resized(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a volume at another shape, axis by axis: linear, over a wider window where it shrinks."""
    for axis, side in enumerate(shape):
        volume = np.moveaxis(np.tensordot(_window(volume.shape[axis], side), volume, (1, axis)), 0, axis)
    return volume


@functools.cache
def _window(old: int, new: int) -> np.ndarray:
    """Return the share of each old place in each new one, float32 `(new, old)`."""
    centre = (np.arange(new)[:, None] + 0.5) * old / new - 0.5
    share = np.clip(1 - np.abs(centre - np.arange(old)) / max(old / new, 1), 0, None)
    return (share / share.sum(1, keepdims=True)).astype(np.float32)


def packed(volumes: np.ndarray) -> np.ndarray:
    """Return volumes `(..., W)` as the bytes of float16, uint8 `(..., W, 2)`: a cache holds bytes."""
    return np.ascontiguousarray(volumes, np.float16)[..., None].view(np.uint8)


def unpacked(packed: np.ndarray) -> np.ndarray:
    """Return `packed` volumes as float32."""
    return np.ascontiguousarray(packed).view(np.float16)[..., 0].astype(np.float32)
