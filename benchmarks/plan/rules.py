"""Rules: what this program came to do otherwise, for some networks or weights only.

A version of a task or of a protocol makes every older record stale. A rule does so only where it
applies: it is part of the identity of those runs (``RunSpec.rules``), and all other runs keep
their ids. An old record that a rule applies to is stale, and no table ranks it among new ones.

Imports no torch, except through ``RunFacts.network`` for networks of timm.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

from backbones.base.errors import UserError
from backbones.catalog import TIMM, get_spec
from backbones.checkpoint import OWN_FORMAT
from backbones.spec import BackboneSpec
from backbones.vit.positions_rule import BICUBIC, RULE_OF_METHOD
from backbones.weights.use import WeightsUse, is_nudged
from benchmarks.store.record import RunRecord
from benchmarks.store.spec import RunSpec
from benchmarks.task import PRETRAIN
from detection.config import at_depth

_DETECTION = "coco"
_PARTIAL = "partial"


@dataclass(frozen=True)
class RunFacts:
    """What rules are decided by, all known when a run is planned.

    Attributes:
        spec: Identity of the run, its rules aside.
        use: What the weights say about their use.
        plugins: Folder of additional backbones.
    """

    spec: RunSpec
    use: WeightsUse
    plugins: Path | None = None

    @cached_property
    def network(self) -> BackboneSpec:
        """The backbone; looking it up imports torch for networks of timm."""
        return get_spec(self.spec.backbone, self.plugins)

    def setting(self, section: str, name: str, default: Any) -> Any:
        """Return a value of the recipe, or ``default`` where the recipe has none."""
        return self.spec.recipe.get(section, {}).get(name, default)


@dataclass(frozen=True)
class Rule:
    """A way of doing something that holds for some runs.

    Attributes:
        name: Of the rule.
        version: Counts from 1; raised when the rule changes the numbers of its runs again.
        about: What runs under the rule have, in a few words.
        applies: Tells whether a run is under it.
    """

    name: str
    version: int
    about: str
    applies: Callable[[RunFacts], bool]

    @property
    def id(self) -> str:
        """The rule as a run's identity names it."""
        return f"{self.name}/{self.version}"


def _counts_layers(facts: RunFacts) -> bool:
    """Tell whether a network's layers, counted as blocks, change what a run does.

    Until layers were blocks, timm's own grouping of parameters was followed, see
    ``backbones.timm_networks.layers``.
    """
    if not facts.spec.backbone.startswith(TIMM) or not _reads_layers(facts):
        return False
    network = facts.network
    if not network.timm_layers:
        return False
    if facts.spec.task != _DETECTION:
        return True
    counts = (network.num_layers, network.timm_layers)
    decay, drop = (
        {at_depth(tuple(facts.setting(section, name, (default,))), count) for count in counts}
        for section, name, default in (("optim", "layer_decay", 1.0), ("model", "drop_path", 0.0))
    )
    named = str(facts.setting("model", "freeze", "none")).startswith("first-")
    # Rates of stochastic depth rise block by block in any counting, but one rate for all did not.
    ramped = network.layout == "plain" and drop != {0.0}
    return decay != {1.0} or len(drop) > 1 or named or ramped


def _reads_layers(facts: RunFacts) -> bool:
    """Tell, by the recipe, whether a run's numbers may depend on how layers are counted."""
    if facts.spec.task in (_DETECTION, _PARTIAL):
        return True
    rate = facts.setting("model", "drop_path", 0.0)
    return facts.setting("tune", "layer_decay", 1.0) != 1.0 or bool(rate)


def _resizes_positions(facts: RunFacts) -> bool:
    """Tell whether a table of positions is used at another size, by a rule of its method.

    Detectors resize every table by one rule, which was always ViTDet's.
    """
    size = facts.setting("data", "img_size", None)
    if facts.spec.task in (_DETECTION, PRETRAIN) or size is None:
        return False
    if facts.use.positions == BICUBIC or not facts.use.has_weights:
        return False
    table, network = facts.use.table, facts.network
    if (facts.use.positions or network.position_rule) == BICUBIC:
        return False
    if table is None:  # an own file, or an old record: by the size of pretraining
        pixels = facts.use.img_size or network.img_size
        table = ceil(pixels / network.strides[-1]) if network.position_table else 0
    return bool(table) and table != ceil(size / network.strides[-1])


