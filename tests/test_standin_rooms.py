"""The rendered rooms: rays against a plain computation, light, the histogram of depth, and the files."""

import csv
import json
import re
import signal
from multiprocessing import Pool

import make_standin
import numpy as np
import prepare
import pytest
import tiny_depth
from PIL import Image
from preparing import nyud2
from runs import ended, in_child, killed_at, outcome, same
from standin import frames, raycast, rooms, textures
from standin.materials import look as material

from common import cli
from common.datasets.depth import (
    COUNTS,
    DEPTH_BINS,
    FIRST_BIN,
    MASK,
    SUBSET_CSV,
    TEST_CSV,
    TRAIN_CSV,
    read_pairs,
    scene,
)
from common.datasets.standin import read_standin
from common.report import stop_logging
from common.training import engine

pytestmark = pytest.mark.slow

SCALE = 0.001  # 51 training images; there are never fewer than 32 test images
REAL = nyud2.published_counts().counts


def call(*argv):
    """The exit code of `make_standin.py nyud2 argv`, run in this process."""
    try:
        words = ["nyud2", *map(str, argv)]
        return cli.run_command("scripts/make_standin.py", lambda: make_standin.main(words))
    except SystemExit as end:
        return end.code
    finally:
        stop_logging()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A small stand-in, drawn once, and what was printed is not looked at."""
    folder = tmp_path_factory.mktemp("rooms") / "nyud2"
    assert call("--out", folder, "--scale", SCALE, "--contact_sheet", folder.parent / "sheet.png") == 0
    return folder


def views_of(number, count=1):
    """A room and views of it that were found good."""
    return rooms.room(0, number), frames.candidates((0, number, count))[0]


# Rays


def plain_depth(quads, camera, x, y):
    """Depth and rectangle of one ray, x and y where z is 1: the plane of each rectangle in float64."""
    way = np.array([x, y, 1.0]) @ camera.axes
    normal = np.cross(quads.along, quads.up)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = ((quads.origin - camera.position) * normal).sum(1) / (normal @ way)
    place = camera.position + t[:, None] * way - quads.origin
    u, v = (place * quads.along).sum(1), (place * quads.up).sum(1)
    inside = (u >= 0) & (u <= quads.size[:, 0]) & (v >= 0) & (v <= quads.size[:, 1])
    t = np.where(inside & (t > 0) & (normal @ way < 0), t, np.inf)
    return t.min(), t.argmin()


@pytest.mark.parametrize("number", range(6))
def test_rays_meet_what_a_plain_computation_says(number):
    here, (view, _) = views_of(number, 2)
    camera = view.camera()
    hits = raycast.cast(here.quads, camera, 24, 18)
    depth, (x, y) = raycast.depth_of(hits), raycast.rays(24, 18)
    wanted = np.array([[plain_depth(here.quads, camera, a, b) for a in x] for b in y])
    same = hits.quad == wanted[..., 1]
    assert same.mean() > 0.98  # float32 may decide an edge otherwise
    np.testing.assert_allclose(depth[same], wanted[..., 0][same], rtol=1e-4)


def test_depth_is_along_the_optical_axis_and_every_ray_meets_something():
    """Straight at a wall 3 m away: 3 m in the middle as in the corner; a pixel is 3 / 519 m there."""
    builder = rooms.Builder()
    wall = material("tiles", (0.5, 0.5, 0.5), 0.2, 1.0)
    builder.shell(np.array([8.0, 4.0, 4.0]), wall, wall, wall)
    builder.add([rooms.Box((0.0, 0.0, 0.0), (0.1, 0.1, 0.1), wall)], 0, (7.0, 3.5))
    quads = builder.quads(np.array([8.0, 4.0, 4.0]))
    camera = raycast.look(np.array([5.0, 2.0, 2.0]), 0.0, 0.0, 0.0)
    hits = raycast.cast(quads, camera)
    depth = raycast.depth_of(hits)
    wall_pixels = hits.quad == hits.quad[240, 320]
    np.testing.assert_allclose(depth[wall_pixels], 3.0, rtol=1e-5)
    assert wall_pixels[240].sum() == 640  # 2 m to either side are 346 pixels
    assert wall_pixels[0, 320]
    assert depth.max() <= 3.0001
    assert abs(np.diff((hits.along * depth)[240])).mean() == pytest.approx(3 / 519, rel=1e-3)


def test_no_ray_leaves_a_room():
    for number in range(8):
        here, (view,) = views_of(number)
        hits = raycast.cast(here.quads, view.camera())
        assert (hits.inverse > raycast.NO_HIT).all()
        assert raycast.depth_of(hits).max() < np.linalg.norm(here.size)


def lit_floor(*boxes, power=2.0, height=2.0):
    """The light along the middle of a floor, below a lamp at its middle, seen from above."""
    size, grey = np.array([6.0, 6.0, 4.0]), material("plaster", (0.5, 0.5, 0.5), 0.0, 1.0)
    builder = rooms.Builder()
    builder.shell(size, grey, grey, grey)
    builder.add([rooms.Box((5.8, 5.8, 0), (5.9, 5.9, 0.1), grey), *boxes], 0, (0, 0))
    quads = builder.quads(size)
    lamp = raycast.Light(np.array([[3, 3, height], [3, 3, 3.9]]), np.array([power, 0.0]), np.full(3, 0.1))
    camera = raycast.look(np.array([3.0, 3.0, 3.5]), 0.0, np.pi / 2, 0.0)
    hits = raycast.cast(quads, camera)
    depth = raycast.depth_of(hits)
    return raycast.lit(quads, lamp, camera, hits, depth)[240], hits.quad[240]


def test_light_falls_off_with_distance_and_a_box_casts_a_shadow():
    light, _ = lit_floor()
    middle, side = light[320], light[560]  # 240 pixels are 240 / 519 x 3.5 m on the floor
    away = 240.5 / 519 * 3.5
    direct = 2.0 * 2.0 / np.array([2.0**2 + 0.05, 2.0**2 + away**2 + 0.05]) ** 1.5
    np.testing.assert_allclose([middle, side], direct + 0.1, rtol=0.02)
    grey = material("plaster", (0.5, 0.5, 0.5), 0.0, 1.0)
    shaded, quad = lit_floor(rooms.Box((2.0, 2.2, 1.0), (4.0, 2.6, 1.4), grey))
    assert set(quad[540:]) == {4}  # the floor behind the box, as seen from the lamp
    assert (shaded[540:] < 0.12).all()  # only the light from around, less what the box keeps off
    assert (light[540:] > 0.2).all()
    np.testing.assert_allclose(shaded[:250], light[:250], rtol=0.02)  # the other side of the lamp


def test_textures_repeat_and_shrink_without_changing_their_tone():
    bank, starts = textures.texture_bank()
    assert starts.shape == (len(textures.PATTERNS), textures.LEVELS)
    assert bank.max() < textures.SHADES
    for number, name in enumerate(textures.PATTERNS):
        sides = [textures.SIDE >> level for level in range(textures.LEVELS)]
        parts = [bank[start : start + side**2] for start, side in zip(starts[number], sides, strict=True)]
        assert parts[0].std() > 0.5, name
        means = [part.mean() for part in parts[:6]]
        assert np.ptp(means) < 1.0, name


# Which views are kept


def distance(counts, other=REAL):
    """Total variation between two histograms: the share of the pixels that would have to move."""
    counts = np.asarray(counts, float)
    return 0.5 * np.abs(counts / counts.sum() - other / other.sum()).sum()


def test_wanted_levels_are_the_real_histogram():
    levels = frames.wanted_levels(REAL)
    bins = DEPTH_BINS.index(np.arange(256, dtype=np.float32) / np.float32(255) * np.float32(10))
    np.testing.assert_allclose(np.bincount(bins, levels, minlength=100), REAL / REAL.sum())


def test_choosing_views_brings_the_histogram_nearer():
    wanted, rng = frames.wanted_levels(REAL), np.random.default_rng(0)
    pool = rng.multinomial(1000, rng.dirichlet(wanted * 20 + 1e-3, 400))
    total = np.zeros(256)
    chosen = frames.choose(total, pool, 40, wanted)
    assert len(set(chosen)) == 40
    np.testing.assert_array_equal(total, pool[chosen].sum(0))
    assert 0.5 * abs(total / total.sum() - wanted).sum() < 0.7 * distance(pool[:40].sum(0), wanted)


def test_the_histogram_of_depth_is_near_the_real_one(drawn):
    """3.7 % of the pixels of 51 images would have to move; 1.8 % of those of 500 (measured once)."""
    told = json.loads((drawn / COUNTS).read_text())
    assert (told["images"], told["invalid"]) == (51, 0)
    assert distance(told["counts"]) < 0.05
    assert sum(told["counts"][:FIRST_BIN]) == 0
    assert min(told["counts"][FIRST_BIN:]) > 0


def test_every_bin_has_test_pixels(drawn):
    mask = np.load(drawn / MASK)
    assert mask.shape == (32, 228, 304)
    assert mask.sum() >= 93 * 100
    assert mask.sum() % 93 == 0


# The files


def rows_of(file):
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_layout_is_the_published_one(drawn):
    train, test, subset = (rows_of(drawn / name) for name in (TRAIN_CSV, TEST_CSV, SUBSET_CSV))
    assert (len(train), len(test)) == (51, 32)
    assert subset == train  # fewer than 600
    kinds = "|".join(rooms.KINDS)
    for image, depth in train:
        place = re.fullmatch(rf"data/(nyu2_train/({kinds})_\d{{4}}_out/\d+)\.jpg", image)
        assert depth == f"data/{place[1]}.png"
    names = [(f"data/nyu2_test/{n:05d}_colors.png", f"data/nyu2_test/{n:05d}_depth.png") for n in range(32)]
    assert test == [list(pair) for pair in names]
    files = {
        f"data/{file.relative_to(drawn)}" for file in drawn.rglob("*") if file.suffix in (".jpg", ".png")
    }
    assert files == {name for row in train + test for name in row} | {f"data/{nyud2.HISTOGRAM}"}
    scenes = [scene(pair) for pair in read_pairs(drawn, TRAIN_CSV)]
    assert len(set(scenes)) == 12
    assert max(map(scenes.count, scenes)) <= frames.FRAMES


def test_pictures_and_depth_are_in_the_published_formats(drawn):
    for name, kind, mode, one in ((TRAIN_CSV, "JPEG", "L", 25.5), (TEST_CSV, "PNG", "I;16", 1000)):
        for pair in read_pairs(drawn, name):
            with Image.open(pair.image) as image, Image.open(pair.depth) as depth:
                assert (image.format, image.mode, image.size) == (kind, "RGB", (640, 480))
                assert (depth.format, depth.mode, depth.size) == ("PNG", mode, (640, 480))
                metres = np.asarray(depth) / one
                assert metres.min() + 0.5 / one >= 0.7
                assert metres.max() <= 10
                assert np.ptp(metres) > 0.3
                pixels = np.asarray(image)
                assert 40 < pixels.mean() < 215
                assert pixels.std() > 12


def test_standin_json_has_the_scaled_thresholds(drawn):
    standin = read_standin(drawn)
    assert (standin.many_above, standin.few_below) == (2.6e7 * SCALE, 1e7 * SCALE)
    assert (
        standin.note
        == "nyud2 at scale 0.001, seed 0: rendered rooms with the real histogram of depth; no photographs"
    )
    assert "img_size" not in json.loads((drawn / "standin.json").read_text())


def test_contact_sheet_shows_eight_scenes_and_their_depth(drawn):
    with Image.open(drawn.parent / "sheet.png") as sheet:
        assert sheet.size == (4 * 320, 4 * 240)
        pixels = np.asarray(sheet).reshape(4, 240, 4, 320, 3)
    assert (pixels.std((1, 3, 4)) > 10).all()


def test_prepare_finds_all_there_and_all_well(drawn, capsys):
    assert prepare.main(["nyud2", "--data_dir", str(drawn)]) == 0
    assert "all is there" in capsys.readouterr().out
    assert prepare.main(["nyud2", "--check", "--data_dir", str(drawn)]) == 0
    stop_logging()


def draw(folder, processes, seed):
    folder.mkdir()
    with Pool(processes) as pool:
        frames.write_rooms(pool, folder, seed, (5, 2), REAL)
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_seed_decides_whatever_the_number_of_processes(tmp_path):
    one, three, other = draw(tmp_path / "1", 1, 4), draw(tmp_path / "3", 3, 4), draw(tmp_path / "o", 2, 5)
    assert one == three
    assert len(one) == 2 * 7 + 2
    pictures = [content for files in (one, other) for name, content in files.items() if "csv" not in name]
    assert len(set(pictures)) == len(pictures)


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch, capsys):
    def stop(self, items):
        raise KeyboardInterrupt

    monkeypatch.setattr(frames.Progress, "advance", stop)
    assert call("--out", tmp_path / "sub" / "nyud2", "--scale", 1e-4) == 130
    assert list((tmp_path / "sub").iterdir()) == []
    assert "nothing was left" in capsys.readouterr().err


# Training on them


def test_rooms_train_and_a_killed_run_ends_the_same(drawn, tmp_path, monkeypatch):
    """Two epochs of a small encoder with everything on; once undisturbed, once killed in the second epoch."""
    argv, ends = tiny_depth.command(drawn, "--lds --fds --start_smooth 0 --batch_size 16"), []
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        if name == "killed":
            pid = in_child(lambda: tiny_depth.call(argv), lambda: killed_at(engine.Run, "step", 6))
            assert ended(pid, 120) == -signal.SIGKILL
            assert not (tiny_depth.run_dir(argv) / "metrics.json").exists()
        assert tiny_depth.call(argv) == 0
        ends.append(outcome(tiny_depth.run_dir(argv)))
    assert all(same(mine, theirs) for mine, theirs in zip(*ends, strict=True))
    result = json.loads(ends[0][2][0])
    assert result["standin"].startswith("nyud2 at scale 0.001")
    assert result["shots"]["all"]["n"] == int(np.load(drawn / MASK).sum())
