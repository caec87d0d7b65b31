"""Ray casting of rectangles in numpy: depth, which rectangle, where on it, and how it is lit.

The inverse of a plane's depth is an affine function of the pixel, and so is the place on it times that
inverse: a rectangle costs a few additions and comparisons over its part of the picture, for all rays at once.
World coordinates are metres, z up. A camera looks along its own z axis, x to the right and y down.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter
from standin.textures import LEVELS, SHADES, SIDE, texture_bank

WIDTH, HEIGHT = 640, 480
FOCAL = 519.0  # pixels at this size, as of the camera of NYU Depth v2; the optical axis meets the centre
NEAR = 0.05  # metres: what is nearer to the camera's plane is not seen
SHADOW_STEP = 5  # shadows are cast for every fifth pixel each way and then spread, which softens them
NO_HIT = 1e-6  # of an inverse depth, 1 / m


class Quads(NamedTuple):
    """Rectangles, their look, and the boxes that cast shadows."""

    origin: np.ndarray  # (Q, 3) a corner
    along: np.ndarray  # (Q, 3) unit vector of the first side
    up: np.ndarray  # (Q, 3) unit vector of the second side; along x up points to where it is seen from
    size: np.ndarray  # (Q, 2) metres
    repeats: np.ndarray  # (Q, 2) texture periods per metre
    pattern: np.ndarray  # (Q,) a number of the texture bank
    palette: np.ndarray  # (Q, SHADES, 3) reflectance of each shade of the texture
    glow: np.ndarray  # (Q,) light of its own
    boxes_low: np.ndarray  # (B, 3) corners of the boxes in the light's way
    boxes_high: np.ndarray  # (B, 3)
    room: np.ndarray  # (3,) the corner of the room that is opposite to the origin


class Camera(NamedTuple):
    """Where it stands, and its axes (right, down, forward) as rows."""

    position: np.ndarray
    axes: np.ndarray


class Light(NamedTuple):
    """Point lights and the light from everywhere."""

    positions: np.ndarray  # (L, 3)
    powers: np.ndarray  # (L,)
    ambient: np.ndarray  # (3,) for faces along x, y and z, so that edges show without a lamp


class Hits(NamedTuple):
    """What each ray meets, all (height, width)."""

    quad: np.ndarray  # intp
    inverse: np.ndarray  # 1 / depth along the optical axis, float32, 1 / m
    along: np.ndarray  # place on the rectangle times `inverse`, float32
    up: np.ndarray


def look(position: np.ndarray, yaw: float, pitch: float, roll: float) -> Camera:
    """A camera that looks `pitch` below the horizon; angles in radians."""
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    turned = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    return Camera(np.asarray(position, float), np.stack([*turned, forward]))


def rays(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """The x of each column and the y of each row where z is 1, float32."""
    scale = WIDTH / (width * FOCAL)
    x, y = (np.arange(n) + 0.5 - n / 2 for n in (width, height))
    return (x * scale).astype(np.float32), (y * scale).astype(np.float32)


def normals(quads: Quads) -> np.ndarray:
    """The direction from which each rectangle is seen, `(Q, 3)`."""
    return np.cross(quads.along, quads.up)


def _windows(corners: np.ndarray, width: int, height: int) -> np.ndarray:
    """The part of the picture that holds each rectangle, int `(Q, 4)`: left, top, right, bottom.

    `corners` `(Q, 4, 3)` are in the camera's frame. Sides that pass behind the camera are cut at NEAR.
    """
    after = np.roll(corners, -1, 1)
    depth, depth_after = corners[..., 2:], after[..., 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = corners + (after - corners) * (NEAR - depth) / (depth_after - depth)
    crosses = (depth < NEAR) != (depth_after < NEAR)
    points = np.concatenate([corners, np.where(crosses, cut, np.nan)], 1)
    seen = np.concatenate([depth >= NEAR, crosses], 1)
    flat = np.where(seen, points[..., :2], 0) / np.where(seen, points[..., 2:], 1)
    limits = np.array([width, height])
    pixels = flat * FOCAL * width / WIDTH + limits / 2 - 0.5
    low = np.clip(np.floor(np.where(seen, pixels, np.inf).min(1)), 0, limits)
    high = np.clip(np.ceil(np.where(seen, pixels, -np.inf).max(1)) + 1, 0, limits)
    return np.concatenate([low, high], 1).astype(int)


def cast(quads: Quads, camera: Camera, width: int = WIDTH, height: int = HEIGHT) -> Hits:
    """The nearest rectangle on the ray of each pixel; rays that meet none have `inverse` NO_HIT."""
    to_camera = camera.axes.T
    origin = (quads.origin - camera.position) @ to_camera
    along, up = quads.along @ to_camera, quads.up @ to_camera
    normal = np.cross(along, up)
    distance = (normal * origin).sum(1)  # negative where the camera is in front
    sides = along * quads.size[:, :1], up * quads.size[:, 1:]
    corners = np.stack([origin, origin + sides[0], origin + sides[0] + sides[1], origin + sides[1]], 1)
    windows = _windows(corners, width, height)
    shown = (distance < -1e-6) & (windows[:, 0] < windows[:, 2]) & (windows[:, 1] < windows[:, 3])
    with np.errstate(divide="ignore", invalid="ignore"):
        plane = normal / distance[:, None]  # (plane . ray) is the inverse of the depth
    # (row . ray) is the place on the rectangle, in metres, times the inverse of the depth
    first = along - (along * origin).sum(1, keepdims=True) * plane
    second = up - (up * origin).sum(1, keepdims=True) * plane
    x, y = rays(width, height)
    hits = Hits(
        np.zeros((height, width), np.intp),
        np.full((height, width), NO_HIT, np.float32),
        np.zeros((height, width), np.float32),
        np.zeros((height, width), np.float32),
    )
    rows = np.stack([plane, first, second], 1).astype(np.float32)
    for number in np.flatnonzero(shown):
        _draw(hits, number, windows[number], rows[number], quads.size[number].astype(np.float32), x, y)
    return hits


def _draw(
    hits: Hits,
    number: int,
    window: np.ndarray,
    rows: np.ndarray,
    size: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    """Enter one rectangle into `hits` wherever it is the nearest so far."""
    left, top, right, bottom = window
    columns, lines = x[left:right], y[top:bottom, None]
    inverse, along, up = ((row[0] * columns + row[2]) + row[1] * lines for row in rows)
    quad, nearest, *places = (part[top:bottom, left:right] for part in hits)
    hit = inverse > nearest
    for place, side in ((along, size[0]), (up, size[1])):
        hit &= place >= 0
        hit &= place <= inverse * side
    quad[hit] = number
    for held, new in zip((nearest, *places), (inverse, along, up), strict=True):
        np.copyto(held, new, where=hit)


def depth_of(hits: Hits) -> np.ndarray:
    """Metres along the optical axis, not along the ray; float32."""
    return np.reciprocal(hits.inverse)


def colours(quads: Quads, camera: Camera, hits: Hits, depth: np.ndarray) -> np.ndarray:
    """The reflectance of what each ray meets, float32 `(height, width, 3)`."""
    bank, starts = texture_bank()
    quad, repeats = hits.quad, quads.repeats.astype(np.float32)
    u, v = (place * depth * repeats[:, k].take(quad) for k, place in enumerate((hits.along, hits.up)))
    # Squared texels of the sharpest level under a pixel: more, the farther off and the more aslant it is.
    away = np.abs(((camera.position - quads.origin) * normals(quads)).sum(1)) + 0.02
    texels = ((repeats.max(1) * SIDE / FOCAL) ** 2 / away).astype(np.float32).take(quad) * (
        depth * depth * depth
    )
    level = np.clip((np.frexp(texels)[1] + 1) // 2, 0, LEVELS - 1)
    side = SIDE >> level
    column, line = ((place * side).astype(np.int32) & (side - 1) for place in (u, v))
    start = starts.ravel().take((quads.pattern * LEVELS).astype(np.int32).take(quad) + level)
    shade = bank.take(start + line * side + column)
    return quads.palette.reshape(-1, 3).take(quad * SHADES + shade, axis=0)


def lit(quads: Quads, light: Light, camera: Camera, hits: Hits, depth: np.ndarray) -> np.ndarray:
    """The light that falls on what each ray meets, float32 `(height, width)`."""
    quad, normal = hits.quad, normals(quads)
    direct_share, open_share = _shading(quads, light.positions[0], camera, hits, depth)
    total = ((np.abs(normal) @ light.ambient) + quads.glow).astype(np.float32).take(quad) * open_share
    x, y = rays(depth.shape[1], depth.shape[0])
    reaching = direct_share, open_share  # the second light is too weak for a shadow
    for position, power, share in zip(light.positions, light.powers, reaching, strict=True):
        way = camera.axes @ (camera.position - position)
        squares = (x * x + (y * y + 1)[:, None]) * depth  # of the ray
        middle = (2 * way[0] * x).astype(np.float32) + (2 * (way[1] * y + way[2])).astype(np.float32)[:, None]
        square = (squares + middle) * depth + np.float32(way @ way + 0.05)
        # How high the light is above a plane is the same all over it.
        above = np.maximum(((position - quads.origin) * normal).sum(1), 0).astype(np.float32).take(quad)
        total += np.float32(power) * above / (square * np.sqrt(square)) * share
    return total


def _shading(
    quads: Quads, position: np.ndarray, camera: Camera, hits: Hits, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The shares, 0 to 1, of the light at `position` and of the light from around that reach each place.

    The first is 0 in a shadow; the second falls to half where a box or wall touches another surface.
    """
    height, width = depth.shape
    x, y = rays(width, height)
    x, y, far = x[::SHADOW_STEP], y[::SHADOW_STEP, None], depth[::SHADOW_STEP, ::SHADOW_STEP]
    normal = normals(quads).astype(np.float32)[hits.quad[::SHADOW_STEP, ::SHADOW_STEP]]
    axes, starts, inverses = camera.axes.astype(np.float32), [], []
    gap = np.full(far.shape, 9, np.float32)  # to the nearest wall or box, squared
    for k in range(3):
        point = (x * axes[0, k] + y * axes[1, k] + axes[2, k]) * far + np.float32(camera.position[k])
        for wall in (point, np.float32(quads.room[k]) - point):
            np.minimum(gap, wall * wall, out=gap, where=np.abs(normal[..., k]) < 0.5)
        starts.append(point + np.float32(0.01) * normal[..., k])
        way = np.float32(position[k]) - starts[k]
        inverses.append(1 / np.where(way == 0, np.float32(1e-6), way))
    free = np.ones(far.shape, bool)
    boxes = np.stack([quads.boxes_low, quads.boxes_high], 1).astype(np.float32)
    for low, high in boxes:
        enter, leave, square, above = np.float32(0), np.float32(1), np.float32(0), np.float32(0)
        for k, (start, inverse) in enumerate(zip(starts, inverses, strict=True)):
            before, after = low[k] - start, high[k] - start
            first, last = before * inverse, after * inverse
            enter = np.maximum(enter, np.minimum(first, last))
            leave = np.minimum(leave, np.maximum(first, last))
            outside = np.maximum(np.maximum(before, -after), 0)
            square = square + outside * outside
            above = above + np.maximum(before * normal[..., k], after * normal[..., k])
        free &= enter >= leave
        # A box that does not rise above a surface, such as the surface's own, leaves it open.
        np.minimum(gap, square, out=gap, where=above > 0.02)
    return _spread(free, width, height), _spread(1 - 0.5 * np.exp(-np.sqrt(gap) / 0.15), width, height)


def _spread(coarse: np.ndarray, width: int, height: int) -> np.ndarray:
    """A coarse map at full size, its edges soft."""
    soft = uniform_filter(coarse.astype(np.float32), 3)
    image = Image.fromarray(soft).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)
