"""Every network with every rule, view, loss and penalty; its second derivatives; its files."""

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import d3gan
from d3gan import TrainConfig, train
from d3gan.distributed.group import Group
from d3gan.export.command import export
from d3gan.export.options import Export
from d3gan.models import r3gan, resnet, sndcgan
from d3gan.models.networks import NETWORKS, make_generator
from d3gan.randomness import stream
from d3gan.runs.checkpoint import load_checkpoint
from d3gan.runs.directory import checkpoint_path
from d3gan.sampling.generate import raw_sample
from d3gan.training.acceleration import accelerate
from d3gan.training.accumulation import step_in_parts
from d3gan.training.inputs import StepInputs
from d3gan.training.penalties import GRADIENT_PENALTIES
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN, StepContext
from tests.training.test_acceleration import recorded

Tiny = Callable[..., TrainConfig]
# Of the smallest images that each makes.
SIZES = {"sndcgan": 16, "resnet": 32, "r3gan": 16}
each_network = pytest.mark.parametrize("kind", sorted(SIZES))


def test_every_network_of_images_is_tested_here() -> None:
    assert sorted(NETWORKS) == sorted({*SIZES, "dcgan", "mlp"})


def settings(kind: str, **changes: Any) -> TrainConfig:
    sizes = dict(image_size=SIZES[kind], nz=5, ngf=3, ndf=4, nc=1, lr=3e-3, batch_size=6)
    return TrainConfig(**{"network": kind, **sizes, **changes})


def gan_of(config: TrainConfig) -> GAN:
    return build_gan(config, torch.device("cpu"), "float64")


def inputs(config: TrainConfig, step: int = 0) -> tuple[Tensor, Tensor, StepContext]:
    """Real images, latents, and the draws of a step."""
    count = config.images_per_step
    pixels = np.zeros((count, config.nc, config.image_size, config.image_size), np.uint8)
    context = StepInputs(config, pixels, Group(), torch.device("cpu"), torch.float64).at(step)[2]
    random = torch.Generator().manual_seed(step)
    shape = count, config.nc, config.image_size, config.image_size
    real_images = torch.rand(shape, generator=random, dtype=torch.float64) * 2 - 1
    return real_images, torch.randn(count, config.nz, generator=random, dtype=torch.float64), context


@each_network
@pytest.mark.parametrize(
    "changes",
    [
        {"model": "d3gan", "grad_accum_steps": 2},
        {"model": "d3gan", "discriminator_norm": "none", "loss": "wasserstein", "penalty": "gp,r1,r2,lecam"},
        {"model": "gman", "views": "slice,width,dropout,projection", "discriminators": 2, "ndf": 8},
        {"model": "hgan", "discriminators": 3},
        {"weighting": "mgd", "views": "width"},
        {"weighting": "bandit", "loss": "hinge", "d_steps": 2},
        {"model": "microbatchgan", "discriminators": 3},
        {"model": "duelgan", "views": "dropout"},
        {"model": "d2gan"},
        {"model": "md-gan"},
        {"loss": "relativistic", "pairing": "own", "penalty": "r1", "discriminator_norm": "none"},
    ],
)
def test_every_network_trains_with_every_rule_view_loss_and_penalty(kind: str, changes: dict[str, Any]) -> None:
    config = settings(kind, **changes)
    gan = gan_of(config)
    # Without the biases: some losses are the same wherever a discriminator's zero lies.
    weights = [p for side in (gan.generator, gan.discriminators) for p in side.parameters() if p.ndim > 1]
    before = [weight.detach().clone() for weight in weights]
    step = step_in_parts(config.grad_accum_steps, gan.workers is not None)
    for number in range(3):
        result = step(gan, *inputs(config, number))
        assert torch.isfinite(result.losses).all()
        assert torch.isfinite(result.generator_loss)
    assert all(torch.isfinite(a).all() and not torch.equal(a, b) for a, b in zip(weights, before, strict=True))


