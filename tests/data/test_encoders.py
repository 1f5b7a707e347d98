"""Frame encoders: what they give, what their fingerprints cover, what they refuse. Models are tiny and made here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import EncoderConfig, PixelsConfig, TimmConfig, TimmModelConfig
from t2t.data.embeddings.encoders import build_encoder
from t2t.data.embeddings.folding import folded
from t2t.data.embeddings.timm_model import TimmModel
from t2t.data.embeddings.weights import read_weights

MODEL = "resnet10t"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A classifier's weights, as people have them."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(timm.create_model(MODEL, num_classes=7).state_dict(), path)
    return path


def config(weights, **changes) -> TimmConfig:
    return TimmConfig(**{"model": MODEL, "weights": str(weights), "size": 32, **changes})


def frames(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_kinds_are_told_apart_by_kind():
    adapter = TypeAdapter(EncoderConfig)
    assert isinstance(adapter.validate_python({"kind": "pixels"}), PixelsConfig)
    assert isinstance(adapter.validate_python({"kind": "timm", "model": MODEL}), TimmConfig)


def test_pixels():
    encoder = build_encoder(PixelsConfig())
    out = encoder.encode(frames(5, 64))
    assert out.dtype == np.float16
    assert out.shape == (5, encoder.dim)
    assert encoder.encode(frames(0, 64)).shape == (0, encoder.dim)
    with pytest.raises(ValueError, match="expected uint8"):
        encoder.encode(frames(1, 32))
    with pytest.raises(T2TError, match="not a multiple of grid"):
        build_encoder(PixelsConfig(size=60))


def test_pixels_fingerprint_covers_every_key():
    base = build_encoder(PixelsConfig()).fingerprint
    assert base == build_encoder(PixelsConfig()).fingerprint
    changes = {"frames": 4, "size": 32, "crop": "centre", "interpolation": "bilinear", "grid": 4}
    changes |= {"orientations": 6, "hues": 6}
    assert set(changes) == set(PixelsConfig.model_fields) - {"kind"}
    prints = {build_encoder(PixelsConfig(**{key: value})).fingerprint for key, value in changes.items()}
    assert len(prints | {base}) == len(changes) + 1


def test_timm_gives_what_the_model_gives(weights):
    encoder = build_encoder(config(weights, mean=0.5, std=(0.5, 0.25, 0.5)))
    x = frames(5)
    torch.manual_seed(3)
    model = timm.create_model(MODEL, num_classes=7).eval()
    scaled = (torch.from_numpy(x).permute(0, 3, 1, 2) / 255 - 0.5) / torch.tensor([0.5, 0.25, 0.5]).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(scaled), pre_logits=True).numpy()
    out = encoder.encode(x)
    assert out.dtype == np.float16
    assert out.shape == expected.shape == (5, encoder.dim)
    np.testing.assert_allclose(out.astype(np.float32), expected, rtol=2e-3, atol=2e-3)


def test_a_frame_does_not_depend_on_its_batch(weights):
    x = frames(11)
    encoder = build_encoder(config(weights, batch_size=4))
    whole = encoder.encode(x)
    assert encoder.encode(x[3:6]).tobytes() == whole[3:6].tobytes()
    assert encoder.encode(x[::-1].copy()).tobytes() == whole[::-1].tobytes()


def test_numbers_do_not_depend_on_the_number_of_threads(weights):
    """Wide layers are summed in another order by more threads; here every block is one thread's work."""
    x = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            encoder = build_encoder(config(weights, size=64, batch_size=2))
            found.append(encoder.model(x))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0].tobytes() == found[1].tobytes()


class Tangled(torch.nn.Module):
    """A normalisation that follows another convolution than the one before it in the module."""

    def __init__(self):
        super().__init__()
        self.second, self.norm = torch.nn.Conv2d(4, 4, 1), torch.nn.BatchNorm2d(4)
        self.first = torch.nn.Conv2d(3, 4, 3)
        self.norm.running_mean.fill_(0.5)
        self.norm.weight.data.fill_(2.0)

    def forward(self, x):
        return self.second(self.norm(self.first(x))).mean((2, 3))


def test_folding_keeps_the_outputs_or_the_model(weights):
    model = timm.create_model("mobilenetv2_035", num_classes=0).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 64, 64)
    lean = folded(model, x)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in lean.modules())
    with torch.no_grad():
        torch.testing.assert_close(lean(x), model(x), rtol=1e-4, atol=1e-5)
    tangled = Tangled().eval()
    assert folded(tangled, x) is tangled


def test_timm_defaults_are_the_models_own():
    encoder = build_encoder(TimmConfig(model=MODEL, pretrained=False))
    own = timm.data.resolve_model_data_config(timm.create_model(MODEL))
    assert encoder.size == own["input_size"][-1]
    assert encoder.model.mean == own["mean"]
    assert encoder.model.std == own["std"]


