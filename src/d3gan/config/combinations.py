"""Combinations of keys that have no meaning; the penalties, views and augmentations of a config. Imports no torch."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from d3gan.config.datasets import POINT_SETS, STACKED, metrics_that_apply
from d3gan.errors import ConfigError, nearest
from d3gan.models.widths import IMAGE_SIZES, WITHOUT_BATCH_NORM

if TYPE_CHECKING:
    from d3gan.config.train_config import TrainConfig

# Penalty -> its usual weight: WGAN-GP's lambda; the gamma that StyleGAN2-ADA's rule and its CIFAR-10 recipe give for
# 32 x 32 pixels (R3GAN has the same for both); LeCam's for a hinge loss on CIFAR-10.
PENALTIES = {"gp": 10.0, "r1": 0.01, "r2": 0.01, "lecam": 0.3}
GRADIENT_PENALTIES = ("gp", "r1", "r2")
# In what discriminators may differ, besides their first weights; see d3gan.models.views.
VIEWS = ("slice", "projection", "width", "dropout")
# DiffAugment's policies, and ADA's groups of operations: all, and those of its default pipe ("bgc").
POLICIES = ("color", "translation", "cutout")
ADA_GROUPS = ("blit", "geom", "color", "filter", "noise", "cutout")
ADA_DEFAULT = ("blit", "geom", "color")


class PenaltyKey(NamedTuple):
    """One word of ``penalty``."""

    name: str
    weight: float
    every: int


def parse_penalties(text: str) -> tuple[PenaltyKey, ...]:
    """The penalties that text such as ``r1:0.05,r2`` or ``r1:0.01:16`` names: NAME, NAME:WEIGHT, NAME:WEIGHT:EVERY.

    Raises:
        ConfigError: a name is unknown or given twice, or a number is out of range.
    """
    penalties: list[PenaltyKey] = []
    for word in (part.strip() for part in text.split(",") if part.strip()):
        name, *numbers = word.split(":")
        if name not in PENALTIES:
            known = f"{nearest(name, PENALTIES)}; allowed: {', '.join(PENALTIES)}, each as NAME:WEIGHT:EVERY"
            raise ConfigError(f"penalty = {text}: {name!r} is unknown{known}")
        try:
            weight = float(numbers[0]) if numbers else PENALTIES[name]
            every = int(numbers[1]) if len(numbers) > 1 else 1
        except ValueError:
            weight, every = 0.0, 0
        if len(numbers) > 2 or not 0 < weight < float("inf") or not 1 <= every <= 1_000_000:
            raise ConfigError(
                f"penalty = {text}: {word!r} must be NAME:WEIGHT:EVERY with a weight above 0 and a number of steps "
                f"from 1 to 1000000, such as {name}:{PENALTIES[name]:g}:1"
            )
        if name in (each.name for each in penalties):
            raise ConfigError(f"penalty = {text}: {name} is given twice; give it once")
        penalties.append(PenaltyKey(name, weight, every))
    return tuple(penalties)


def penalty_text(penalties: Iterable[PenaltyKey]) -> str:
    """The text that names these penalties: NAME:WEIGHT, or NAME:WEIGHT:EVERY above 1."""
    words = ((name, f"{weight!r}", *([str(every)] if every > 1 else [])) for name, weight, every in penalties)
    return ",".join(":".join(word).replace("e+", "e") for word in words)


def parse_views(text: str) -> tuple[str, ...]:
    """The views that a list such as ``dropout, slice`` names, in the order of ``VIEWS``; none for ``same``.

    Raises:
        ConfigError: a name is unknown or given twice, none is given, or ``same`` is not alone.
    """
    words = [part.strip() for part in text.split(",") if part.strip()]
    if words == ["same"]:
        return ()
    allowed = f"allowed: same alone, or some of {', '.join(VIEWS)}"
    for word in words:
        if word == "same":
            raise ConfigError(f"views = {text}: same means no other view; {allowed}")
        if word not in VIEWS:
            raise ConfigError(f"views = {text}: {word!r} is unknown{nearest(word, ('same', *VIEWS))}; {allowed}")
        if words.count(word) > 1:
            raise ConfigError(f"views = {text}: {word} is given twice; give it once")
    if not words:
        raise ConfigError(f"views is empty; {allowed}")
    return tuple(view for view in VIEWS if view in words)


class AugmentKey(NamedTuple):
    """What ``augment`` names; as a condition, whether it names anything."""

    method: Literal["", "diffaugment", "ada"]
    names: tuple[str, ...]
    """Policies, or groups of operations, in the order in which they are done."""

    def __bool__(self) -> bool:
        return bool(self.names)


def parse_augment(text: str) -> AugmentKey:
    """What text such as ``translation,cutout`` (DiffAugment), ``ada`` or ``ada:blit,geom,cutout`` names.

    Raises:
        ConfigError: a name is unknown or given twice, or a group of ADA's stands without ``ada:``.
    """
    head, _, rest = text.partition(":")
    is_ada = head.strip() == "ada"
    known: tuple[str, ...] = ADA_GROUPS if is_ada else POLICIES
    words = [part.strip() for part in (rest if is_ada else text).split(",") if part.strip()]
    allowed = (
        f"allowed: empty; some of {', '.join(POLICIES)} (DiffAugment); ada; ada: with some of {', '.join(ADA_GROUPS)}"
    )
    for word in words:
        if word not in known and word in ("ada", *ADA_GROUPS):
            raise ConfigError(f"augment = {text}: {word} is no part of DiffAugment; {allowed}")
        if word not in known:
            raise ConfigError(f"augment = {text}: {word!r} is unknown{nearest(word, ('ada', *known))}; {allowed}")
        if words.count(word) > 1:
            raise ConfigError(f"augment = {text}: {word} is given twice; give it once")
    if is_ada and ":" in text and not words:
        raise ConfigError(f"augment = {text}: names no group after ada:; {allowed}")
    names = words or (ADA_DEFAULT if is_ada else ())
    return AugmentKey("ada" if is_ada else "diffaugment" if names else "", tuple(n for n in known if n in names))


def augment_text(augment: AugmentKey) -> str:
    """The text that names it: of ADA's default pipe ``ada`` alone."""
    if augment.method == "ada" and augment.names == ADA_DEFAULT:
        return "ada"
    return ("ada:" if augment.method == "ada" else "") + ",".join(augment.names)


