"""The image cache: the published pixels, bad files by name, and nothing half-written or damaged ever used."""

import errno
import logging
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from common.errors import RunFailed, UserError
from common.images import cache as image_cache
from common.images.cache import cached_images
from common.images.decode import BadImage, decode

pytestmark = pytest.mark.slow

SIZE = 32


@pytest.fixture
def logged(caplog):
    """The project's log, which does not reach pytest's handler once a run has started it."""
    log = logging.getLogger("dir")
    log.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "dir")
    yield caplog
    log.removeHandler(caplog.handler)


def random_image(seed, width=50, height=40, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "faces"
    root.mkdir()
    for number in range(40):
        random_image(number).save(root / f"{number:02}.jpg")
    return root


def names(root):
    return sorted(path.name for path in root.glob("*.jpg"))


def build(root, pause=0.0, said=None):
    """Another process that writes the cache, slowly; its log goes to the file `said`."""

    def slow(path, size):
        time.sleep(pause)
        return decode(path, size)

    def run():
        if said:
            logging.getLogger("dir").setLevel(logging.INFO)
            logging.getLogger("dir").addHandler(logging.FileHandler(said))
        image_cache.CHUNK, image_cache.decode = 8, slow
        cached_images(root, names(root), SIZE, "auto", bad_images="skip", workers=2)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def assert_holds(images, root, rows=range(40)):
    """These rows are the decoded files `ROW.jpg`."""
    for row in rows:
        np.testing.assert_array_equal(images[row], decode(root / f"{row:02}.jpg", SIZE), str(row))


# --- one image


@pytest.mark.parametrize("size", [16, 40, 64])
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", "jpg"),
        ("L", "jpg"),
        ("CMYK", "jpg"),
        ("P", "png"),
        ("RGBA", "png"),
        ("LA", "png"),
        ("1", "png"),
    ],
)
def test_decode_is_the_published_resize_in_every_mode(tmp_path, mode, suffix, size):
    path = tmp_path / f"x.{suffix}"
    random_image(0, mode=mode).save(path)
    expected = transforms.Resize((size, size))(Image.open(path).convert("RGB"))
    assert Image.open(path).mode == mode
    np.testing.assert_array_equal(decode(path, size), np.asarray(expected))


@pytest.mark.filterwarnings("error")
def test_palette_with_transparency(tmp_path):
    image, path = random_image(1, mode="P"), tmp_path / "x.png"
    image.save(path, transparency=bytes(range(256)))
    np.testing.assert_array_equal(decode(path, 40), np.asarray(image.convert("RGB").resize((40, 40), 2)))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path, suffix):
    levels = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(levels).save(tmp_path / f"x.{suffix}")
    pixels = decode(tmp_path / f"x.{suffix}", 64)
    np.testing.assert_array_equal(pixels, np.repeat((levels >> 8)[..., None], 3, axis=2))


def test_exif_rotation_is_left_alone(tmp_path):
    image, exif = random_image(2), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "plain.jpg")
    np.testing.assert_array_equal(decode(tmp_path / "turned.jpg", 32), decode(tmp_path / "plain.jpg", 32))


def damaged(path, how):
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-400])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("<html>404</html>")
    elif how == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "empty", "text", "folder", "missing"])
def test_a_bad_file_is_named(folder, how):
    path = folder / "03.jpg"
    damaged(path, how)
    with pytest.raises(BadImage, match=r"03\.jpg: .*--bad_images skip"):
        decode(path, SIZE)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_png_with_bad_bytes_is_bad_or_read(tmp_path, cut):
    path = tmp_path / "x.png"
    random_image(3).save(path)
    content = bytearray(path.read_bytes())
    content[cut] ^= 0xFF
    path.write_bytes(content)
    try:
        assert decode(path, 8).shape == (8, 8, 3)
    except BadImage as error:
        assert "x.png" in str(error)


def test_too_many_open_files_is_not_the_fault_of_the_image(folder, monkeypatch):
    def refuse(path):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("common.images.decode.Image.open", refuse)
    with pytest.raises(RunFailed, match="Too many open files"):
        decode(folder / "00.jpg", SIZE)


