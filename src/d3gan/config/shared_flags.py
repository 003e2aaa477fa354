"""Flags that several commands have: their types, each with the help that all of them show. Imports no torch."""

from typing import Annotated, Literal

from tyro.conf import arg

Debug = Annotated[bool, arg(help="Show the traceback of an error.")]
DataDir = Annotated[str, arg(help="Folder of the data files. Default: $D3GAN_DATA, else the user's cache folder.")]
SkipDamaged = Annotated[
    bool,
    arg(help="Do without the files of a folder or .zip of images that cannot be read, as if they were not there."),
]
Device = Annotated[str, arg(help="auto (cuda, else mps, else cpu), cpu, cuda, cuda:N or mps.")]
ConfigFile = Annotated[
    str, arg(help="The .ini file to read. Default: config.ini in the current folder, if it exists.")
]
Preset = Annotated[str, arg(help="Read this preset instead of an .ini file; `d3gan presets` lists them.")]
Precision = Annotated[
    Literal["auto", "bf16", "float32", "float64"],
    arg(help="Arithmetic of the networks; auto is bf16 autocast where the hardware has it, else float32."),
]

# How a generator is evaluated, during training and afterwards.
Features = Annotated[
    str,
    arg(
        help="Network that computes the features: inception, efficientnet-lite0, a file (TorchScript, "
        "ExportedProgram), or auto: inception if its weights are available."
    ),
]
EXTRACTORS = ("auto", "inception", "efficientnet-lite0")
"""The values of ``features`` that are no path; every other one names a program, which runs as the user does."""
TrustFeatures = Annotated[
    bool, arg(help="Run the program that a config file names as features. Without it --features alone names one.")
]
InceptionWeights = Annotated[
    str,
    arg(help="File of the Inception weights, pt_inception-2015-12-05-6726825d.pth. Default: find or download it."),
]
GeneratorWeights = Annotated[
    Literal["auto", "ema", "raw"],
    arg(help="Weights to evaluate: ema (the moving average), raw (the last step's), auto (ema where it is kept)."),
]
Protocol = Annotated[
    Literal["standard", "published"],
    arg(help="published adds the original D3GAN program's own FID (64 features, one batch) to the correct one."),
]
