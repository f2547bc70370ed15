import hashlib

import pytest
import torch
from safetensors.torch import save

from efflab.cards.baseline import load_baseline
from efflab.foundation.errors import RequestError

CARD = """
name: far
task: {digits_clutter: {train: 64, validation: 16, test: 16}}
model: {resnet_cifar: {width: 2, blocks: 1, channels: 1}}
weights:
- {url: "%s", sha256: "%s"}
"""


@pytest.fixture
def weights(tmp_path, monkeypatch):
    from efflab.models.resnet_cifar import resnet_cifar

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return {name: tensor + 1 for name, tensor in resnet_cifar(2, 1, 1).state_dict().items()}


def card(folder, url, sha256):
    path = folder / "far.yaml"
    path.write_text(CARD % (url, sha256))
    return load_baseline(path)


def test_weights_from_a_url_are_fetched_once(serve, weights, tmp_path):
    body = save(weights)
    url, asked = serve("w.safetensors", body)
    digest = hashlib.sha256(body).hexdigest()
    for _ in range(2):
        module = card(tmp_path, url, digest).module(0)
    assert torch.equal(module.state_dict()["conv1.weight"], weights["conv1.weight"])
    assert len(asked) == 1


def test_weights_that_changed_in_the_cache_are_fetched_again(serve, weights, tmp_path):
    body = save(weights)
    url, asked = serve("w.safetensors", body)
    digest = hashlib.sha256(body).hexdigest()
    card(tmp_path, url, digest).module(0)
    (cached,) = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    for altered in (body[:-4] + b"\0\0\0\0", body[:100], b""):
        cached.write_bytes(altered)
        module = card(tmp_path, url, digest).module(0)
        assert torch.equal(module.state_dict()["conv1.weight"], weights["conv1.weight"])
    assert len(asked) == 4
    assert cached.read_bytes() == body


def test_another_file_or_no_server_leaves_nothing_behind(serve, weights, tmp_path):
    url, _ = serve("w.safetensors", save(weights))
    with pytest.raises(RequestError, match=r"far.yaml:6: weights.*another sha256"):
        card(tmp_path, url, "0" * 64).module(0)
    with pytest.raises(RequestError, match=r"far.yaml:6: weights.*cannot fetch http://127.0.0.1:1/"):
        card(tmp_path, "http://127.0.0.1:1/w.safetensors", "1" * 64).module(0)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


FROZEN = """
from efflab.models.resnet_cifar import resnet_cifar


def build():
    net = resnet_cifar(2, 1, 1)
    net.conv1.requires_grad_(False)
    return net
"""


def test_a_weight_that_a_module_freezes_must_be_in_the_file_all_the_same(weights, tmp_path):
    (tmp_path / "net.py").write_text(FROZEN)
    frozen = weights.pop("conv1.weight")
    for state, fits in ((weights, False), ({**weights, "conv1.weight": frozen}, True)):
        body = save(state)
        (tmp_path / "w.safetensors").write_bytes(body)
        path = tmp_path / "far.yaml"
        text = CARD % ("", hashlib.sha256(body).hexdigest())
        model = "model: {resnet_cifar: {width: 2, blocks: 1, channels: 1}}"
        text = text.replace(model, "python: {file: net.py, function: build}").replace('url: ""', "file: w.safetensors")
        path.write_text(text)
        if fits:
            assert torch.equal(load_baseline(path).module(0).state_dict()["conv1.weight"], frozen)
        else:
            with pytest.raises(RequestError, match=r"conv1.weight is missing"):
                load_baseline(path).module(0)