@each_network
def test_the_logits_of_one_that_the_device_selected_are_its_own(kind: str) -> None:
    config = settings(kind, discriminators=3)
    gan = gan_of(config)
    step_in_parts(1)(gan, *inputs(config))
    images = inputs(config)[0]
    assert gan.discriminators.alike
    for k in range(3):
        seen = [(each,) for each in gan.discriminators.seen(images)]
        gathered = gan.discriminators.gathered_logits(seen, torch.tensor(k))
        torch.testing.assert_close(gathered, gan.discriminators.member_logits(k, images), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("changes", [{}, {"penalty": "r1:1,r2:1", "weighting": "softmax"}])
def test_parts_of_a_batch_train_networks_without_batch_norm_as_the_whole_does(changes: dict[str, Any]) -> None:
    whole, parts = settings("r3gan", batch_size=8, **changes), settings("r3gan", grad_accum_steps=2, **changes)
    parts = dataclasses.replace(parts, batch_size=4)
    trained = []
    for config in (whole, parts):
        gan = gan_of(config)
        for number in range(3):
            real_images, latents, _ = inputs(whole, number)
            step_in_parts(config.grad_accum_steps)(gan, real_images, latents, StepContext(number))
        trained.append([p.detach() for side in (gan.generator, gan.discriminators) for p in side.parameters()])
    for a, b in zip(*trained, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@each_network
def test_a_recorded_step_equals_the_plain_one(kind: str) -> None:
    config, trained = settings(kind, weighting="softmax", penalty="lecam"), []
    for accelerated in (lambda gan: accelerate(gan, 1, compile=False, cuda_graph=False), recorded):
        gan = gan_of(config)
        step = accelerated(gan)
        for number in range(3):
            step(*inputs(config, number))
        trained.append([t for side in (gan.generator, gan.discriminators) for t in side.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*trained, strict=True))


# --- Second derivatives, by finite differences --------------------------------------------------------------------

SMALLEST: dict[str, Callable[..., nn.Module]] = {
    "sndcgan": lambda **changes: sndcgan.Discriminator(16, 1, 1, **changes),
    "resnet": lambda **changes: resnet.Discriminator(32, 1, 1, **changes),
    "r3gan": lambda **changes: r3gan.Discriminator(16, 1, 1, **changes),
}


@each_network
@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("name", sorted(GRADIENT_PENALTIES))
def test_the_penaltys_gradient_by_finite_differences(name: str, classes: int, kind: str) -> None:
    discriminator = SMALLEST[kind](classes=classes).double()
    names = [name for name, _ in discriminator.named_parameters()]
    # Larger than the first weights, or nothing of the gradient would be left after so many layers.
    for key, parameter in discriminator.named_parameters():
        nn.init.normal_(parameter, 0.0, 0.7, generator=stream(0, key))
    size = SIZES[kind]
    real, fake = (torch.rand(3, 1, size, size, generator=stream(i, "images"), dtype=torch.float64) for i in (0, 1))
    labels = torch.tensor([0, 1, 1]) if classes else None
    mixing = torch.linspace(0.1, 0.9, 3, dtype=torch.float64)

    def penalty(*parameters: Tensor) -> Tensor:
        def called(images: Tensor, labels: Tensor | None = None) -> Tensor:
            values = dict(zip(names, parameters, strict=True))
            logits: Tensor = functional_call(discriminator, values, (images, labels))
            return logits

        return GRADIENT_PENALTIES[name](called, real, fake, mixing, labels, labels)

    parameters = tuple(p.detach().clone().requires_grad_() for p in discriminator.parameters())
    assert penalty(*parameters) > 1e-3
    assert torch.autograd.gradcheck(penalty, parameters, fast_mode=True)


# --- Files --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classes(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures in two class folders."""
    folder = tmp_path_factory.mktemp("classes")
    for number, path in enumerate(sorted(pictures.iterdir())):
        of_class = folder / ("odd" if number % 2 else "even")
        of_class.mkdir(exist_ok=True)
        shutil.copy(path, of_class)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"conditional": True},
        {"augment": "color,translation,cutout", "flips": True},
        {"conditional": True, "augment": "ada", "ada_length": 32, "ada_target": -1.0, "views": "dropout"},
    ],
)
@pytest.mark.parametrize("kind", ["dcgan", *sorted(SIZES)])
def test_labels_and_augmentation_stop_and_resume_bit_for_bit(
    kind: str, changes: dict[str, Any], classes: Path, tiny: Tiny
) -> None:
    changes = changes | dict(network=kind, image_size=SIZES.get(kind, 16), dataset=str(classes), checkpoint=3)
    through = train(tiny("through", max_steps=6, **changes)).run
    again = train(tiny("again", max_steps=6, **changes)).run
    train(tiny("stopped", max_steps=5, **changes))
    stopped = train(tiny("stopped", max_steps=6, **changes)).run
    states = [load_checkpoint(checkpoint_path(run / "checkpoints", 6)) for run in (through, again, stopped)]
    for part in ("generator", "discriminators", "augmentation"):
        for name, value in states[0].get(part, {}).items():
            assert all(torch.equal(state[part][name], value) for state in states[1:]), (part, name)
    assert ("augmentation" in states[0]) == ("augment" in changes)