# --- the cache


def test_the_cache_holds_every_image(folder):
    images, bad = cached_images(folder, names(folder), SIZE, "auto", workers=2)
    assert images.dtype == np.uint8
    assert images.shape == (40, SIZE, SIZE, 3)
    assert not bad
    assert_holds(images, folder)
    assert not list((folder / ".cache").glob("*.partial"))


def test_a_finished_cache_is_read_without_decoding(folder, tmp_path, monkeypatch):
    first, _ = cached_images(folder, names(folder), SIZE, str(tmp_path / "c"))
    monkeypatch.setattr(image_cache, "decode", lambda path, size: pytest.fail("decoded again"))
    again, _ = cached_images(folder, names(folder), SIZE, str(tmp_path / "c"))
    np.testing.assert_array_equal(first, again)


def test_off_writes_nothing(folder):
    assert cached_images(folder, names(folder), SIZE, "off") == (None, {})
    assert not (folder / ".cache").exists()


def place(root, size=SIZE):
    """The path of the cache's files without their endings."""
    return image_cache._place(root, names(root), (len(names(root)), size, size, 3), "auto", 2)


def key(root, size=SIZE):
    return place(root, size).name


def test_the_key_follows_content_and_size_only(folder):
    before = key(folder)
    assert key(folder) == before
    assert key(folder, SIZE + 1) != before
    os.utime(folder / "05.jpg", (1, 1))
    assert key(folder) == before, "the same bytes with another time"


def test_a_changed_file_gives_another_key_even_with_its_old_time_and_size(folder):
    before, file = key(folder), folder / "05.jpg"
    then = file.stat()
    content = bytearray(file.read_bytes())
    content[-30] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert file.stat().st_size == then.st_size
    assert key(folder) != before
    file.unlink()
    (folder / "05b.jpg").write_bytes(content)
    assert key(folder) != before


# --- bad files


def test_every_bad_file_is_in_one_error(folder):
    for name, how in {"01.jpg": "truncated", "20.jpg": "missing", "39.jpg": "text"}.items():
        damaged(folder / name, how)
    paths = [f"{number:02}.jpg" for number in range(40)]
    for cache in ("auto", "auto"):  # the second time from the record
        with pytest.raises(
            UserError, match=r"3 of 40 .*01\.jpg .*20\.jpg is missing, 39\.jpg.*--bad_images skip"
        ):
            cached_images(folder, paths, SIZE, cache)


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_skip_names_what_it_leaves_out(folder, cache, logged):
    damaged(folder / "01.jpg", "truncated")
    (folder / "02.jpg").unlink()
    paths = [f"{number:02}.jpg" for number in range(40)]
    images, bad = cached_images(folder, paths, SIZE, cache, bad_images="skip")
    assert list(bad) == [1, 2]
    assert "2 of 40" in logged.text
    assert "01.jpg" in logged.text
    if cache == "auto":
        assert not images[1:3].any()
        assert_holds(images, folder, [0, *range(3, 40)])


def test_a_repaired_file_is_read_again(folder):
    content = (folder / "01.jpg").read_bytes()
    damaged(folder / "01.jpg", "truncated")
    cached_images(folder, names(folder), SIZE, "auto", bad_images="skip")
    (folder / "01.jpg").write_bytes(content)
    images, bad = cached_images(folder, names(folder), SIZE, "auto")
    assert not bad
    assert_holds(images, folder)


def test_many_bad_files_are_counted_and_five_named(folder):
    paths = [*names(folder), *(f"gone{number}.jpg" for number in range(9))]
    with pytest.raises(UserError, match="9 of 49 .*gone4.jpg is missing, and 4 more"):
        cached_images(folder, paths, SIZE, "off")


# --- room


