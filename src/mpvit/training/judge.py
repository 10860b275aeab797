"""Evaluating what is in a weights file on data, as a person asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpvit.dense.torch_network import fuse_backbone
from mpvit.errors import MpvitError, UsageError, unknown_name
from mpvit.training.data import UNJUDGED, Data, Part, open_data
from mpvit.training.evaluation import evaluate
from mpvit.training.processes import readable
from mpvit.training.results import Evaluation
from mpvit.training.segmented import SegmenterEvaluation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from accelerate import Accelerator
    from PIL.Image import Image

    from mpvit.model.metadata import TrainingRecord
    from mpvit.prediction.exported import ExportedClassifier
    from mpvit.prediction.inference import InferenceConfig, Network
    from mpvit.prediction.segmentation import Segmenter
    from mpvit.training.data import Masks

PARTS = ("held-out", "all")

MODES = ("plain", "fused")


def check_asked(part: str | None, mode: str) -> None:
    """Raise ``UsageError`` for a part or a mode that there is not."""
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    if part is not None and part not in PARTS:
        raise unknown_name("part", part, PARTS)


def judge(
    network: Network | ExportedClassifier | Segmenter,
    text: str,
    accelerator: Accelerator,
    *,
    how: InferenceConfig,
    part: str | None,
    mode: str,
    workers: int,
    watch: Callable[[Iterable[Any], str, int], Iterable[Any]],
) -> Evaluation | SegmenterEvaluation:
    """Return how well ``network`` does on the data that ``text`` names, as ``mpvit eval`` has it.

    A segmenter is shown data with masks.

    ``part`` None is what the network has not seen: what the data holds out itself, or what its training held out of data of
    this name; else everything. Pictures that cannot be read are left out and named. Raises ``UsageError`` for classes that
    the network does not know.
    """
    task = network.about.task
    data = open_data(text, masked=bool(task))
    part = part or ("held-out" if not data.share or _held_out(network.about.training, data) else "all")
    if part == "held-out" and not data.held_out.pictures:
        data.require_trainable()
    data = readable(data, accelerator, workers, watch)
    looked_at = by_name(data.held_out if part == "held-out" else data.all, data, network)
    if not looked_at.pictures:
        raise MpvitError(f"no picture of {data.name} can be read")
    found = evaluate(
        _running(network, mode, accelerator),
        looked_at,
        how,
        accelerator,
        classes=len(network.classes),
        batch=how.batch,
        workers=workers,
        watch=watch,
    )
    known = {
        "data": data.name,
        "part": part,
        "model": network.about.model,
        "weights": str(network.about.weights),
        "classes": network.classes,
        "damaged": data.damaged,
        **found._asdict(),
    }
    return SegmenterEvaluation(task=task, images=looked_at.pictures, **known) if task else Evaluation(**known)


def _held_out(trained: TrainingRecord | None, data: Data) -> bool:
    """Tell whether the network was trained on data of this name, a share of which its training held out."""
    return trained is not None and trained.data == data.name and trained.held_out == data.share


def by_name(part: Part, data: Data, network: Network | ExportedClassifier | Segmenter) -> Part:
    """Return the pictures with the network's indices for their classes: by name or, where no name fits, in their order."""
    places = {name: index for index, name in enumerate(network.classes)}
    unknown = [name for name in data.classes if name not in places]
    if not unknown and part.masks:
        return part._replace(masks=_Renumbered(part.masks, [places[name] for name in data.classes]))
    if not unknown:
        return part._replace(targets=tuple(places[data.classes[target]] for target in part.targets))
    if len(data.classes) == len(network.classes):
        return part
    raise UsageError(
        f"{data.name} has {len(data.classes)} classes, the network {len(network.classes)}, {unknown[0]!r} not among them",
        hint="classes go by their names or, where there are as many, by their order",
    )


@dataclass(frozen=True, slots=True)
class _Renumbered:
    """Masks with other indices: ``indices`` has the new one of each class."""

    masks: Masks
    indices: Sequence[int]

    def mask(self, place: int) -> Image:
        unchanged = range(len(self.indices), UNJUDGED + 1)
        return self.masks.mask(place).point([*self.indices, *unchanged])


def _running(network: Network | ExportedClassifier | Segmenter, mode: str, accelerator: Accelerator) -> Any:  # noqa: ANN401 - see below
    """Return what maps pictures to logits."""
    from mpvit.export.exported_network import ExportedNetwork
    from mpvit.model.fused import fuse
    from mpvit.model.network import MPViT

    if isinstance(network.model, ExportedNetwork):
        if mode != "plain" or accelerator.device.type != "cpu":
            raise UsageError(
                f"{network.about.weights} is exported: it runs as it was made, on the cpu",
                hint="leave --mode and --device away",
            )
        return network.model
    model = network.model.to(accelerator.device).eval()
    if mode != "fused":
        return model
    return fuse(model, keep_memory=True) if isinstance(model, MPViT) else fuse_backbone(model, keep_memory=True)
