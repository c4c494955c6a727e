"""Whose weights a file holds: found by the names of its tensors, made ours, and described.

Nothing in a file is executed: see `pickles`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from slowfast_dist.config.errors import UserError
from slowfast_dist.model.description import NetworkDescription, network_defaults
from slowfast_dist.model.finite import describe_broken
from slowfast_dist.model.foreign import caffe2, mmaction, names, pyslowfast
from slowfast_dist.model.foreign.configs import parse_python, parse_yaml
from slowfast_dist.model.foreign.names import descend
from slowfast_dist.model.foreign.pickles import FileFault, Inert
from slowfast_dist.model.foreign.source_facts import SourceFacts, facts_of
from slowfast_dist.model.foreign.states import State, find_states
from slowfast_dist.model.foreign.torch_files import open_torch

FIRST = (f"{names.stem(0)}conv.weight",)
"""The name by which pytorchvideo's layout, which is ours, is known."""

KNOWN = (
    "pytorchvideo and slowfast_dist (blocks.0...), PySlowFast (s1.pathway0_stem...), its model "
    "zoo's .pkl (conv1_w, t_conv1_w), MMAction2 (backbone.slow_path...)"
)
"""For a message: the layouts, and how their names begin."""


_FIRST_TEST = {"num_frames": 32, "sampling_rate": 2, "short_side": 256, "crop_size": 256}
CLIPS: dict[str, dict[str, Any]] = {
    "MMAction2": _FIRST_TEST | {"frame_rate": "video", "short_videos": "loop"},
}
"""How frameworks cut the clips of a test of Kinetics, where a file does not tell."""

_OTHER_CLIPS = _FIRST_TEST | {"frame_rate": 30.0, "short_videos": "repeat-last"}
"""Of PySlowFast and pytorchvideo: at 30 frames a second, whatever the video has."""

LONG_CLIPS = {"slowfast_16x8_r101_50_50": 64}
"""Frames of a clip of a network, where they are more than 32."""


@dataclass(frozen=True)
class Layout:
    """Names of one framework."""

    framework: str
    first: tuple[str, ...]
    our_name: Callable[[str], str | None]
    beside: str | None = None
    """A name that must be there too, where the first is not telling enough."""


LAYOUTS = (
    Layout("pytorchvideo", FIRST, lambda name: name if name.startswith("blocks.") else None),
    Layout("PySlowFast", pyslowfast.FIRST, pyslowfast.our_name),
    Layout("MMAction2", mmaction.FIRST, mmaction.our_name),
    Layout("PySlowFast's Caffe2", caffe2.FIRST, caffe2.our_name, beside="t_conv1_w"),
)


@dataclass(frozen=True)
class Weights:
    """What a file holds, by our names.

    ``tensors``: also those that no SlowFast has, by their own names. ``description``: of the
    network that they are of; None where no layout is known. ``facts``: what the file's own
    configuration tells. ``classes``: names of the head's rows, where it tells them.
    """

    framework: str
    tensors: dict[str, Tensor]
    description: NetworkDescription | None = None
    facts: SourceFacts = field(default_factory=SourceFacts)
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    """What a person should know of it, a sentence each."""

    @property
    def clip(self) -> dict[str, Any]:
        """How its framework cuts the clips of a test, by the names of best_model.json."""
        usual = CLIPS.get(self.framework, _OTHER_CLIPS) | {"sampling": "dense"}
        if self.description is not None and self.description.name in LONG_CLIPS:
            usual = usual | {"num_frames": LONG_CLIPS[self.description.name]}
        return {**usual, "resize": "short-side", "pixel_aspect": "stored", **self.facts.clip()}

    @property
    def is_foreign(self) -> bool:
        """Whether a framework wrote it that does something its own way, or tells how."""
        return self.framework not in ("pytorchvideo", "whole model") or self.facts != SourceFacts()

    def lines(self, path: Path) -> list[str]:
        """What a user reads: whose weights these are, and what that sets. Nothing of files whose
        network is as published under its name, by names that are ours."""
        if self.description is None or not (self.is_foreign or self.notes):
            return []
        told = "; ".join((f"{describe(self.description)}", *self.notes))
        return [f"{path}: weights of {self.framework}: {told}"]