def full(descriptor, size):
    os.ftruncate(descriptor, size // 2)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_an_error_with_a_way_out(folder, monkeypatch):
    monkeypatch.setattr(image_cache, "_allocate", full)
    with pytest.raises(UserError, match=r"\.cache: .*No space left.*--cache off.*--cache DIR"):
        cached_images(folder, names(folder), SIZE, "auto")
    left = {path.suffix for path in (folder / ".cache").iterdir()}
    assert left <= {".key", ".lock"}
    monkeypatch.undo()
    assert_holds(cached_images(folder, names(folder), SIZE, "auto")[0], folder)


def test_a_disk_that_fills_up_while_writing(folder, monkeypatch):
    def no_room(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(image_cache.os, "fsync", no_room)
    with pytest.raises(UserError, match="No space left"):
        cached_images(folder, names(folder), SIZE, "auto")
    assert not [*(folder / ".cache").glob("*.npy"), *(folder / ".cache").glob("*.partial")]


def free_space(monkeypatch, free):
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda path: usage)


def test_auto_takes_at_most_half_of_the_free_disk(folder, monkeypatch, logged):
    needed = 40 * SIZE * SIZE * 3
    free_space(monkeypatch, 2 * needed)
    assert cached_images(folder, names(folder), SIZE, "auto")[0] is None
    assert "more than half" in logged.text
    free_space(monkeypatch, 2 * needed + 1024)
    assert cached_images(folder, names(folder), SIZE, "auto")[0] is not None
    free_space(monkeypatch, 0)
    assert cached_images(folder, names(folder), SIZE, "auto")[0] is not None, "it is there already"


def test_auto_without_write_permission_decodes(folder, monkeypatch, logged):
    monkeypatch.setattr(image_cache.os, "access", lambda path, mode: False)
    assert cached_images(folder, names(folder), SIZE, "auto") == (None, {})
    assert "cannot be written to" in logged.text
    monkeypatch.undo()
    cached_images(folder, names(folder), SIZE, "auto")
    monkeypatch.setattr(image_cache.os, "access", lambda path, mode: False)
    monkeypatch.setattr(image_cache, "write_atomically", lambda path, data: pytest.fail("written"))
    assert cached_images(folder, names(folder), SIZE, "auto")[0] is not None, "a finished one can be read"


def test_a_cache_folder_that_is_a_file(folder):
    with pytest.raises(UserError, match="00.jpg: cannot write the image cache.*--cache DIR"):
        cached_images(folder, names(folder), SIZE, str(folder / "00.jpg"))


# --- what users trip over: pipes, damage, leftovers


@pytest.mark.parametrize("cache", ["auto", "off"])
@pytest.mark.parametrize("bad_images", ["error", "skip"])
def test_11_15_a_pipe_or_a_device_among_the_images_is_named_and_never_opened(folder, cache, bad_images):
    for name, target in {"02.jpg": None, "03.jpg": "/dev/zero"}.items():
        (folder / name).unlink()
        (folder / name).symlink_to(target) if target else os.mkfifo(folder / name)
    paths = [f"{number:02}.jpg" for number in range(40)]
    if bad_images == "skip":
        assert list(cached_images(folder, paths, SIZE, cache, bad_images="skip")[1]) == [2, 3]
        return
    with pytest.raises(UserError, match=r"2 of 40 .*02\.jpg is a folder, a pipe or a device.*03\.jpg"):
        cached_images(folder, paths, SIZE, cache)
    with pytest.raises(BadImage, match=r"02\.jpg: is a folder, a pipe or a device"):
        decode(folder / "02.jpg", SIZE)


@pytest.mark.parametrize("place_of", [0, 1000, -1], ids=["first", "middle", "last"])
def test_11_17_a_flipped_bit_among_the_cached_pixels_is_one_line(folder, place_of):
    images, _ = cached_images(folder, names(folder), SIZE, "auto")
    file = place(folder).with_suffix(".npy")
    content = bytearray(file.read_bytes())
    content[len(content) - images.nbytes + place_of if place_of >= 0 else -1] ^= 1
    file.write_bytes(content)
    for _ in range(2):  # an error is not remembered as a success
        with pytest.raises(UserError, match=rf"{file}: is damaged .*delete it") as caught:
            cached_images(folder, names(folder), SIZE, "auto")
        assert "\n" not in str(caught.value)
    file.unlink()  # the way out
    assert_holds(cached_images(folder, names(folder), SIZE, "auto")[0], folder)


def test_11_17_pixels_are_checked_once_in_a_process(folder, monkeypatch):
    cached_images(folder, names(folder), SIZE, "auto")
    monkeypatch.setattr(image_cache.zlib, "crc32", lambda data, crc: pytest.fail("checked again"))
    cached_images(folder, names(folder), SIZE, "auto")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"rows": 40}',
        '{"rows": 40, "bad": {}}',
        '{"rows": 40, "crc32": 1, "bad": {"x": 1}}',
        "\0",
    ],
)
def test_11_17_a_damaged_record_of_a_cache_is_written_again(folder, content):
    cached_images(folder, names(folder), SIZE, "auto")
    state = place(folder).with_suffix(".json")
    state.write_text(content)
    assert_holds(cached_images(folder, names(folder), SIZE, "auto")[0], folder)
    assert '"crc32"' in state.read_text()