def refuse_meaningless(config: "TrainConfig") -> None:
    """Refuses keys that contradict each other.

    Raises:
        ConfigError: names both keys, why they do not go together, and what to change.
    """
    sizes = IMAGE_SIZES.get(config.resolved_network, (config.image_size,))
    if config.image_size not in sizes:
        raise ConfigError(
            f"image_size = {config.image_size}, network = {config.network}: the networks of "
            f"{config.resolved_network} are for {', '.join(map(str, sizes))} pixels; set image_size to one of these, "
            "or choose another network"
        )
    for applies, message in _MEANINGLESS:
        if applies(config):
            raise ConfigError(message.format(config=config, recipe=config.recipe))


def _slope_is_penalized(config: "TrainConfig") -> bool:
    return any(penalty.name in GRADIENT_PENALTIES for penalty in config.penalties)


def _has(config: "TrainConfig", name: str) -> bool:
    return any(penalty.name == name for penalty in config.penalties)


_MEANINGLESS: tuple[tuple[Callable[["TrainConfig"], bool], str], ...] = (
    (
        lambda config: config.makes_points != (config.resolved_network == "mlp"),
        "network = {config.network}, dataset = {config.dataset}: mlp is for points in the plane ("
        + ", ".join(POINT_SETS)
        + "), the others for images; set network = auto",
    ),
    (
        lambda config: config.conditional and config.resolved_network == "mlp",
        "conditional = True, network = mlp: only networks for images have classes, dataset = {config.dataset} has "
        "points; set conditional = False",
    ),
    (
        lambda config: config.resolved_network in WITHOUT_BATCH_NORM and config.discriminator_norm == "batch",
        "network = {config.network}, discriminator_norm = batch: its discriminators have no place for BatchNorm; set "
        "discriminator_norm = auto",
    ),
    (
        lambda config: config.resolved_network == "r3gan" and config.discriminator_norm == "spectral",
        "network = r3gan, discriminator_norm = spectral: the last weights of its blocks start at 0, by whose norm "
        "nothing can be divided; set discriminator_norm = auto",
    ),
    (
        lambda config: config.resolved_network == "r3gan" and config.activation not in ("model", "leaky_relu"),
        "network = r3gan, activation = {config.activation}: its generator has leaky ReLU; set activation = "
        "leaky_relu",
    ),
    (
        lambda config: not config.makes_points and (config.radius != "" or config.deviation != ""),
        "radius, deviation: only "
        + " and ".join(POINT_SETS)
        + " have them, dataset = {config.dataset} does not; leave "
        "radius and deviation out",
    ),
    (
        lambda config: config.makes_points and config.precision == "bf16",
        "precision = bf16, dataset = {config.dataset}: its 8 bits are coarser than the deviation of a mode; set "
        "precision = float32",
    ),
    (
        lambda config: config.makes_points and config.protocol == "published",
        "protocol = published, dataset = {config.dataset}: it measures images; set protocol = standard",
    ),
    (
        lambda config: config.dataset == STACKED and config.nc != 3,
        "dataset = stacked-mnist, nc = {config.nc}: each of its three channels is one digit; set nc = 3",
    ),
    (
        lambda config: (
            config.metrics != "auto" and not set(config.resolved_metrics) <= set(metrics_that_apply(config.dataset))
        ),
        "metrics = {config.metrics}, dataset = {config.dataset}: fid, is, kid and prdc measure images, and modes "
        "needs data whose modes are known (ring8, grid25, stacked-mnist); set metrics = auto",
    ),
    (
        lambda config: config.makes_points and (bool(config.augmentation) or config.flips),
        "augment = {config.augment}, flips = {config.flips}, dataset = {config.dataset}: they change images, and "
        "these are points; leave augment out, and set flips = off",
    ),
    (
        lambda config: (
            config.augmentation.method == "ada" and config.ada_p == "" and config.recipe.loss not in ("bce", "hinge")
        ),
        "augment = {config.augment}, loss = {recipe.loss}: the sign of its logits does not separate real from fake "
        "images, so ADA's p cannot follow it; set ada_p, or loss = bce or hinge",
    ),
    (
        lambda config: config.ada_ramp_up > 0 and config.ada_p == "",
        "ada_ramp_up = {config.ada_ramp_up}, ada_p is empty: p grows to a fixed value, or it follows the "
        "discriminators; set ada_p too, or ada_ramp_up = 0",
    ),
    (
        lambda config: config.recipe.loss == "d2gan" and config.recipe.discriminators != 2,
        "loss = d2gan, discriminators = {recipe.discriminators}: its two discriminators have losses of their own; "
        "set discriminators = 2",
    ),
    (
        lambda config: config.recipe.loss == "d2gan" and config.recipe.weighting != "sum",
        "loss = d2gan, weighting = {recipe.weighting}: its generator minimizes the sum of two different losses, "
        "between which no rule can choose; set weighting = sum",
    ),
    (
        lambda config: config.recipe.loss == "d2gan" and config.recipe.pairing != "own",
        "loss = d2gan, pairing = swapped: the fake losses of its two discriminators are different things; set "
        "pairing = own",
    ),
    (
        lambda config: config.recipe.loss == "d2gan" and _has(config, "lecam"),
        "loss = d2gan, penalty = lecam: LeCam expects larger logits for real images, and D2GAN's second "
        "discriminator rewards fake ones; leave lecam out",
    ),
    (
        lambda config: (
            config.recipe.loss == "relativistic"
            and config.recipe.pairing == "swapped"
            and config.recipe.discriminators > 1
        ),
        "loss = relativistic, pairing = swapped: it compares pairs of a real and a fake image, so there is no fake "
        "loss to swap; set pairing = own",
    ),
    (
        lambda config: (
            config.recipe.weighting == "hypervolume" and config.recipe.loss in ("hinge", "wasserstein", "d2gan")
        ),
        "weighting = hypervolume, loss = {recipe.loss}: its weights need generator losses above 0; set loss = bce, "
        "least-squares or relativistic",
    ),
    (
        lambda config: (
            config.recipe.loss == "wasserstein"
            and config.resolved_norm != "spectral"
            and not _slope_is_penalized(config)
        ),
        "loss = wasserstein: without a bound on the discriminators' slope it has no minimum; set "
        "discriminator_norm = spectral, or discriminator_norm = none and penalty = gp",
    ),
    (
        lambda config: config.resolved_norm == "batch" and _slope_is_penalized(config),
        "penalty = {config.penalty}, discriminator_norm = batch: BatchNorm makes a logit depend on the whole batch, "
        "so the gradient of one image means nothing; set discriminator_norm = none or spectral",
    ),
    (
        lambda config: config.compile == "on" and config.network == "r3gan",
        "compile = on, network = r3gan: torch.compile fails on the gradient of its discriminators (PyTorch 2.13, on "
        "CPUs); set compile = off",
    ),
    (
        lambda config: config.compile == "on" and _slope_is_penalized(config),
        "compile = on, penalty = {config.penalty}: torch.compile cannot differentiate a gradient again; set "
        "compile = off",
    ),
    (
        lambda config: config.cuda_graph == "on" and any(penalty.every > 1 for penalty in config.penalties),
        "cuda_graph = on, penalty = {config.penalty}: a recorded step is the same each time; leave out the interval, "
        "or set cuda_graph = off",
    ),
    (
        lambda config: config.cuda_graph == "on" and config.recipe.weighting == "mgd",
        "cuda_graph = on, weighting = mgd: the host computes its weights, which cannot be recorded; set cuda_graph = "
        "off",
    ),
    (
        lambda config: (
            config.recipe.sharded == "on"
            and config.recipe.weighting not in ("mean", "sum")
            and config.recipe.discriminators > 1
        ),
        "sharded = on, weighting = {recipe.weighting}: its discriminators judge different images, so no rule can "
        "compare them; set weighting = mean or sum",
    ),
    (
        lambda config: config.recipe.sharded == "on" and config.recipe.loss == "d2gan",
        "sharded = on, loss = d2gan: its two discriminators belong together and judge the same images; set "
        "sharded = off",
    ),
    (
        lambda config: (
            config.recipe.sharded == "on"
            and (bool(config.view_names) or config.recipe.microbatch_alpha > 0 or config.recipe.duel_beta > 0)
        ),
        "sharded = on, views = {recipe.views}, microbatch_alpha = {recipe.microbatch_alpha}, duel_beta = "
        "{recipe.duel_beta}: discriminators that change places must be alike, and none sees another's images; set "
        "views = same, microbatch_alpha = 0 and duel_beta = 0",
    ),
    (
        lambda config: config.recipe.sharded == "on" and _has(config, "lecam"),
        "sharded = on, penalty = lecam: its anchors would stay behind when discriminators change places; leave "
        "lecam out",
    ),
    (
        lambda config: config.recipe.sharded == "on" and config.grad_accum_steps > 1,
        "sharded = on, grad_accum_steps = {config.grad_accum_steps}: a process with several discriminators divides "
        "its batch among them already; set grad_accum_steps = 1",
    ),
    (
        lambda config: config.recipe.sharded == "on" and config.lr_scaling == "linear",
        "sharded = on, lr_scaling = linear: more processes make no discriminator's batch larger; set lr_scaling = "
        "none",
    ),
    (
        lambda config: config.recipe.sharded == "on" and config.sync_batchnorm,
        "sharded = on, sync_batchnorm = True: each discriminator judges one batch, and the generator normalises each "
        "on its own; set sync_batchnorm = False",
    ),
    (
        lambda config: config.recipe.sharded == "on" and config.cuda_graph == "on",
        "sharded = on, cuda_graph = on: a recorded step cannot swap discriminators; set cuda_graph = off",
    ),
    (
        lambda config: "slice" in config.view_names and config.batch_size % config.recipe.discriminators != 0,
        "batch_size = {config.batch_size}, views = {recipe.views}, discriminators = {recipe.discriminators}: a batch "
        "is cut into equal slices, one for each discriminator; set batch_size to a multiple of discriminators",
    ),
    (
        lambda config: "slice" in config.view_names and config.batch_size < 2 * config.recipe.discriminators,
        "batch_size = {config.batch_size}, views = {recipe.views}, discriminators = {recipe.discriminators}: "
        "BatchNorm needs slices of two images or more; set batch_size to 2 x {recipe.discriminators} or a larger "
        "multiple",
    ),
    (
        lambda config: config.cuda_graph == "on" and "dropout" in config.view_names,
        "cuda_graph = on, views = {recipe.views}: a recorded step would drop the same values each time; leave "
        "dropout out, or set cuda_graph = off",
    ),
    (
        lambda config: config.recipe.microbatch_alpha > 0 and "slice" not in config.view_names,
        "microbatch_alpha = {recipe.microbatch_alpha}, views = {recipe.views}: its term compares a discriminator's "
        "slice with the others; set views = slice, or microbatch_alpha = 0",
    ),
    (
        lambda config: config.recipe.microbatch_alpha > 0 and config.recipe.discriminators == 1,
        "microbatch_alpha = {recipe.microbatch_alpha}, discriminators = 1: there is no other slice to compare with; "
        "set discriminators = 2 or more, or microbatch_alpha = 0",
    ),
    (
        lambda config: config.recipe.microbatch_alpha > 0 and config.recipe.loss != "bce",
        "microbatch_alpha = {recipe.microbatch_alpha}, loss = {recipe.loss}: its term is binary cross-entropy; set "
        "loss = bce, or microbatch_alpha = 0",
    ),
    (
        lambda config: config.recipe.duel_beta > 0 and config.recipe.discriminators == 1,
        "duel_beta = {recipe.duel_beta}, discriminators = 1: it takes two to duel; set discriminators = 2 or more, "
        "or duel_beta = 0",
    ),
    (
        lambda config: config.recipe.duel_beta > 0 and config.recipe.loss != "bce",
        "duel_beta = {recipe.duel_beta}, loss = {recipe.loss}: a duel compares probabilities, and only bce trains "
        "logits to mean them; set loss = bce, or duel_beta = 0",
    ),
    (
        lambda config: config.recipe.duel_beta > 0 and "slice" in config.view_names,
        "duel_beta = {recipe.duel_beta}, views = {recipe.views}: a duel shows both discriminators the same images; "
        "leave slice out, or set duel_beta = 0",
    ),
    (
        lambda config: config.ema > 0 and config.ema_half_life > 0,
        "ema = {config.ema}, ema_half_life = {config.ema_half_life}: two decays of one average; set one of them to 0",
    ),
    (
        lambda config: config.generator == "ema" and not config.averages,
        "generator = ema: no moving average is kept; set ema too, such as ema = 0.999, or ema_half_life",
    ),
)
