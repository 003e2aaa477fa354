"""A classifier of MNIST's digits, trained once for each image size: which modes of (stacked) MNIST are in images.

Modes are counted from its labels, so it has to be nearly always right: 99.4 % of MNIST's test images at 32 pixels,
99.3 % at 16. It is trained on one thread of the CPU, whatever the device, in float32 and with fixed seeds; between
machines its weights may still differ, and so, rarely, a label.
"""

import hashlib
import json
import logging
import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from d3gan.data.files import locked, replace_file
from d3gan.data.load import images_checksum, load_images, load_labels
from d3gan.data.locate import data_folder
from d3gan.data.published.catalog import MNIST
from d3gan.errors import ExternalError, first_line
from d3gan.files import kind_of
from d3gan.progress_bar import progress_bar
from d3gan.randomness import stream

logger = logging.getLogger("d3gan")

RECIPE = 1
"""Version of the network and its training: raise it when they change, so that older classifiers are not used."""

MIN_ACCURACY = 0.98
"""Share of MNIST's test images: with less something is wrong, and modes would be counted wrongly."""

EPOCHS, BATCH_SIZE, LEARNING_RATE, WARM_UP, LABEL_SMOOTHING = 3, 100, 0.008, 0.2, 0.05

CLASSIFY_SIZE = 500
"""Images classified at once."""