@pytest.mark.parametrize("content", [b"", b"../../x", b"\xff\xfe"])
def test_11_17_a_damaged_note_of_a_key_is_written_again(folder, content):
    before = key(folder)
    (note,) = (folder / ".cache").glob("*.key")
    note.write_bytes(content)
    assert key(folder) == before
    assert note.read_text() == before


def test_11_17_temporary_files_of_killed_commands_are_cleaned_by_the_next_one(folder):
    (folder / ".cache").mkdir()
    leftovers = [folder / ".cache" / name for name in ("0123.partial", ".0123.json.77.tmp")]
    for leftover in leftovers:
        leftover.write_bytes(b"x")
    cached_images(folder, names(folder), SIZE, "auto")
    assert not any(leftover.exists() for leftover in leftovers)


# --- killed, and two at once


def wait_for(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_build_resumes_to_the_same_bytes(folder, tmp_path):
    damaged(folder / "01.jpg", "truncated")
    whole, bad = cached_images(folder, names(folder), SIZE, str(tmp_path / "whole"), bad_images="skip")
    run = build(folder, pause=0.1)
    state = folder / ".cache" / f"{key(folder)}.json"
    wait_for(state.exists)
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    assert not list((folder / ".cache").glob("*.npy"))
    decoded = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_cache, "decode", lambda path, size: (decoded.append(path), decode(path, size))[1])
        images, again = cached_images(folder, names(folder), SIZE, "auto", bad_images="skip")
    assert 0 < len(decoded) < 40, "what was done is not done again"
    np.testing.assert_array_equal(images, whole)
    assert again == bad


def test_a_kill_before_the_first_record_starts_over(folder):
    state, array, partial = (place(folder).with_suffix(f".{suffix}") for suffix in ("json", "npy", "partial"))
    state.write_text('{"rows": 40, "crc32": 1, "bad": {}}')  # of a cache whose array is gone
    images, _ = cached_images(folder, names(folder), SIZE, "auto")
    assert_holds(images, folder)
    size = array.stat().st_size
    array.unlink()
    state.unlink()
    partial.write_bytes(bytes(size))  # taken, nothing written
    images, _ = cached_images(folder, names(folder), SIZE, "auto")
    assert_holds(images, folder)


def test_a_cut_off_cache_is_written_again(folder):
    cached_images(folder, names(folder), SIZE, "auto")
    os.truncate(place(folder).with_suffix(".npy"), 5000)
    images, _ = cached_images(folder, names(folder), SIZE, "auto")
    assert_holds(images, folder)


def test_two_runs_at_once_write_one_cache(folder, tmp_path):
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    runs = [build(folder, 0.05, said) for said in logs]
    for run in runs:
        run.join(30)
        assert run.exitcode == 0
    said = [file.read_text() for file in logs]
    assert sorted("writing the image cache" in text for text in said) == [False, True]
    assert sorted("waiting for the run that writes" in text for text in said) == [False, True]
    images, _ = cached_images(folder, names(folder), SIZE, "auto")
    assert_holds(images, folder)