def test_timm_fingerprint(weights, tmp_path):
    base = build_encoder(config(weights)).fingerprint
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    # Neither where the weights lie nor how many frames go at once.
    assert build_encoder(config(copy, batch_size=3)).fingerprint == base
    other = tmp_path / "other.safetensors"
    torch.manual_seed(4)
    save_file(timm.create_model(MODEL, num_classes=7).state_dict(), other)
    changed = [
        config(other),
        config(weights, mean=0.5),
        config(weights, std=0.5),
        config(weights, size=64),
        config(weights, crop="centre"),
        config(weights, interpolation="bilinear"),
        config(weights, frames=4),
        config(weights, model_kwargs={"drop_rate": 0.1}),
    ]
    assert len({base, *(build_encoder(c).fingerprint for c in changed)}) == len(changed) + 1


def test_random_weights_are_the_same_each_time_and_leave_the_stream_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = build_encoder(TimmConfig(model=MODEL, pretrained=False, size=32))
    assert torch.equal(torch.rand(1), expected)
    second = build_encoder(TimmConfig(model=MODEL, pretrained=False, size=32))
    assert first.fingerprint == second.fingerprint


def test_the_classifier_is_kept_where_it_is_wanted(weights):
    model = TimmModel(TimmModelConfig(model=MODEL, weights=str(weights), size=32), num_classes=7)
    assert model(frames(3)).shape == (3, 7)


def test_weights_that_do_not_fit_are_one_error(weights, tmp_path):
    with pytest.raises(T2TError, match=r"does not fit resnet14t: .* are missing \(.*Check model and model_kwargs"):
        build_encoder(config(weights, model="resnet14t"))
    with pytest.raises(T2TError, match=r"2 have another shape \(fc.bias, fc.weight\)"):
        TimmModel(TimmModelConfig(model=MODEL, weights=str(weights), size=32), num_classes=5)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(T2TError, match="not readable as safetensors"):
        build_encoder(config(broken))
    with pytest.raises(T2TError, match="no such file"):
        build_encoder(config(tmp_path / "nowhere.safetensors"))


def test_weights_under_a_wrappers_names_are_those_of_the_model(weights, tmp_path):
    plain = build_encoder(config(weights))
    for wrapper in ("module.", "_orig_mod.module.", "model."):
        wrapped = tmp_path / "wrapped.safetensors"
        save_file({wrapper + key: value for key, value in load_file(weights).items()}, wrapped)
        assert build_encoder(config(wrapped)).fingerprint == plain.fingerprint


def test_weights_of_another_kind_say_what_would_mend_them(weights, tmp_path):
    state = load_file(weights)

    def refused(name: str, content: bytes, says: str, **changes: Any) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(T2TError, match=says) as caught:
            build_encoder(config(tmp_path / name, **changes))
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(caught.value)

    torch.save(state, tmp_path / "x.pth")
    convert = r"pickled by PyTorch, .*Save it as safetensors: python -c .*torch.load\('x.pth', weights_only=True\)"
    refused("x.pth", (tmp_path / "x.pth").read_bytes(), convert)
    refused("x.safetensors", b"\x80\x04" + bytes(100), "pickled by PyTorch")
    refused("model-00001-of-00002.safetensors", weights.read_bytes(), "Join them: load each part by")
    refused("model.safetensors.index.json", b"{}", "Join them")
    state["fc.bias"][1] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(T2TError, match=r"tensor 'fc.bias' holds NaN: the weights are damaged"):
        TimmModel(TimmModelConfig(model=MODEL, weights=str(tmp_path / "nan.safetensors"), size=32), num_classes=7)
    with pytest.raises(T2TError, match=r"It has 7 classes: set num_classes to that, and name as many classes"):
        TimmModel(TimmModelConfig(model=MODEL, weights=str(weights), size=32), num_classes=5)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4000000000]}}',
        b'{"a": {"dtype": "F32", "shape": [1000000000, 1000000000, 1000000000], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"a": 7}',
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("length", [None, 0, 7, 2**63, 2**64 - 1])
def test_hostile_headers_are_refused_in_one_line(tmp_path, header, length):
    path = tmp_path / "hostile.safetensors"
    size = len(header) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(T2TError) as caught:
        read_weights(path)
    assert str(caught.value).startswith(f"{path}: not readable as safetensors: ")
    assert "\n" not in str(caught.value)


def test_a_header_that_fills_the_memory_is_not_read(tmp_path):
    path = tmp_path / "hostile.safetensors"
    with open(path, "wb") as file:
        file.write((90 << 20).to_bytes(8, "little"))
        file.seek(91 << 20)
        file.write(b"x")
    with pytest.raises(T2TError, match=r"a header of 94,371,840 bytes; 16,777,216 are the most"):
        read_weights(path)


def test_unknown_names_are_errors():
    with pytest.raises(T2TError, match=r"timm has no such model\. Did you mean 'resnet10t'"):
        build_encoder(TimmConfig(model="resnet10tt", pretrained=False))
    with pytest.raises(T2TError, match="cannot be made with model_kwargs"):
        build_encoder(TimmConfig(model=MODEL, pretrained=False, model_kwargs={"no_such": 1}))
