"""Speed by flag at equal results: precision, layout, compilation, images in memory; kills, and what cannot be had."""

import contextlib
import copy
import json
import os
import signal
from unittest import mock

import numpy as np
import pytest
import tiny_depth
import tiny_faces
import torch
import toy
from runs import ended, history, in_child, killed_at, outcome, read, same
from torch import nn
from torchvision.models._api import BUILTIN_MODELS

from common.errors import UserError
from common.images import cache as image_cache
from common.images import resident
from common.images.cache import cached_images
from common.images.encoder import ResNetEncoder
from common.images.resident import resident_images
from common.settings import Training
from common.training import command, compute, engine
from common.training.compute import bf16_obstacle, check_device, precision, set_up_compute
from common.training.optimizer import load_state
from common.training.regressor import Regressor

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return tiny_faces.write_faces(tmp_path_factory.mktemp("faces") / "data")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    return tiny_depth.tiny_nyud2(tmp_path_factory.mktemp("rooms"), train=8, test=3)


@pytest.fixture
def has_bf16(monkeypatch):
    """This processor passes for one that is fast in bf16."""
    monkeypatch.setattr(compute, "bf16_obstacle", lambda device: None)


@pytest.fixture
def in_float64(monkeypatch):
    """Every model is float64, and so are the images that it gets."""
    own = command.build_regressor

    def build(*args):
        regressor = own(*args).double()
        regressor.encoder.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
        return regressor

    monkeypatch.setattr(command, "build_regressor", build)


def train(root, data, *flags, kind=tiny_faces):
    """Run to the end in `root`, depth with a tiny ResNet; return the run directory."""
    size = ["--img_size 24"] if kind is tiny_depth else []
    argv = kind.command(data, "--store_root", root, *size, *flags)
    with mock.patch.dict(BUILTIN_MODELS, resnet18=tiny_faces.resnet_tiny):
        assert kind.call(argv) == 0
    return kind.run_dir(argv)


def numbers(path):
    """The losses of each check and every metric of a run."""
    checks = [
        value for line in history(path) for value in (*line["losses"].values(), line["val"]["all"]["mae"])
    ]
    shots = read(path / "metrics.json")["shots"].values()
    return np.array(checks + [v for row in shots for v in row.values() if v is not None], np.float64)


# --- Equal results


@pytest.mark.slow
@pytest.mark.parametrize("kind", [tiny_faces, tiny_depth], ids=["faces", "depth"])
def test_float64_results_are_the_same_by_every_path(tmp_path, request, in_float64, kind):
    data = request.getfixturevalue("faces" if kind is tiny_faces else "rooms")
    plain, other = (
        train(tmp_path / folder, data, "--lds --fds --start_smooth 0", more, kind=kind)
        for folder, more in (("plain", "--resident off"), ("other", "--fast --resident on"))
    )
    assert numbers(other) == pytest.approx(numbers(plain), rel=1e-6, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [tiny_faces, tiny_depth], ids=["faces", "depth"])
def test_resident_images_change_no_bit(tmp_path, request, kind):
    data = request.getfixturevalue("faces" if kind is tiny_faces else "rooms")
    on, off = (
        outcome(train(tmp_path / how, data, "--lds --fds", f"--resident {how}", kind=kind))
        for how in ("on", "off")
    )
    assert same(on[0], off[0])
    assert same(on[1], off[1])


def test_resident_depth_is_decoded_once(rooms, monkeypatch, tmp_path):
    from depth_data import DepthSplit

    decoded, own = [], DepthSplit._decode
    monkeypatch.setattr(DepthSplit, "_decode", lambda self, pair: decoded.append(pair) or own(self, pair))
    train(tmp_path, rooms, "--resident auto", kind=tiny_depth)
    assert len(decoded) == len(set(decoded)) == 8 + 3