def read_weights(
    path: Path, flag: str = "--model.weights", told: SourceFacts | None = None
) -> Weights:
    """The tensors of a file of any layout in LAYOUTS, and what is known of their network.

    ``told``: what a configuration of theirs says, over what the file itself does. Raises UserError,
    naming ``flag`` and the file, for whatever is wrong with it, also for numbers that are not
    finite.
    """
    if not path.is_file():
        raise UserError(f"{flag} {path}: there is no such file")
    try:
        content, state, tensors = _open(path)
    except FileFault as error:
        remedy = "give a file of weights, as torch.save(model.state_dict(), ...) writes it"
        raise UserError(f"{flag} {path}: {error}: {remedy}") from None
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be read ({error.strerror})") from None
    if broken := describe_broken(tensors):
        raise UserError(
            f"{flag} {path}: {broken}: what wrote it diverged, or it is damaged, and its answers "
            "would mean nothing: give other weights, as those of an earlier epoch"
        )
    try:
        return _recognised(content, state, tensors, told)
    except FileFault as error:
        raise UserError(f"{flag} {path}: {error}: give another file") from None


def _open(path: Path) -> tuple[Any, State, dict[str, Tensor]]:
    """All that a file holds, where its network's tensors lie, and these."""
    with open(path, "rb") as file:
        start = file.read(16)
    if path.suffix == ".safetensors" or start[8:10] == b'{"':
        tensors = _read_safetensors(path)
        return {}, State("", dict.fromkeys(tensors)), tensors  # type: ignore[arg-type]
    opened = open_torch(path)
    states = list(find_states(opened.content))
    if not states:
        raise FileFault("holds no tensors by name")
    chosen = next((state for state in states if _layout(state.entries) is not None), None)
    if chosen is None:  # whose names a message then gives
        chosen = max(states, key=lambda state: len(state.entries))
    tensors = {name: opened.tensor(value) for name, value in chosen.entries.items()}
    return opened.content, chosen, tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise FileFault(f"is damaged, or no file of weights ({error})") from None


def _bare(entries: Mapping[str, Any]) -> dict[str, str]:
    """Names without what torch.compile puts into them -> names as they are."""
    return {name.replace("_orig_mod.", ""): name for name in entries}


def _layout(entries: Mapping[str, Any]) -> tuple[Layout, str] | None:
    """The layout of these names, and what precedes them all, as "module."; None for no known one.

    Of several copies, as of an average beside the network, the one with the shortest prefix counts.
    """
    bare = _bare(entries)
    for layout in LAYOUTS:
        for first in layout.first:
            found = [name.removesuffix(first) for name in bare if name.endswith(first)]
            ends = [prefix for prefix in found if not prefix or prefix.endswith(".")]
            if ends and (layout.beside is None or layout.beside in bare):
                return layout, min(ends, key=len)
    return None


def _recognised(
    content: Any, state: State, tensors: dict[str, Tensor], told: SourceFacts | None
) -> Weights:
    found = _layout(state.entries)
    if found is None:
        return Weights("unknown", tensors)
    layout, prefix = found
    ours: dict[str, Tensor] = {}
    for bare, name in _bare(tensors).items():
        inner = bare.removeprefix(prefix) if bare.startswith(prefix) else ""
        renamed = layout.our_name(inner) if inner else None
        ours[renamed or name] = tensors[name]
    if layout.framework == "MMAction2":
        ours = mmaction.reorder_head(ours)
    if layout.framework == "PySlowFast's Caffe2":
        ours |= _counters(ours)
    facts = told or _own_facts(content, layout)
    kept = _own_description(content)
    description, notes = describe_network(layout.framework, ours, facts)
    description, notes = (kept, []) if kept else (description, notes)
    classes = _classes(content)
    framework = layout.framework
    if framework == "pytorchvideo" and state.whole_model:
        framework = "whole model"
    return Weights(framework, ours, description, facts, classes, tuple(notes))


def _counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BatchNorm's count of batches, which Caffe2 did not keep and nothing here needs: 0."""
    zero = Tensor([0]).long()[0]
    norms = [name for name in tensors if name.endswith("running_mean")]
    return {name.replace("running_mean", "num_batches_tracked"): zero.clone() for name in norms}


def _own_facts(content: Any, layout: Layout) -> SourceFacts:
    """What the configuration tells that frameworks save beside the weights."""
    try:
        if layout.framework == "MMAction2":
            text = descend(content, "meta", "cfg") or descend(content, "meta", "config")
            return facts_of(parse_python(text)) if isinstance(text, str) else SourceFacts()
        if layout.framework == "PySlowFast" or descend(content, "cfg") is not None:
            text = descend(content, "cfg")
            return facts_of(parse_yaml(text)) if isinstance(text, str) else SourceFacts()
    except FileFault as error:
        if "not done here" in str(error):
            raise
    return SourceFacts()  # nobody's, or not plain: the tensors tell enough


def _own_description(content: Any) -> NetworkDescription | None:
    """What a whole model of slowfast_dist keeps; None where it keeps none."""
    state = content.state if isinstance(content, Inert) else None
    kept = descend(state, "description")
    if not isinstance(kept, Inert) or not isinstance(kept.state, dict):
        return None
    try:
        return NetworkDescription(**kept.state)
    except (TypeError, ValueError):
        return None


