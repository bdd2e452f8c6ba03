"""Facts of published detectors, and where a measured one differs: then it is not held against them.

A fact is compared where both sides have it. A published row states its own facts or has those of
its protocol. For a protocol from here, the recipe fixes them for the row's network. A foreign
protocol has those in ``protocols.FOREIGN``, or else those of the nearest protocol from here.
Foreign rules without either are another detector.
"""

import re
from functools import cache

from backbones.catalog import TIMM, zoo
from backbones.vit.windows_rule import shifts_in_words
from benchmarks.leaderboard.facts import facts_of
from benchmarks.leaderboard.published.figures import PublishedRow
from benchmarks.leaderboard.published.protocols import STATED, foreign, nearest
from benchmarks.store.record import RunRecord
from benchmarks.suites import get_task
from detection.config import DetectionConfig
from detection.protocols import fit, patches_in_words, stated_facts

_DETECTION = "coco"
_NOT_RECORDED = "not recorded"
# Others follow settings, which ``band`` names one by one.
_COMPARED = ("attention", "relative positions", "patches", "neck reads", "windows")
# How sources name a network whose patch projection was resized for detection.
_RESIZED = re.compile(r"resized to (\d+)")


def published_facts(row: PublishedRow) -> dict[str, str]:
    """Return the facts of a published row's detector that are known, by name."""
    if row.facts or row.task != _DETECTION:
        return dict(row.facts)
    rules = foreign(row.protocol)
    if rules and rules.facts:
        return dict(rules.facts)
    protocol = nearest(row.protocol)
    found = dict(STATED.get(protocol) or _of_recipe(protocol, row.arch))
    if resized := _RESIZED.search(row.backbone):
        found["patches"] = patches_in_words(int(resized[1]))
    return found


def differences_of(row: PublishedRow, record: RunRecord) -> dict[str, tuple[str, str]]:
    """Return the facts in which a measured detector differs from a published one.

    Args:
        row: Published.
        record: Of a measured run.

    Returns:
        By name: the measured fact and the published one. A plain ViT of timm that was recorded
        before facts were kept differs in its attention, which nobody knows.
    """
    if row.task == _DETECTION and not row.facts and _states_nothing(row.protocol):
        return {"detector": (record.labels.protocol, f"{row.protocol}, which states no facts")}
    there, here = published_facts(row), _own_patches(record) | facts_of(record)
    if not facts_of(record) and "attention" in there and record.spec.backbone.startswith(TIMM):
        return {"attention": (_NOT_RECORDED, there["attention"])}
    return {
        name: (here[name], value)
        for name, value in there.items()
        if name in here and here[name] != value
    }


def _states_nothing(protocol: str) -> bool:
    """Tell whether rules are neither ours nor near to ours, and state no facts."""
    rules = foreign(protocol)
    # A lab's own rules have a name without a slash (``own``).
    return "/" not in protocol if rules is None else not (rules.facts or rules.nearest)


def _own_patches(record: RunRecord) -> dict[str, str]:
    """Return the patches of a plain network from here, also for records older than that fact."""
    network = zoo().get(record.spec.backbone)
    if record.spec.task != _DETECTION or network is None or network.layout != "plain":
        return {}
    return {"patches": patches_in_words(network.strides[0])}


@cache
def _of_recipe(protocol: str, arch: str) -> dict[str, str]:
    task = get_task(_DETECTION)
    configs = (make() for make in task.recipes().values())
    config = next((config for config in configs if config.protocol == protocol), None)
    network = zoo().get(arch)
    if not isinstance(config, DetectionConfig) or network is None:
        return {}
    config = fit(config.resolved(), network)
    if network.layout != "plain":
        stages = [
            [(window, block % 2 * (window // 2)) for block in range(blocks)]
            for window, blocks in network.swin_stages
        ]
        return {"windows": shifts_in_words(stages)} if stages else {}
    found = stated_facts(config, network.num_layers)
    found["patches"] = patches_in_words(network.strides[0])
    if config.model.relative_positions and arch.startswith("vit-"):
        found["relative positions"] = "decomposed"
    return {name: value for name, value in found.items() if name in _COMPARED}
