"""Networks by name or configuration file, the tasks on them, and the size of the images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from mpvit.architecture.config import ModelConfig, load_config
from mpvit.architecture.variants import DEFAULT_VARIANT, NETWORKS, VARIANTS, get_config
from mpvit.attention import KINDS
from mpvit.dense import TASKS, Task, get_tasks
from mpvit.errors import UsageError
from mpvit.network import NamedNetwork
from mpvit.operations.conventions import CONVENTIONS
from mpvit_cli.options import Options, conflict, option, requires
from mpvit_cli.options.values import ALL, parse_names, parse_size, whole

SizeOption = Annotated[str, option("Image size in pixels: one side, or HEIGHTxWIDTH.", metavar="PIXELS", env="MPVIT_SIZE")]
BatchOption = Annotated[int, option("Images in the batch.", parser=whole, metavar="N")]
ConventionOption = Annotated[str, option("Convention of the MACs.", choices=CONVENTIONS)]
TaskOption = Annotated[
    str | None,
    option(f"Detector or segmenter on the network: {', '.join(TASKS)}.", "--task", metavar="NAME", choices=TASKS),
]


def variant_option(default: str, what: str = "Network", env: str | None = "MPVIT_VARIANT") -> Any:  # noqa: ANN401
    """Return the declaration of ``--variant`` for one network; ``default`` describes the network without the option."""
    return option(f"{what}: {', '.join(NETWORKS)}.", metavar="NAME", choices=NETWORKS, env=env, default=default)


class OneNetwork(Options):
    """One network: a variant or a configuration file."""

    variant: Annotated[str | None, variant_option(DEFAULT_VARIANT)] = None
    config: Annotated[Path | None, option("Configuration file of a network, instead of --variant.", metavar="FILE.toml")] = None

    def network(self, default: str = DEFAULT_VARIANT) -> tuple[str, ModelConfig]:
        """Return the network with its name, the variant ``default`` without either option."""
        if self.config and self.given("variant"):
            raise conflict(f"--variant {self.variant}", f"--config {self.config}")
        if self.config:
            return self.config.stem, load_config(self.config)
        name = self.variant or default
        return name, get_config(name)


class Networks(Options):
    """Several networks: variants and configuration files."""

    variant: Annotated[
        list[str] | None,
        option(
            f"Network: {', '.join(NETWORKS)}, or all for the published ones; repeatable or comma-separated.",
            metavar="NAME|all",
            choices=[ALL, *NETWORKS],
            env="MPVIT_VARIANT",
            default="all",
        ),
    ] = None
    config: Annotated[list[Path] | None, option("Configuration file of a network; repeatable.", metavar="FILE.toml")] = None

    def configs(self) -> dict[str, ModelConfig]:
        """Return the networks by name: every variant without either option."""
        default = [] if self.config else [ALL]
        models = {name: get_config(name) for name in parse_names(self.variant, VARIANTS, default)}
        for path in self.config or ():
            if path.stem in models:
                raise UsageError(f"--config {path}: there is already a network {path.stem!r}", hint="rename the file")
            models[path.stem] = load_config(path)
        return models


class TaskNumbers(Options):
    """The numbers of a detector or segmenter."""

    classes: Annotated[
        int | None, option("Classes of --task, without the background.", parser=whole, metavar="K", default="as published")
    ] = None
    proposals: Annotated[
        int | None, option("Proposals per image for the box head of mask-rcnn.", parser=whole, metavar="N", default="1000")
    ] = None
    detections: Annotated[
        int | None, option("Detections per image for the mask head of mask-rcnn.", parser=whole, metavar="N", default="100")
    ] = None

    def tasks(self, names: Sequence[str]) -> list[Task]:
        """Return the tasks of these names with the numbers that are given; none without names."""
        numbers = {"classes": self.classes, "proposals": self.proposals, "detections": self.detections}
        if names:
            return get_tasks(names, **numbers)
        for name, value in numbers.items():
            if value is not None:
                raise without_task(f"--{name}")
        return []


def without_task(flag: str) -> UsageError:
    """Return the error for an option that needs a task."""
    return requires(flag, "--task", hint=f"--task all, or one of {', '.join(TASKS)}")


class AttendingNetworks(Networks):
    """Several networks, each with its own attention or with another one."""

    attention: Annotated[
        str | None,
        option(
            f"Attention of every layer: {', '.join(KINDS)}; a number follows a colon, as in linformer:128.",
            metavar="KIND",
            choices=KINDS,
            default="the network's own",
        ),
    ] = None

    def configs(self) -> dict[str, ModelConfig]:
        """Return the networks by name; with another attention the name says so: "tiny+softmax"."""
        configs = super().configs()
        if self.attention is None:
            return configs
        return {f"{name}+{self.attention}": config.with_attention(self.attention) for name, config in configs.items()}


class TaskList(Options):
    """Detectors and segmenters."""

    task: Annotated[
        list[str] | None,
        option(
            f"Detector or segmenter on each network, at its published size and classes: {', '.join(TASKS)} or all; repeatable.",
            metavar="NAME|all",
            choices=[ALL, *TASKS],
        ),
    ] = None


class NetworksAndTasks(TaskNumbers, TaskList, AttendingNetworks):
    """Networks, alone or as the backbones of detectors and segmenters, and the batch of images that they get."""

    size: SizeOption = "224"
    batch: BatchOption = 1

    def networks(self) -> list[NamedNetwork]:
        """Return each network, under each task if there are any; a task has its own size unless one is chosen."""
        size, tasks = parse_size(self.size), self.tasks(parse_names(self.task, TASKS, []))
        if not tasks:
            return [NamedNetwork(name, config, size) for name, config in self.configs().items()]
        return [
            NamedNetwork(name, config, size if self.chosen("size") else task.size, task)
            for task in tasks
            for name, config in self.configs().items()
        ]
