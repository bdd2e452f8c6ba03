"""What student and teacher of self-distillation compare: views, and regions within them."""

from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.parts.distilled.prototype_loss import Pairs


@dataclass(frozen=True)
class Crops:
    """How many crops an image has, and how many rows each of them: 1, or its regions.

    Attributes:
        num_global: Seen by student and teacher; they come first.
        num_local: Seen by the student alone.
        global_rows: Rows of a global crop.
        local_rows: Rows of a local crop.
    """

    num_global: int
    num_local: int
    global_rows: int = 1
    local_rows: int = 1

    @property
    def rows(self) -> list[int]:
        """Rows of each crop of the student."""
        return [self.global_rows] * self.num_global + [self.local_rows] * self.num_local


def pair_views(crops: Crops, like: Tensor) -> Pairs:
    """Pair every crop of the student with every global crop of the teacher but itself.

    Args:
        crops: With one row each.
        like: (B, ...), for number of images, device and type.
    """
    best = torch.arange(crops.num_global, device=like.device)
    return _pairs(best.expand(len(like), len(crops.rows), -1), crops)


def pair_regions(crops: Crops, student: Tensor, teacher: Tensor) -> Pairs:
    """Pair every region of the student with the most similar one in each of these crops.

    Li et al. 2022 (EsViT), equation 2: by cosine of backbone features, in the same image, local
    crops included on the student's side.

    Args:
        crops: Of each image.
        student: (B, R, C), regions of all crops, crop after crop; no gradient goes there.
        teacher: (B, num_global * global_rows, C), likewise.
    """
    with torch.autocast(student.device.type, enabled=False):
        wide = torch.promote_types(student.dtype, torch.float32)
        ours = F.normalize(student.detach().to(wide), dim=-1)
        theirs = F.normalize(teacher.detach().to(wide), dim=-1)
        views = torch.chunk(theirs, crops.num_global, dim=1)
        best = torch.stack([(ours @ v.transpose(1, 2)).argmax(dim=2) for v in views], dim=2)
    first = torch.arange(crops.num_global, device=best.device) * crops.global_rows
    return _pairs(best + first, crops)


def _pairs(best: Tensor, crops: Crops) -> Pairs:
    """Drop the pairs within one crop.

    Args:
        best: (B, R, num_global), for each row of the student one of the teacher in each crop.
        crops: Of each image.
    """
    views = range(crops.num_global)
    others = [[i != v for i in views] for v, rows in enumerate(crops.rows) for _ in range(rows)]
    terms = sum(i != v for i in views for v in range(len(crops.rows)))
    shares = [
        sum(i != v for i in views) / (terms * rows)
        for v, rows in enumerate(crops.rows)
        for _ in range(rows)
    ]
    wanted = torch.tensor(others, device=best.device)
    return Pairs(
        match=best[:, wanted],
        starts=(0, *accumulate(sum(row) for row in others)),
        weights=torch.tensor(shares, dtype=torch.float64, device=best.device),
    )
