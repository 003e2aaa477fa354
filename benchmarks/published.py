"""The published D3GAN program's step and loader, rewritten with its order of operations, as the reference to measure.

From what is known of it: every network is called separately, real images before fake ones; the discriminators end in
a sigmoid and the losses are BCELoss of probabilities; the host reads losses and mean outputs in every iteration and
chooses the discriminator from them; in the generator phase the discriminators' weight gradients are computed and
thrown away; a DataLoader with two workers decodes, resizes and normalizes PIL images. Float32, PyTorch's convolutions
and memory layout.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from variants import plain_convolutions

from d3gan import TrainConfig
from d3gan.models.dcgan import Discriminator, Generator, initialize
from d3gan.randomness import stream

WORKERS = 2  # as in its config


class PublishedStep:
    """Its training step with one discriminator (its DCGAN) or two (its D3GAN).

    Args:
        config: sizes, learning rate and number of discriminators.
        device: to compute on.
    """

    def __init__(self, config: TrainConfig, device: torch.device):
        self.config, self.device = config, device
        self.generator = Generator(config.image_size, config.nz, config.ngf, config.nc, config.recipe.activation)
        K = config.recipe.discriminators
        self.discriminators = [Discriminator(config.image_size, config.ndf, config.nc) for _ in range(K)]
        for i, network in enumerate((self.generator, *self.discriminators)):
            initialize(network, stream(0, "benchmark", i))
            network.to(device)
        networks = (self.generator, *self.discriminators)
        adams = [torch.optim.Adam(n.parameters(), lr=config.lr, betas=(config.beta1, config.beta2)) for n in networks]
        self.generator_adam, *self.adams = adams
        self.loss = nn.BCELoss()
        self.logged: list[list[float]] = []

    def step(self, real_images: Tensor) -> None:
        """One iteration on (batch_size, nc, image_size, image_size) float32 images in [-1, 1]."""
        with plain_convolutions():
            self._step(real_images, torch.randn(len(real_images), self.config.nz, device=self.device))

    def _step(self, real_images: Tensor, latents: Tensor) -> None:
        ones = torch.ones(len(real_images), device=self.device)
        for adam in self.adams:
            adam.zero_grad()
        reals = [d(real_images).sigmoid() for d in self.discriminators]
        real_losses = [self.loss(output, ones) for output in reals]
        fake_images = self.generator(latents)
        fakes = [d(fake_images.detach()).sigmoid() for d in self.discriminators]
        fake_losses = [self.loss(output, torch.zeros_like(ones)) for output in fakes]
        losses = [real + fake for real, fake in zip(real_losses, reversed(fake_losses), strict=True)]
        torch.stack(losses).sum().backward()
        for adam in self.adams:
            adam.step()
        self.generator_adam.zero_grad()
        selected = self.discriminators[losses.index(max(losses))]  # compares on the host
        probabilities = selected(fake_images).sigmoid()
        generator_loss = self.loss(probabilities, ones)
        generator_loss.backward()
        self.generator_adam.step()
        self.logged = [
            [loss.item() for loss in (*losses, generator_loss)],
            [output.mean().item() for output in (*reals, *fakes, probabilities)],
        ]


class _DecodedImages(Dataset[Tensor]):
    def __init__(self, pixels: npt.NDArray[np.uint8], size: int, channels: int):
        self._pixels, self._size, self._channels = pixels, size, channels

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> Tensor:
        pixels = self._pixels[index]
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2))
        image = image.convert("RGB" if self._channels == 3 else "L")
        image = image.resize((self._size, self._size), Image.Resampling.BILINEAR)
        array = np.atleast_3d(np.asarray(image, np.float32)) / 255.0
        return (torch.from_numpy(array).permute(2, 0, 1) - 0.5) / 0.5


def published_batches(pixels: npt.NDArray[np.uint8], config: TrainConfig, device: torch.device) -> Iterator[Tensor]:
    """Endless batches, as its loader yields them: (batch_size, nc, image_size, image_size) in [-1, 1].

    Args:
        pixels: (M, C, S, S) uint8, held in memory as the program's data sets are.
        config: sizes.
        device: to which the program copies them, and waits for each copy.
    """
    images = _DecodedImages(pixels, config.image_size, config.nc)
    loader = DataLoader(images, config.batch_size, shuffle=True, num_workers=WORKERS, drop_last=True)
    while True:
        for batch in loader:
            yield batch.to(device)
