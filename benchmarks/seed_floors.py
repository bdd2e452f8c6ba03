"""How far trainings of one protocol lie apart when nothing but the seed differs.

A row with one seed cannot show its own scatter over trainings. Its protocol's seed floor stands in
for it, so that no interval, verdict or rank takes one training for all trainings
(``docs/statistics.md``). Tasks name their floors in ``Task.seed_floors``; all values that come with
Backbench are in this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from benchmarks.overrides import base_protocol

# Key of the floor that stands in for every protocol of a task without one of its own.
ANY_PROTOCOL = ""


@dataclass(frozen=True)
class SeedFloor:
    """The scatter of one protocol's metrics over trainings.

    Attributes:
        headline: Standard deviation of the task's headline over trainings, in its unit.
        source: Where it comes from, for people: runs and seeds, or a publication.
        assumed: It was not measured under this protocol on these data; ``source`` says what it
            rests on.
        spreads: Standard deviations of other metrics, by name.
        others: Standard deviation of metrics that ``spreads`` does not name; None takes the
            headline's.
        fresh: Standard deviations by metric for rows of fresh weights, which every seed draws
            anew; metrics that it does not name have the same floor as loaded weights.
        fresh_source: Where ``fresh`` comes from; empty where ``source`` says it.
    """

    headline: float
    source: str
    assumed: bool = True
    spreads: Mapping[str, float] = field(default_factory=dict)
    others: float | None = None
    fresh: Mapping[str, float] = field(default_factory=dict)
    fresh_source: str = ""

    def source_of(self, metric: str, fresh: bool) -> str:
        """Return where the standard deviation of a metric comes from.

        Args:
            metric: Name of the metric.
            fresh: As in ``of``.
        """
        return (self.fresh_source if fresh and metric in self.fresh else "") or self.source

    def of(self, metric: str, headline: str, fresh: bool = False) -> float:
        """Return the standard deviation of a metric over trainings, in the metric's unit.

        Args:
            metric: Name of the metric.
            headline: Name of the task's headline.
            fresh: Whether each seed draws the backbone's weights anew.
        """
        if fresh and metric in self.fresh:
            return self.fresh[metric]
        if metric in self.spreads:
            return self.spreads[metric]
        if metric == headline or self.others is None:
            return self.headline
        return self.others


def find_floor(
    floors: Mapping[str, SeedFloor], protocol: str, *, limited: bool = False
) -> SeedFloor | None:
    """Return the floor of a protocol, None where its task has none for it.

    A protocol without its own floor takes that of the protocol it derives from (the id up to a
    ``+``), else the task's floor for any protocol. Either is an assumption.

    Args:
        floors: A task's ``seed_floors``.
        protocol: Id in a record.
        limited: The rows use only some images of each split, so a measured floor is an assumption.
    """
    own = floors.get(protocol)
    if own is not None:
        return replace(own, assumed=own.assumed or limited)
    base = base_protocol(protocol)
    while base not in floors and "+" in base:
        base = base.rpartition("+")[0]
    near = floors.get(base)
    if near is not None:
        fresh = f"{near.fresh_source}, for {base}" if near.fresh_source else ""
        return replace(near, assumed=True, source=f"{near.source}, for {base}", fresh_source=fresh)
    known = floors.get(ANY_PROTOCOL)
    return None if known is None else replace(known, assumed=True)


_COCO_SOURCE = (
    "ViTDet's README has a standard deviation of 0.1 over 5 seeds, users of Mask2Former report "
    "43.2 to 43.7 for 4 trainings (its issue 46), authors of Sparse R-CNN +-0.3 (its issue 62)"
)
_TUNING_SOURCE = (
    "MAE's FINETUNE.md has a standard deviation of 0.08 over 4 seeds for ViT-B and 0.07 for ViT-L"
)
_UNMEASURED = "not measured"
_FRESH_SOURCE = "5 seeds each of vit-nano, swin-nano and resnet-nano"
_DETERMINISTIC = "nothing is drawn at random for loaded weights"

# By protocol; COCO's numbers by size have fewer objects each and vary more.
COCO_FLOORS: Mapping[str, SeedFloor] = {
    ANY_PROTOCOL: SeedFloor(0.3, _COCO_SOURCE, others=0.6),
    "small/v1": SeedFloor(1.5, f"{_UNMEASURED}; small sets vary more than COCO", others=3.0),
    "mini/v1": SeedFloor(
        1.31,
        "5 seeds each of 3 fresh nano networks, 3 seeds each of 7 pretrained ones",
        assumed=False,
        spreads={
            "APmask": 1.16,
            "AP50box": 1.85,
            "AP75box": 2.03,
            "APsbox": 1.33,
            "APmbox": 1.46,
            "APlbox": 5.35,
            "AP50mask": 1.93,
            "AR100box": 0.89,
        },
        others=3.0,
    ),
    "mini-frozen/v1+last": SeedFloor(1.3, f"{_UNMEASURED}; as for mini/v1", others=3.0),
}
# Nothing is known of what wrote a results file.
EXTERNAL_FLOORS: Mapping[str, SeedFloor] = {
    ANY_PROTOCOL: SeedFloor(
        0.3, f"{_COCO_SOURCE}; trainings on smaller data lie further apart", others=0.6
    ),
}
FINETUNE_FLOORS: Mapping[str, SeedFloor] = {
    ANY_PROTOCOL: SeedFloor(0.1, _TUNING_SOURCE, others=0.2),
    "finetune-vit-b16-10percent/v1": SeedFloor(0.4, _UNMEASURED),
    "finetune-vit-b16-1percent/v1": SeedFloor(1.0, _UNMEASURED),
    "finetune-mini/v2": SeedFloor(
        1.60, f"{_FRESH_SOURCE}, fresh", assumed=False, spreads={"finetune_top5": 0.63}
    ),
    "finetune-mini-10percent/v2": SeedFloor(5.0, _UNMEASURED),
}
LINEAR_FLOORS: Mapping[str, SeedFloor] = {
    ANY_PROTOCOL: SeedFloor(0.1, f"{_UNMEASURED}; as for fine-tuning"),
    "linear-mini/v1": SeedFloor(
        1.94,
        "3 seeds each of 11 pretrained nano networks",
        assumed=False,
        spreads={"linear_top5": 0.32},
        fresh={"linear_top1": 2.51, "linear_top5": 1.44, "linear_mean_class": 2.51},
        fresh_source=_FRESH_SOURCE,
    ),
}
LOWSHOT_FLOORS: Mapping[str, SeedFloor] = {
    ANY_PROTOCOL: SeedFloor(0.5, f"{_UNMEASURED}; seeds draw the labelled images"),
    "lowshot-logistic-mini/v1": SeedFloor(
        2.73,
        f"{_FRESH_SOURCE}, fresh",
        assumed=False,
        spreads={
            "lowshot1_top5": 3.10,
            "lowshot10_top1": 3.46,
            "lowshot10_top5": 2.16,
            "lowshot10_mean_class": 3.46,
        },
    ),
}
PARTIAL_FLOORS: Mapping[str, SeedFloor] = {
    ANY_PROTOCOL: SeedFloor(0.1, _TUNING_SOURCE),
    "partial-mini/v2": SeedFloor(
        2.08,
        f"{_FRESH_SOURCE}, fresh",
        assumed=False,
        spreads={"partial0_top1": 2.35, "partial_half_top1": 1.72, "partial_all_top1": 1.60},
    ),
}
REGIONS_FLOORS: Mapping[str, SeedFloor] = {
    ANY_PROTOCOL: SeedFloor(0.3, _UNMEASURED),
    "region-probe-mini/v1": SeedFloor(
        1.06,
        "3 seeds each of 11 pretrained nano networks and EfficientNet-Lite0",
        assumed=False,
        spreads={
            # Nothing is drawn at random for it.
            "region_knn_top1": 0.0,
            "region_mean_class": 1.07,
            "region_background_top1": 1.10,
            "region_iou": 0.25,
            "region_iou50": 0.60,
            "region_iou75": 1.38,
            "region_iou_small": 0.50,
            "region_iou_medium": 0.34,
            "region_iou_large": 1.02,
            "region_top1_small": 2.14,
            "region_top1_medium": 1.06,
            "region_top1_large": 5.77,
        },
        others=3.0,
        fresh={
            "region_top1": 1.70,
            "region_knn_top1": 1.87,
            "region_mean_class": 1.77,
            "region_background_top1": 1.15,
            "region_iou": 0.43,
            "region_iou50": 0.72,
            "region_iou75": 1.46,
            "region_iou_small": 0.75,
            "region_iou_medium": 0.46,
            "region_iou_large": 0.75,
            "region_top1_small": 3.45,
            "region_top1_medium": 2.20,
            "region_top1_large": 7.22,
        },
        fresh_source=f"{_FRESH_SOURCE}, 3 of EfficientNet-Lite0",
    ),
}
KNN_FLOORS: Mapping[str, SeedFloor] = {
    ANY_PROTOCOL: SeedFloor(
        0.0,
        _DETERMINISTIC,
        fresh={"knn_top1": 0.3, "knn_top5": 0.5},
        fresh_source=_UNMEASURED,
    ),
    "knn-mini/v1": SeedFloor(
        0.0,
        _DETERMINISTIC,
        assumed=False,
        fresh={"knn_top1": 1.94, "knn_top5": 1.33, "knn_mean_class": 1.94, "knn_real": 1.94},
        fresh_source=_FRESH_SOURCE,
    ),
}
CORRESPONDENCE_FLOORS: Mapping[str, SeedFloor] = {
    ANY_PROTOCOL: SeedFloor(0.3, f"{_UNMEASURED}; seeds draw the views"),
    "correspondence-mini/v1": SeedFloor(
        1.69,
        f"{_FRESH_SOURCE}, fresh",
        assumed=False,
        spreads={"correspondence_distance": 0.84},
    ),
}
ATTENTION_FLOORS: Mapping[str, SeedFloor] = {ANY_PROTOCOL: SeedFloor(0.0, _DETERMINISTIC)}