def test_channels_last_reaches_every_convolution():
    regressor = Regressor(ResNetEncoder("resnet_tiny"), nn.Linear(64, 1))
    set_up_compute(regressor, Training(fast=True))
    weights = [m.weight for m in regressor.modules() if isinstance(m, nn.Conv2d) and m.weight.shape[1] > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    seen = []
    regressor.encoder.layer4.register_forward_hook(lambda module, inputs, maps: seen.append(maps))
    regressor.encode(torch.randn(2, 3, 64, 64))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_tf32_follows_its_flag():
    regressor = Regressor(nn.Identity(), nn.Linear(4, 1))
    for wanted in (True, False):
        set_up_compute(regressor, Training(tf32=wanted))
        assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is wanted


# --- bf16


def test_bf16_is_the_encoder_and_nothing_else(tmp_path, has_bf16, monkeypatch):
    made, own = [], engine.Run.__init__
    monkeypatch.setattr(engine.Run, "__init__", lambda self, *args: (own(self, *args), made.append(self))[0])
    inside, encode = [], toy.Encoder.forward
    monkeypatch.setattr(
        toy.Encoder, "forward", lambda self, x: (encode(self, x), inside.append(encode(self, x).dtype))[0]
    )
    toy.run(tmp_path, "--amp bf16 --fds --lds")
    (run,) = made
    assert set(inside) == {torch.bfloat16}, "training, the pass of FDS, validation and test"
    assert {v.dtype for v in run.regressor.state_dict().values() if v.is_floating_point()} == {torch.float32}
    batch = next(run.batches())
    assert run.regressor.see(batch, 0).raw.dtype == torch.float32
    assert {loss.dtype for loss in run.regressor(batch, 0).values()} == {torch.float32}
    assert run.regressor.predict(batch.inputs).mean.dtype == torch.float32


def test_auto_is_part_of_the_run_as_what_it_means(tmp_path, monkeypatch):
    for obstacle, meant in ((None, "bf16"), ("none", "off")):
        monkeypatch.setattr(compute, "bf16_obstacle", lambda device, found=obstacle: found)
        assert precision("auto", CPU) == meant
        assert toy.settings_of(tmp_path, "--amp auto").identity()["amp"] == meant
    assert toy.settings_of(tmp_path, "--amp auto").identity() == toy.settings_of(tmp_path).identity()


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_is_fast_in_bf16_from_8_0_on(monkeypatch, capability, fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert (bf16_obstacle(torch.device("cuda")) is None) is fast


# --- Kill and resume


@pytest.mark.parametrize(
    ("convolution", "maps"),
    [
        (nn.Conv2d(32, 64, 3, stride=2, padding=1), (8, 32, 1, 1)),
        (nn.Conv2d(32, 64, 3, stride=2, padding=1), (8, 32, 4, 1)),
        (nn.Conv2d(32, 64, 3, stride=2, padding=1), (8, 32, 4, 4)),
        (nn.Conv3d(16, 16, 3, padding=1), (8, 16, 2, 2, 2)),
        (nn.Conv3d(16, 16, 3, padding=1), (8, 16, 4, 4, 4)),
    ],
    ids=["2d 1x1", "2d 4x1", "2d 4x4", "3d 2x2x2", "3d 4x4x4"],
)
def test_in_bf16_gradients_are_those_of_float32_on_maps_of_every_size(convolution, maps, has_bf16):
    """Without care, torch 2.12 leaves parts of some unset on a processor with AVX-512 bf16."""
    inputs = torch.randn(*maps, generator=torch.Generator().manual_seed(0))
    (exact,) = torch.autograd.grad(convolution(inputs).square().sum(), [convolution.weight])
    regressor = Regressor(nn.Sequential(copy.deepcopy(convolution)), None)
    set_up_compute(regressor, Training(amp="bf16"))
    for _ in range(5):
        scrap = [torch.full((number,), torch.nan) for number in (10**3, 10**4, 10**5)]  # what memory may hold
        del scrap
        with torch.autocast("cpu", torch.bfloat16):
            outputs = regressor.encoder(inputs)
        (found,) = torch.autograd.grad(outputs.float().square().sum(), [regressor.encoder[0].weight])
        torch.testing.assert_close(found, exact, rtol=0, atol=0.02 * float(exact.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["--amp bf16", "--fast --resident on", "--tf32", "--fast --optimizer sgd"])
def test_a_killed_run_ends_the_same_with_every_flag(tmp_path, faces, has_bf16, flags):
    ends = []
    for folder, step in (("whole", None), ("killed", 8)):
        argv = tiny_faces.command(faces, "--store_root", tmp_path / folder, "--fds", flags)
        if step:
            pid = in_child(lambda argv=argv: tiny_faces.call(argv), lambda: killed_at(engine.Run, "step", 8))
            assert ended(pid) == -signal.SIGKILL
        assert tiny_faces.call(argv) == 0
        ends.append(outcome(tiny_faces.run_dir(argv)))
    assert same(ends[0][0], ends[1][0])
    assert same(ends[0][1], ends[1][1])


def stopped_at_step_nine(self, batch, epoch, own=engine.Run.step):
    """Take a step of training; in the ninth one a signal comes."""
    if self.state.step == 8:
        os.kill(os.getpid(), signal.SIGTERM)
    return own(self, batch, epoch)


@pytest.mark.slow
def test_a_compiled_run_learns_the_same_and_goes_on_exactly(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    paths = {}
    for name, flags in (("plain", "--fast"), ("whole", "--compile"), ("stopped", "--compile")):
        if name == "stopped":
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(engine.Run, "step", stopped_at_step_nine)
                toy.run(tmp_path / name, flags)
        paths[name] = toy.run(tmp_path / name, flags)
    plain, whole, stopped = (outcome(path) for path in paths.values())
    assert same(whole[0], stopped[0])
    # A compiled dropout draws other numbers.
    assert plain[1][0]["losses"] == pytest.approx(whole[1][0]["losses"], rel=0.2)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_an_optimiser_goes_on_in_another_kernel_and_layout(optimizer):
    def made(fused, layout):
        torch.manual_seed(0)
        model = nn.Conv2d(3, 4, 3).to(memory_format=layout)
        how = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
        return model, optimizer(model.parameters(), lr=0.1, fused=fused, **how)

    def step(model, chosen):
        chosen.zero_grad()
        model(torch.ones(1, 3, 5, 5)).square().mean().backward()
        chosen.step()

    first, saved = made(None, torch.contiguous_format)
    step(first, saved)
    second, fused = made(True, torch.channels_last)
    second.load_state_dict(first.state_dict())
    load_state(fused, copy.deepcopy(saved.state_dict()))
    for model, chosen in ((first, saved), (second, fused)):
        step(model, chosen)
    assert fused.param_groups[0]["fused"] is True
    torch.testing.assert_close(second.weight, first.weight, check_stride=False)


# --- What cannot be had: one line each


def refused(capsys, kind, argv):
    """Check that a command ends with code 2; return its last line."""
    assert kind.call(argv) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    return lines[0]


def test_bf16_without_support_is_refused(tmp_path, faces, capsys, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    line = refused(capsys, tiny_faces, tiny_faces.command(faces, "--store_root", tmp_path, "--amp bf16"))
    assert line.endswith(
        "--amp bf16: this processor has none (AVX-512 bf16 or AMX); use --amp off, or another --device"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [tiny_faces, tiny_depth], ids=["faces", "depth"])
def test_resident_images_that_do_not_fit_are_refused(tmp_path, request, capsys, monkeypatch, kind):
    data = request.getfixturevalue("faces" if kind is tiny_faces else "rooms")
    monkeypatch.setattr(resident, "free_memory", lambda device: 20_000)
    argv = kind.command(data, "--store_root", tmp_path, "--resident on")
    assert "--resident on: the images take 0.0 GB, more than half" in refused(capsys, kind, argv)


def test_resident_images_need_a_cache(tmp_path, faces, capsys):
    argv = tiny_faces.command(faces, "--store_root", tmp_path, "--resident on --cache off")
    assert "--resident on: needs the image cache; drop --cache off" in refused(capsys, tiny_faces, argv)


def test_compiling_without_a_compiler_is_refused(monkeypatch):
    def without(*args, **how):
        raise RuntimeError("Failed to find C++ compiler\nPlease specify via CXX")

    monkeypatch.setattr(torch, "compile", lambda function, **how: without)
    with pytest.raises(
        UserError, match=r"^--compile: nothing can be compiled here \(Failed to find C\+\+ compiler\); "
    ):
        check_device(Training(compile=True), CPU)


# --- Memory


def test_auto_keeps_images_on_a_gpu_where_they_fit_and_never_on_the_cpu(monkeypatch):
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    assert resident_images(images, "auto", CPU) is None
    assert torch.equal(resident_images(images, "on", CPU), torch.from_numpy(images))
    assert resident_images(images, "off", CPU) is None
    monkeypatch.setattr(resident, "free_memory", lambda device: 2 * images.nbytes - 2)
    assert resident_images(images, "auto", torch.device("cuda")) is None
    monkeypatch.setattr(resident, "free_memory", lambda device: 2 * images.nbytes)
    assert resident.fits(images.nbytes, torch.device("cuda"), "auto")


def test_what_is_free_is_within_the_computer():
    assert 0 < resident.free_memory(CPU) <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_process_reads_the_pixels_of_a_checked_cache_no_more(faces, tmp_path, monkeypatch):
    names = [f"faces/{row}.png" for row in range(8)]
    cached_images(faces, names, 16, str(tmp_path))
    image_cache._verify.cache_clear()  # as in a new process
    with monkeypatch.context() as patch:
        patch.setattr(image_cache.zlib, "crc32", lambda data, crc: pytest.fail("checked again"))
        cached_images(faces, names, 16, str(tmp_path))
    (npy,) = tmp_path.glob("*.npy")
    with contextlib.closing(npy.open("r+b")) as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    with pytest.raises(UserError, match="is damaged"):
        cached_images(faces, names, 16, str(tmp_path))


def test_old_runs_are_the_same_run(tmp_path):
    """An args.json from before these flags goes on, and gains none of the ones that do not matter."""
    path = toy.run(tmp_path)
    saved = json.loads((path / "args.json").read_text())
    assert {"amp", "tf32"} <= saved.keys()
    assert not {"fast", "compile", "resident"} & saved.keys()
    (path / "args.json").write_text(json.dumps({k: v for k, v in saved.items() if k not in ("amp", "tf32")}))
    before = (path / "metrics.json").read_bytes()
    assert toy.run(tmp_path) == path
    assert (path / "metrics.json").read_bytes() == before