def _classes(content: Any) -> tuple[str, ...] | None:
    """The names of the classes that MMAction2 saves where its dataset knows them."""
    for keys in (("meta", "dataset_meta", "classes"), ("meta", "CLASSES")):
        found = descend(content, *keys)
        if isinstance(found, list | tuple) and found and all(type(name) is str for name in found):
            return tuple(found) if len(set(found)) == len(found) else None
    return None


def describe_network(
    framework: str, tensors: Mapping[str, Tensor], facts: SourceFacts
) -> tuple[NetworkDescription, list[str]]:
    """The network that these tensors are of, and notes on what they do not tell.

    Depth, kernels and BatchNorms are told by the tensors, alpha and normalisation by ``facts``,
    else they are the framework's own. Raises FileFault for a network that cannot be built here.
    """
    is_mmaction = framework == "MMAction2"
    blocks = [_count_blocks(tensors, pathway) for pathway in (0, 1)]
    if blocks[0] != blocks[1]:
        raise FileFault(
            f"has {blocks[0]} blocks in the fourth stage of its slow pathway and {blocks[1]} in "
            "that of the fast one: networks of two depths are not built here"
        )
    lateral = tensors.get(f"{names.fusion(0)}conv_fast_to_slow.weight")
    if lateral is None or lateral.ndim != 5:
        raise FileFault("lacks the lateral connections of a SlowFast")
    kernel = int(lateral.shape[2])
    alpha = facts.alpha or (8 if kernel == 5 and (is_mmaction or blocks[0] == 6) else 4)
    name = _architecture(blocks[0], alpha, tensors)
    notes = list[str]()
    if facts.alpha is None and (is_mmaction or alpha == 8):
        notes.append(
            f"alpha {alpha} is what published networks with lateral kernels of {kernel} have: the "
            "file does not tell"
        )
    own = {"alpha": alpha, "fusion_kernel": kernel}
    try:
        network = replace(network_defaults(name), **own, **_habits(framework, tensors))  # type: ignore[arg-type]
        told = {"mean": facts.mean, "std": facts.std}
        told = {name: value for name, value in told.items() if value is not None}
        return replace(network, **told), notes  # type: ignore[arg-type]
    except ValueError as error:
        raise FileFault(f"is of a network that is not built here ({error})") from None


def _habits(framework: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a framework does its own way."""
    if framework != "MMAction2":
        return {}
    norm = f"{names.fusion(0)}norm.weight" in tensors
    return {
        "slow_frames": "stride", "lateral_norm": norm, "lateral_activation": norm,
        "mean": mmaction.MEAN, "std": mmaction.STD,
    }  # fmt: skip


def _count_blocks(tensors: Mapping[str, Tensor], pathway: int) -> int:
    """Residual blocks in stage 3 (of 4 that have any), where depths differ."""
    numbers = range(100)
    parts = (f"{names.block(3, pathway, number)}branch2.conv_a.weight" for number in numbers)
    return sum(part in tensors for part in parts)


def _architecture(blocks: int, alpha: int, tensors: Mapping[str, Tensor]) -> str:
    if blocks == 1:
        return "slowfast_tiny"
    if blocks == 6:
        return "slowfast_r50" if alpha == 4 else "slowfast_r50_4x16"
    if blocks == 23:
        last = tensors[f"{names.block(3, 0, 22)}branch2.conv_a.weight"]
        return "slowfast_r101" if last.shape[2:3] == (3,) else "slowfast_16x8_r101_50_50"
    raise FileFault(f"has {blocks} blocks in its fourth stage, and those known have 6 or 23")


def describe(network: NetworkDescription) -> str:
    """What a network is, in words."""
    lateral = {
        (True, True): "BatchNorm and ReLU", (True, False): "BatchNorm", (False, True): "ReLU",
        (False, False): "neither BatchNorm nor ReLU",
    }[network.lateral_norm, network.lateral_activation]  # fmt: skip
    slow = "spread from first to last" if network.slow_frames == "linspace" else "every alpha-th"
    mean, std = (
        " ".join(f"{value:.4g}" for value in (values[:1] if len(set(values)) == 1 else values))
        for values in (network.mean, network.std)
    )
    return (
        f"{network.name}, alpha {network.alpha}, lateral kernels of {network.fusion_kernel} with "
        f"{lateral}, slow frames {slow}, mean {mean}, std {std}"
    )


def unknown_names(tensors: Mapping[str, Tensor]) -> str:
    """For a message: which names were found, and which are known."""
    return f"names its tensors {names.few(sorted(tensors))}, and known are {KNOWN}"
