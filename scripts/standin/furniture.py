"""List the materials, the furniture and the kinds of room of the NYUD2 stand-in."""

from __future__ import annotations

from typing import NamedTuple


class Material(NamedTuple):
    """What covers a surface: cells with lines between them, and grain."""

    wide: float = 9.0  # metres of a cell along the surface
    high: float = 9.0
    line: float = 0.0  # metres of the dark line between cells
    shift: float = 0.0  # of each row of cells against the last, in cells
    tint: float = 0.0  # how much the cells differ in colour
    grain: float = 0.1
    glow: float = 0.0  # light of its own


class Piece(NamedTuple):
    """A piece of furniture. Its boxes are low and high corners as shares of its size, and a material."""

    smallest: tuple[float, float, float]  # metres along the wall, off the wall, upwards
    largest: tuple[float, float, float]
    boxes: tuple[tuple[float, float, float, float, float, float, str], ...]
    above: float = 0.0  # metres between the floor and the piece


class Kind(NamedTuple):
    """A kind of room."""

    share: float  # of the rooms, relative to the other kinds
    smallest: tuple[float, float, float]  # metres: the shorter side, the longer one, the height
    largest: tuple[float, float, float]
    beside: str  # pieces at the walls
    middle: str = ""  # pieces elsewhere


def framed(outer: str, inner: str, rim: float) -> tuple[tuple, ...]:
    """Return the boxes of a flat piece: a board, and a field on its front."""
    return (0, 0, 0, 1, 0.94, 1, outer), (rim, 0.5, rim, 1 - rim, 1, 1 - rim, inner)


def on_legs(thick: float, top: float, board: float) -> tuple[tuple, ...]:
    """Return the boxes of a board that ends at height `top` and is carried by four legs."""
    ends = (0.02, 0.02 + thick), (0.98 - thick, 0.98)
    legs = tuple((x, y, 0, a, b, top - board, "wood") for x, a in ends for y, b in ends)
    return ((0, 0, top - board, 1, 1, top, "wood"), *legs)


# fmt: off
MATERIALS = {
    "plaster": Material(grain=0.1), "carpet": Material(grain=0.35), "stripes": Material(0.14, 9, 0.03),
    "planks": Material(1.1, 0.13, 0.006, 0.37, 0.3, 0.15), "tiles": Material(0.3, 0.3, 0.012, 0, 0.12, 0.05),
    "brick": Material(0.25, 0.08, 0.012, 0.5, 0.3, 0.2), "cloth": Material(0.05, 0.05, 0, 0.5, 0.12, 0.2),
    "wood": Material(0.7, 0.09, 0, 0.3, 0.12, 0.15), "doors": Material(0.45, 0.6, 0.015, 0, 0.05, 0.08),
    "books": Material(0.045, 0.32, 0.02, 0.3, 1.4, 0.1), "picture": Material(0.17, 0.13, 0, 0.4, 0.9, 0.5),
    "window": Material(0.5, 0.6, 0.05, 0, 0.1, 0.1, 1.0), "screen": Material(grain=0.02),
}
WALLS, FLOORS = ("plaster", "plaster", "stripes", "brick"), ("planks", "tiles", "carpet")
PIECES = {
    "sofa": Piece((1.4, 0.8, 0.7), (2.3, 0.95, 0.9), (
        (0, 0, 0, 1, 1, 0.5, "cloth"), (0, 0, 0.5, 1, 0.25, 1, "cloth"),
        (0, 0.25, 0.5, 0.1, 1, 0.75, "cloth"), (0.9, 0.25, 0.5, 1, 1, 0.75, "cloth"))),
    "bed": Piece((1.2, 1.9, 0.8), (1.9, 2.1, 1.1), (
        (0, 0, 0, 1, 0.04, 1, "wood"), (0, 0.04, 0, 1, 1, 0.3, "wood"),
        (0.02, 0.05, 0.3, 0.98, 0.98, 0.5, "cloth"), (0.08, 0.06, 0.5, 0.92, 0.24, 0.62, "plaster"))),
    "table": Piece((0.8, 0.6, 0.7), (1.8, 0.9, 0.78), on_legs(0.06, 1, 0.06)),
    "chair": Piece((0.4, 0.42, 0.85), (0.5, 0.5, 1), (
        *on_legs(0.1, 0.52, 0.07), (0, 0, 0.52, 1, 0.1, 1, "wood"))),
    "desk": Piece((1, 0.6, 1.15), (1.6, 0.8, 1.25), (
        *on_legs(0.06, 0.6, 0.04), (0.45, 0.2, 0.66, 0.85, 0.25, 1, "screen"),
        (0.62, 0.15, 0.6, 0.68, 0.3, 0.66, "screen"))),
    "bookcase": Piece((0.7, 0.28, 1.4), (1.6, 0.36, 2.2), framed("wood", "books", 0.04)),
    "cupboard": Piece((0.8, 0.4, 0.7), (1.8, 0.6, 2.1), framed("wood", "doors", 0.02)),
    "counter": Piece((0.8, 0.5, 0.8), (2.6, 0.65, 0.95), (
        (0, 0, 0, 1, 0.94, 0.95, "doors"), (0, 0, 0.95, 1, 1, 1, "screen"))),
    "lamp": Piece((0.3, 0.3, 1.4), (0.4, 0.4, 1.7), (
        (0.45, 0.45, 0, 0.55, 0.55, 0.8, "screen"), (0, 0, 0.8, 1, 1, 1, "window"))),
    "window": Piece((0.9, 0.05, 0.9), (1.8, 0.06, 1.3), framed("plaster", "window", 0.05), 0.95),
    "door": Piece((0.8, 0.05, 2), (0.95, 0.06, 2.1), framed("plaster", "doors", 0.04)),
    "picture": Piece((0.4, 0.03, 0.35), (1, 0.04, 0.7), framed("wood", "picture", 0.06), 1.35),
    "board": Piece((2, 0.04, 1), (3.5, 0.05, 1.2), framed("wood", "screen", 0.03), 0.9),
}
KINDS = {
    "living_room": Kind(5, (3.2, 4, 2.4), (5, 7.5, 2.8),
                        "window door sofa cupboard bookcase lamp sofa picture picture", "table chair"),
    "bedroom": Kind(6, (2.7, 3.2, 2.4), (4, 5, 2.7),
                    "window door bed cupboard lamp desk cupboard picture picture", "chair"),
    "kitchen": Kind(5, (2.4, 3, 2.4), (4, 5.6, 2.7),
                    "window door counter counter cupboard counter picture", "table chair chair"),
    "bathroom": Kind(3, (1.9, 2.2, 2.3), (2.6, 3.4, 2.6), "door window counter counter cupboard picture"),
    "office": Kind(4, (2.8, 3.2, 2.5), (4.5, 6, 3),
                   "window door desk desk bookcase bookcase cupboard picture board", "table chair chair"),
    "bookstore": Kind(2.5, (5, 8, 2.8), (8.5, 13.5, 3.6), "door window picture" + 12 * " bookcase",
                      "table table" + 5 * " bookcase"),
    "classroom": Kind(3, (5, 7, 2.7), (8, 12.5, 3.4), "board window window door bookcase desk cupboard",
                      6 * "table chair "),
}
# fmt: on