@each_network
def test_a_run_stops_resumes_and_is_evaluated_sampled_and_exported(
    kind: str, tiny: Tiny, tmp_path: Path, network: Path
) -> None:
    changes: dict[str, Any] = dict(network=kind, image_size=SIZES[kind], ema=0.9, nz=5, views="dropout")
    changes |= dict(num_samples=20, features=str(network), metrics="fid")
    through = train(tiny("through", max_steps=4, evaluate_every=4, **changes)).run
    train(tiny("stopped", max_steps=2, **changes))
    stopped = train(tiny("stopped", max_steps=4, **changes)).run
    weights = (through / "generator.safetensors").read_bytes()
    assert weights == (stopped / "generator.safetensors").read_bytes()
    assert (through / "evaluations.jsonl").read_text()
    generator = d3gan.load_generator(through)
    assert generator.architecture["network"] == kind
    images = d3gan.sample(generator, num=3)
    assert images.shape == (3, 3, SIZES[kind], SIZES[kind])
    copy = export(Export(str(through), "safetensors", str(tmp_path / "copy.safetensors")))
    assert torch.equal(d3gan.sample(d3gan.load_generator(copy), num=3), images)


@each_network
def test_generators_with_classes_are_made_again_of_their_architecture(kind: str) -> None:
    generator = NETWORKS[kind].Generator(SIZES[kind], 5, 3, 1, classes=3)
    NETWORKS[kind].initialize(generator, stream(0, "test"))
    again = make_generator(generator.architecture)
    again.load_state_dict(generator.state_dict())
    latents, labels = torch.randn(4, 5), torch.tensor([0, 1, 2, 0])
    assert torch.equal(again(latents, labels), generator(latents, labels))
    with pytest.raises(TypeError, match="3 classes"):
        generator(latents)
    assert "classes" not in NETWORKS[kind].Generator(SIZES[kind], 5, 3, 1).architecture


@pytest.mark.slow  # a minute of exporting
@each_network
def test_exported_onnx_makes_the_same_images_at_any_batch_size(kind: str, tiny: Tiny, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run, path = train(tiny(network=kind, image_size=SIZES[kind], max_steps=1)).run, tmp_path / "g.onnx"
    # In a separate process: the exporter leaves warnings behind that would fail other tests.
    command = [sys.executable, "-m", "d3gan", "export", str(run), "--format", "onnx", "--out", str(path)]
    subprocess.run(command, capture_output=True, check=True)
    latents = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    (images,) = runtime.InferenceSession(str(path)).run(["images"], {"latents": latents.numpy()})
    expected = raw_sample(d3gan.load_generator(run), latents)
    torch.testing.assert_close(torch.from_numpy(images), expected, rtol=0, atol=1e-5)


@pytest.mark.slow  # minutes of compiling
@pytest.mark.filterwarnings("ignore")  # torch.compile's own, which it takes for errors
@pytest.mark.parametrize("kind", ["resnet", "sndcgan"])  # compile = on is refused for r3gan
def test_compiled_networks_give_the_same_numbers(kind: str) -> None:
    config, trained = settings(kind), []
    for compiled in (False, True):
        gan = gan_of(config)
        step = accelerate(gan, 1, compile=compiled, cuda_graph=False)
        for number in range(3):
            step(*inputs(config, number))
        trained.append([p.detach() for side in (gan.generator, gan.discriminators) for p in side.parameters()])
    for a, b in zip(*trained, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