def _keeps_windows(facts: RunFacts) -> bool:
    """Tell whether a detector's Swin has windows that timm would shrink or leave unshifted.

    Until detectors kept their windows, timm shrank the window of a stage to its map, and did not
    shift it, where the map was not larger than the window at the size the network was built for.
    """
    size = facts.setting("data", "img_size", None)
    if facts.spec.task != _DETECTION or size is None:
        return False
    network = facts.network
    for stride, (window, blocks) in zip(network.strides, network.swin_stages, strict=False):
        side = size // stride
        if side < window or (side == window and blocks > 1):
            return True
    return False


def _resizes_as_authors(facts: RunFacts) -> bool:
    """Tell whether a table of timm's DINO and DINOv2 weights is used at another size.

    Until this rule they followed timm, which leaves out the 0.1 of the authors' code.
    """
    form = facts.spec.weights_format.partition("&")[0]
    return form == "timm" and is_nudged(facts.spec.backbone) and _resizes_positions(facts)


def _resizes_as_trained(facts: RunFacts) -> bool:
    """Tell whether a network of timm that DINO or EsViT trained here is used at another size.

    Until this rule its table was resized with the 0.1 of DINO's code, without which it was trained.
    """
    own = facts.spec.weights_format.partition("&")[0] == OWN_FORMAT
    if not own or not facts.spec.backbone.startswith(TIMM):
        return False
    return facts.use.method in RULE_OF_METHOD and _resizes_positions(facts)


def _ramps_drop_path(facts: RunFacts) -> bool:
    """Tell whether stochastic depth rises in a network to which timm gives one rate."""
    if not facts.spec.backbone.startswith(TIMM) or not facts.setting("model", "drop_path", 0.0):
        return False
    network, rate = facts.network, facts.setting("model", "drop_path", 0.0)
    if isinstance(rate, list | tuple):
        rate = at_depth(tuple(rate), network.num_layers)
    return network.one_drop_rate and bool(rate)


def _pools_before_norm(facts: RunFacts) -> bool:
    """Tell whether a task reads the features of a network that norms after pooling."""
    return facts.spec.task not in (_DETECTION, PRETRAIN) and facts.use.norm_behind_pooling


RULES = (
    Rule("timm-layers", 1, "layers of timm networks are their blocks", _counts_layers),
    Rule("positions", 1, "position tables are resized as their method does", _resizes_positions),
    Rule("swin-windows", 1, "Swin keeps and shifts its windows on small maps", _keeps_windows),
    Rule(
        "author-positions",
        1,
        "positions of timm's DINO and DINOv2 are resized as their authors do",
        _resizes_as_authors,
    ),
    Rule(
        "trained-positions",
        1,
        "positions of timm networks pretrained here are resized as in training",
        _resizes_as_trained,
    ),
    Rule("drop-path", 1, "stochastic depth rises block by block", _ramps_drop_path),
    Rule("pooled-norm", 1, "the final norm stays behind mean pooling", _pools_before_norm),
)


def rules_of(facts: RunFacts) -> tuple[str, ...]:
    """Return the rules that apply to a run, as its identity names them."""
    return tuple(rule.id for rule in RULES if rule.applies(facts))


def known_rules() -> list[str]:
    """Return every rule of this program; a record keeps the list, so that nobody asks again."""
    return [rule.id for rule in RULES]


def about(rules: tuple[str, ...]) -> str:
    """Return what rules say, in words, behind their ids."""
    texts = {rule.id: f"{rule.id} ({rule.about})" for rule in RULES}
    return ", ".join(texts.get(rule, rule) for rule in rules)


def broken_rules(record: RunRecord) -> tuple[str, ...]:
    """Return the rules that apply to a record and that its run did not know.

    Whether a file of weights has its norm behind pooling is in no record, so that ``pooled-norm``
    is not told from the record alone; a new run of the same kind tells it.
    """
    known = record.environment.get("rules", ())
    unknown = [rule for rule in RULES if rule.id not in known and rule.id not in record.spec.rules]
    if not unknown:
        return ()
    backbone = record.backbone
    facts = RunFacts(
        record.spec,
        WeightsUse.of_record(record.spec.weights_sha256, backbone.format, backbone.method,
                             backbone.img_size, record.spec.backbone),
    )  # fmt: skip
    return tuple(rule.id for rule in unknown if _applies(rule, facts))


def _applies(rule: Rule, facts: RunFacts) -> bool:
    try:
        return rule.applies(facts)
    except (UserError, TypeError, ValueError):
        # A plug-in that is not at hand, or a recipe of another version: nothing can be told.
        return False