class DigitClassifier:
    """Says which digit an image shows.

    Attributes:
        accuracy: The share of MNIST's test images that it classified correctly after its training, 0..1.
    """

    def __init__(self, network: nn.Module, side: int, accuracy: float, device: torch.device):
        self._network = network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._side, self._device = side, device
        self.accuracy = accuracy

    def classify(self, images: Tensor) -> Tensor:
        """Classes of grey images: the digit, 0..9; of stacked ones: 100 R + 10 G + B, 0..999.

        An image has the same class wherever it is among the others.

        Args:
            images: uint8 (N, 1, S, S) or (N, 3, S, S), 0..255, on any device. They are resized to the size that the
                classifier was trained at where they have another one.

        Returns:
            (N,) int64 on the CPU.

        Raises:
            ValueError: another shape or type.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images {tuple(images.shape)} {images.dtype}: must be uint8 (N, 1 or 3, S, S)")
        digits = self._digits(images.reshape(-1, 1, *images.shape[2:])).view(images.shape[:2])
        if images.shape[1] == 1:
            return digits[:, 0]
        return 100 * digits[:, 0] + 10 * digits[:, 1] + digits[:, 2]

    def _digits(self, images: Tensor) -> Tensor:
        """The digits (N,) of images (N, 1, S, S)."""
        parts = [torch.empty(0, dtype=torch.int64)]
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            for batch in images.split(CLASSIFY_SIZE):
                # The last bits depend on the number of images: all batches have the same.
                missing = CLASSIFY_SIZE - len(batch)
                pixels = functional.pad(batch.to(self._device), (0, 0, 0, 0, 0, 0, 0, missing)).float()
                if pixels.shape[2:] != (self._side, self._side):
                    size = (self._side, self._side)
                    pixels = functional.interpolate(
                        pixels, size, mode="bilinear", align_corners=False, antialias=True
                    )
                parts.append(self._network(_scaled(pixels)).argmax(dim=1)[: len(batch)].cpu())
        return torch.cat(parts)


@torch.inference_mode(False)  # The caller may be an evaluation, without gradients.
@torch.enable_grad()
def digit_classifier(
    image_size: int, data_dir: str | Path | None = None, device: str | torch.device = "cpu"
) -> DigitClassifier:
    """The classifier for images of a size: from the data folder, or trained now, which takes a minute of one core.

    Of several processes that need the same missing classifier, one trains it and the others wait.

    Args:
        image_size: Side of the images in pixels. There are two classifiers, for 16 and for 32 pixels: images of up to
            31 pixels go to the first, larger ones to the second, resized.
        data_dir: Folder of the data files; see ``d3gan.data.locate.data_folder``.
        device: Where it classifies.

    Raises:
        ExternalError: MNIST is not available, the file cannot be written, or training did not succeed.
    """
    side = 32 if image_size >= 32 else 16
    checksums = [images_checksum(MNIST, split, side, 1) for split in ("train", "test")]
    digest = hashlib.sha256(json.dumps([RECIPE, *checksums]).encode()).hexdigest()[:16]
    path = data_folder(data_dir) / "classifiers" / f"digits-{side}x{side}-{digest}.safetensors"
    trained = _read(path, side)
    if trained is None:
        with locked(path):
            # Another process may have trained it while this one waited.
            trained = _read(path, side)
            if trained is None:
                threads = torch.get_num_threads()
                # One thread: sums then have one order, and threads that wait for each other on a busy machine make
                # a training of such small layers five times as long and more.
                torch.set_num_threads(1)
                try:
                    trained = _train(side, data_dir)
                finally:
                    torch.set_num_threads(threads)
                _write(path, *trained)
    network, accuracy = trained
    return DigitClassifier(network, side, accuracy, torch.device(device))


def _write(path: Path, network: nn.Module, accuracy: float) -> None:
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    header = {"accuracy": accuracy, "sha256": _sha256(tensors)}
    with replace_file(path) as file:
        file.write(save(tensors, {"d3gan": json.dumps(header)}))


def _read(path: Path, side: int) -> tuple[nn.Module, float] | None:
    """The network in a file, and its accuracy; None if there is no file, or it is damaged, which is logged."""
    if kind_of(path) != "a file":
        return None
    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["d3gan"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _sha256(tensors) != header["sha256"]:
            raise ValueError("its weights are not those that were written")
        network = _new_network(side)
        network.load_state_dict(tensors)
        return network, float(header["accuracy"])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        logger.info(f"{path}: is damaged ({first_line(error)}); training the digit classifier again")
        return None


def _sha256(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _new_network(side: int) -> nn.Module:
    """Maps images (N, 1, side, side), in [-1, 1], to logits (N, 10): 34,000 parameters, maps of side 16, 8 and 4."""
    layers: list[nn.Module] = []
    widths = [(1, 16), (16, 32), (32, 64)]
    # Building layers draws weights that nobody uses from PyTorch's global generator.
    with torch.random.fork_rng(devices=[]):
        for i, (inputs, outputs) in enumerate(widths):
            kernel, stride = (5, side // 16) if i == 0 else (3, 1)
            layers += [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] if i > 0 else []
        layers += [nn.Flatten(), nn.Linear(64 * 4 * 4, 10)]
    rng = stream(0, "digit classifier")
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=rng)
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _scaled(pixels: Tensor) -> Tensor:
    """Pixels 0..255, float, as the network takes them."""
    return (pixels / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def _train(side: int, data_dir: str | Path | None) -> tuple[nn.Module, float]:
    """Trains a network on MNIST's train split; returns it and its accuracy on the test split.

    Adam with decoupled weight decay and a learning rate that rises and falls once (Smith and Topin 2017,
    arXiv:1708.07120), and smoothed labels. Images are shifted at random by up to 2 of 32 pixels each way, 1 of 16:
    generated digits are not centred as MNIST's are.
    """
    start = time.perf_counter()
    images, labels = _digits_of("train", side, data_dir)
    network = _new_network(side)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.01)
    batches_per_epoch = len(images) // BATCH_SIZE
    steps = EPOCHS * batches_per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=WARM_UP)
    margin = side // 16
    image, row = torch.arange(BATCH_SIZE)[:, None, None], torch.arange(side)
    network.train()
    with (
        torch.autocast("cpu", enabled=False),
        progress_bar(f"training the digit classifier ({side} x {side})", steps, unit="batches") as advance,
    ):
        for epoch in range(EPOCHS):
            rng = stream(0, "digit classifier's images", epoch)
            order = torch.randperm(len(images), generator=rng)
            for chosen in order[: batches_per_epoch * BATCH_SIZE].split(BATCH_SIZE):
                padded = functional.pad(images[chosen, 0], [margin] * 4)
                top, left = torch.randint(2 * margin + 1, (2, BATCH_SIZE, 1), generator=rng)
                shifted = padded[image, (top + row)[:, :, None], (left + row)[:, None, :]]
                logits = network(_scaled(shifted[:, None].float()))
                optimizer.zero_grad()
                loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=LABEL_SMOOTHING)
                loss.backward()
                optimizer.step()
                schedule.step()
                advance(1)
    images, labels = _digits_of("test", side, data_dir)
    predicted = DigitClassifier(network, side, 0.0, torch.device("cpu")).classify(images)
    accuracy = float((predicted == labels).double().mean())
    reached = f"{accuracy:.2%} of MNIST's test images classified correctly"
    if accuracy < MIN_ACCURACY:
        raise ExternalError(
            f"digit classifier ({side} x {side}): {reached}, at least {MIN_ACCURACY:.0%} are needed to count modes; "
            f"its training should reach 99 %: check the images with d3gan data verify {MNIST.name}, and PyTorch's "
            "installation"
        )
    logger.info(f"digit classifier ({side} x {side}): trained in {time.perf_counter() - start:.0f} s, {reached}")
    return network, accuracy


def _digits_of(split: str, side: int, data_dir: str | Path | None) -> tuple[Tensor, Tensor]:
    """Images (N, 1, side, side) uint8 and labels (N,) int64 of a split of MNIST."""
    image_set = load_images(MNIST, split=split, image_size=side, channels=1, data_dir=data_dir)
    labels = load_labels(MNIST, split=split, data_dir=data_dir)
    return torch.tensor(image_set.images[:]), torch.from_numpy(labels)
