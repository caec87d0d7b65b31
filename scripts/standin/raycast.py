"""Look at a room through a camera: the depth of each pixel, its surface, and its colour.

World coordinates are metres, z up. A camera looks along its own z axis, x to the right and y down.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from standin.rooms import CELL, SHELL, Rng, Room

WIDTH, HEIGHT = 640, 480
FOCAL = 519.0  # pixels at this size, as of the camera of NYU Depth v2; the optical axis meets the centre
NEAR = 0.05  # metres: what is nearer to the camera's plane is not seen
CLOUD, TEXEL = 512, 0.005  # side of the grain in texels, and metres of a texel
FLOOR, UP = 1, 2  # the surface, the axis
BAND = 80  # rows that are rendered at once, so that their arrays stay in the cache
ALL = slice(0, None)


class View(NamedTuple):
    """Where a camera is and how it is turned: metres and radians, `pitch` below the horizon."""

    x: float
    y: float
    z: float
    yaw: float
    pitch: float
    roll: float

    def axes(self) -> np.ndarray:
        """Return the axes of the camera (right, down, forward) as rows."""
        (cy, cp, cr), (sy, sp, sr) = np.cos(self[3:]), np.sin(self[3:])
        forward, right = np.array([cy * cp, sy * cp, -sp]), np.array([sy, -cy, 0])
        down = np.cross(forward, right)
        return np.stack([cr * right + sr * down, cr * down - sr * right, forward]).astype(np.float32)


class Hits(NamedTuple):
    """What the ray of each pixel meets."""

    start: np.ndarray  # (3, 1, 1) of all rays
    ways: np.ndarray  # (3, h, w) from the start to where the depth is 1 m
    depth: np.ndarray  # (h, w) metres along the optical axis, not along the ray
    surface: np.ndarray  # (h, w) a row of the room's surfaces
    axis: np.ndarray  # (h, w) the axis that the surface is perpendicular to


def windows(boxes: np.ndarray, view: View, width: int, height: int) -> np.ndarray:
    """Return the part of the picture that holds each box, int `(B, 4)`: left, top, right, bottom."""
    x, y, z = np.moveaxis(boxes, 2, 0)
    corners = np.stack([np.repeat(x, 4, 1), np.tile(np.repeat(y, 2, 1), 2), np.tile(z, 4)], 2)
    seen = (corners - np.array(view[:3], np.float32)) @ view.axes().T
    focal, limits, depth = FOCAL * width / WIDTH, np.array([width, height]), seen[..., 2:]
    edge, behind = depth * (limits / 2 / focal), depth < NEAR
    beside = ((seen[..., :2] > edge).all(1) | (seen[..., :2] < -edge).all(1)).any(1)
    flat = seen[..., :2] / np.maximum(depth, NEAR) * focal + limits / 2
    low, high = np.floor(flat.min(1)) - 1, np.ceil(flat.max(1)) + 1
    some = behind.any(1)  # such a box may be anywhere
    low, high = np.where(some, 0, low), np.where(some, limits, high)
    high[beside | behind.all((1, 2))] = 0
    return np.clip(np.concatenate([low, high], 1), 0, np.tile(limits, 2)).astype(int)


def cast(room: Room, view: View, width: int = WIDTH, height: int = HEIGHT, rows: slice = ALL) -> Hits:
    """Follow the ray of each pixel of some rows to the nearest box, or else to the walls."""
    start, axes = np.array(view[:3], np.float32).reshape(3, 1, 1), view.axes().reshape(3, 3, 1, 1)
    x, y = ((np.arange(n, dtype=np.float32) + 0.5 - n / 2) * (WIDTH / width / FOCAL) for n in (width, height))
    ways = axes[0] * x + (axes[1] * y[rows, None] + axes[2])
    ways[ways == 0] = 1e-9
    inverse = 1 / ways
    ends = np.maximum(-start * inverse, (room.size.reshape(3, 1, 1) - start) * inverse)
    depth = ends.min(0)
    axis = np.where(ends[0] == depth, 0, np.where(ends[1] == depth, 1, UP))
    surface = np.where(axis == UP, np.where(ways[UP] > 0, FLOOR + 1, FLOOR), 0)
    shown = windows(room.boxes, view, width, height)
    shown[:, 1::2] = np.clip(shown[:, 1::2] - rows.start, 0, len(depth))
    for number in np.flatnonzero((shown[:, :2] < shown[:, 2:]).all(1)):
        left, top, right, bottom = shown[number]
        part = np.s_[top:bottom, left:right]
        low, high = room.boxes[number].reshape(2, 3, 1, 1)
        first, last = ((plane - start) * inverse[:, *part] for plane in (low, high))
        near = np.minimum(first, last)
        enter, leave = near.max(0), np.maximum(first, last, out=last).min(0)
        hit = (enter < np.minimum(leave, depth[part])) & (enter > NEAR)
        if not hit.any():
            continue
        np.copyto(depth[part], enter, where=hit)
        np.copyto(surface[part], SHELL + number, where=hit)
        for k in range(3):
            np.copyto(axis[part], k, where=hit & (near[k] == enter))
    return Hits(start, ways, depth, surface, axis)


@functools.cache
def chance() -> tuple[np.ndarray, np.ndarray]:
    """Return periodic grain `(CLOUD, CLOUD)` and the tints of cells `(256, 3)`."""
    rng = np.random.default_rng(5)
    fx, fy = np.meshgrid(np.fft.rfftfreq(CLOUD), np.fft.fftfreq(CLOUD))
    falling = np.maximum(np.hypot(fx, fy), 1 / CLOUD) ** -0.7
    grain = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((CLOUD, CLOUD))) * falling)
    tints = rng.normal(0, 0.25, (256, 1)) + rng.normal(0, 0.25, (256, 3))
    return (grain / grain.std()).astype(np.float32), tints.astype(np.float32)


def painted(room: Room, hits: Hits, points: np.ndarray) -> np.ndarray:
    """Return the reflectance of each pixel, `(h, w, 3)`: what is finer than a pixel fades."""
    wide, high, width, shift, tint, grain, _ = (column.take(hits.surface) for column in room.materials.T)
    x, y, z = (points[k] - room.origins[:, k].take(hits.surface) for k in range(3))
    u, v = np.where(hits.axis == 0, y, x), np.where(hits.axis == UP, y, z)
    aslant = np.abs(
        np.where(hits.axis == 0, hits.ways[0], np.where(hits.axis == 1, hits.ways[1], hits.ways[2]))
    )
    pixel = hits.depth / (FOCAL * np.maximum(aslant, np.float32(0.05)))  # metres on the surface
    clouds, tints = chance()
    line, column = v / high, u / wide
    row = np.floor(line)
    column += row * shift
    cell = np.floor(column)
    inside = np.minimum((0.5 - np.abs(column - cell - 0.5)) * wide, (0.5 - np.abs(line - row - 0.5)) * high)
    dark = np.clip((width / 2 - inside) / pixel + 0.5, 0, 1) * np.minimum(1, width / pixel) * 0.7
    tint /= 1 + (pixel / np.minimum(wide, high)) ** 2
    texels = [(place / TEXEL).astype(np.int32) & (CLOUD - 1) for place in (v, u)]
    grain *= clouds.take(texels[0] * CLOUD + texels[1]) / (1 + 100 * pixel)
    tones = tints.take((row * 37 + cell * 91).astype(np.int32) & 255, axis=0)
    tones *= tint[..., None]
    tones += (1 + grain)[..., None]
    tones *= room.colours.take(hits.surface, axis=0)
    tones *= (1 - dark)[..., None]
    return np.maximum(tones, np.float32(0.01))


def lit(room: Room, hits: Hits, points: np.ndarray) -> np.ndarray:
    """Return the light of each pixel, `(h, w)`: lamp, surroundings, corners, floor shadows, distance."""
    way = room.lamp.reshape(3, 1, 1) - points
    square = (way * way).sum(0) + np.float32(0.1)
    total = np.array([0.3, 0.24, 0.36], np.float32).take(hits.axis)
    corners = np.ones_like(total)
    for k in range(3):
        across = hits.axis == k
        above = np.maximum(-np.sign(hits.ways[k]) * way[k], 0)  # the lamp above a surface that is seen
        total += np.where(across, 2 * above / (square * np.sqrt(square)), 0)
        gap = np.minimum(points[k], room.size[k] - points[k])
        corners *= np.where(across, 1, 1 - np.float32(0.4) * np.exp(gap * np.float32(-5)))
    total += room.materials[:, 6].take(hits.surface)
    total *= corners
    x, y = (np.clip(points[k] / CELL, 0, n - 1).astype(np.int32) for k, n in enumerate(room.floor.shape))
    shadow = room.floor.take(x * room.floor.shape[1] + y)
    total *= 1 - np.float32(0.85) * np.where(hits.surface == FLOOR, shadow, 0)
    return total / (1 + (hits.depth / np.float32(room.reach)) ** 2)


def developed(light: np.ndarray, gain: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return light `(h, w, 3)` as uint8 after exposure, highlights and the noise of a sensor."""
    light = light * gain
    light /= 1 + np.float32(0.35) * light
    np.sqrt(light, out=light)
    light += noise[..., None]
    return (np.clip(light, 0, 1, out=light) * 255 + 0.5).astype(np.uint8)


def photograph(room: Room, view: View, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture, uint8 `(480, 640, 3)`, and its depth in metres, float32 `(480, 640)`."""
    light, depth = np.empty((HEIGHT, WIDTH, 3), np.float32), np.empty((HEIGHT, WIDTH), np.float32)
    bands = [slice(top, top + BAND) for top in range(0, HEIGHT, BAND)]
    for rows in bands:
        hits = cast(room, view, rows=rows)
        points = hits.start + hits.ways * hits.depth
        np.multiply(painted(room, hits, points), lit(room, hits, points)[..., None], out=light[rows])
        depth[rows] = hits.depth
    gain = rng.uniform(0.22, 0.36) / light[::8, ::8].mean() * (1 + rng.normal(0, 0.05, 3))
    noise = rng.standard_normal(depth.shape, np.float32) * np.float32(rng.uniform(0.005, 0.02))
    return np.concatenate([developed(light[b], gain.astype(np.float32), noise[b]) for b in bands]), depth
