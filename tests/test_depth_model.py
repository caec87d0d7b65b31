"""The depth model against the published one: keys, outputs, and the ImageNet weights it starts from."""

import json
from urllib.error import URLError

import depth_model
import depth_task
import numpy as np
import pytest
import torch
import torchvision
from depth_model import IMAGENET, DepthEncoder, depth_head, imagenet_file, load_blocks
from golden_weights import filled

from common.errors import UserError
from common.training.checkpoint import renamed
from common.training.regressor import Regressor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def regressor():
    encoder = DepthEncoder("resnet50")
    return Regressor(encoder, depth_head(encoder.feature_dim)).eval()


def published_key(key):
    return next(iter(renamed({key: 0}, depth_task.TASK.key_map))).removeprefix("module.")


def test_keys_shapes_and_types_are_the_published_ones(regressor, golden):
    ours = {published_key(k): [list(v.shape), str(v.dtype)] for k, v in regressor.state_dict().items()}
    assert ours == json.loads((golden / "nyu_state_keys.json").read_text())


@pytest.mark.slow
def test_outputs_are_the_published_models(regressor, golden):
    state = regressor.state_dict()
    keys = {key: published_key(key) for key in state}
    order = {key: number for number, key in enumerate(sorted(keys.values()))}
    regressor.load_state_dict({k: filled(keys[k], v, order[keys[k]]) for k, v in state.items()})
    images = torch.randn(2, 3, 228, 304, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        features = regressor.encoder(images)
        outputs = regressor.predict(images).mean
    assert features.shape == (2, 128, 114, 152)
    np.testing.assert_allclose(outputs.numpy(), np.load(golden / "nyu_model_out.npz")["y"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "dim"), [("resnet50", 128), ("resnet18", 80)])
@pytest.mark.parametrize("height", [24, 36, 84])
def test_features_are_half_the_crop(name, dim, height):
    with torch.device("meta"):
        encoder = DepthEncoder(name)
        maps = encoder(torch.zeros(2, 3, height, height * 4 // 3))
        outputs = depth_head(dim)(maps)
    assert maps.shape == (2, dim, height // 2, height * 2 // 3)
    assert outputs.shape == (2, 1, height // 2, height * 2 // 3)


def test_imagenet_weights_fill_the_encoder(tmp_path):
    resnet = torchvision.models.resnet18()
    torch.save(resnet.state_dict(), tmp_path / IMAGENET["resnet18"])
    encoder = DepthEncoder("resnet18")
    load_blocks(encoder.E, imagenet_file("resnet18", tmp_path))
    for key, value in encoder.E.state_dict().items():
        assert torch.equal(value, resnet.state_dict()[key]), key


def test_an_old_file_without_counters_fits(tmp_path):
    state = torchvision.models.resnet18().state_dict()
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, tmp_path / "a.pth")
    encoder = DepthEncoder("resnet18")
    load_blocks(encoder.E, tmp_path / "a.pth")
    for key, value in encoder.E.state_dict().items():
        assert torch.equal(value, torch.tensor(0) if key.endswith("num_batches_tracked") else state[key]), key


def test_weights_of_another_resnet_are_refused(tmp_path):
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a.pth: is no encoder of this --model \(layer1.2.* and \d+ more\)"):
        load_blocks(DepthEncoder("resnet18").E, tmp_path / "a.pth")


def test_without_a_network_the_error_names_the_file_and_where_to_put_it(tmp_path, monkeypatch):
    def fails(*args, **how):
        raise URLError("no network")

    monkeypatch.setattr(depth_model.torch.hub, "download_url_to_file", fails)
    monkeypatch.setattr(depth_model.torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(UserError) as told:
        imagenet_file("resnet50", tmp_path / "imagenet")
    for part in ("resnet50-0676ba61.pth into", str(tmp_path / "imagenet"), "--pretrained_encoder none"):
        assert part in str(told.value)
