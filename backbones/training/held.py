"""How many images a device may hold at once without changing what a run computes."""

from dataclasses import dataclass

from backbones.base.errors import UserError

# Behind the name of a network: why it fixes the number of images.
HAS_STATISTICS = " has batch norms, which see the images that are held at once"


@dataclass(frozen=True)
class Held:
    """The numbers of images that a device may hold at once under one run id.

    Attributes:
        by_recipe: Number in the recipe, which is part of the run's identity.
        fixed: Why another number would change the results, as a clause; empty where none does so.
        whole: Whether images of one micro-batch of the recipe must stay together (mixup, a
            detector's losses), so that only multiples of ``by_recipe`` change nothing.
        compared: Images that all processes hold together where this number is fixed, so that a
            process holds its share of them; 0 elsewhere.
    """

    by_recipe: int
    fixed: str = ""
    whole: bool = False
    compared: int = 0

    def allows(self, images: int) -> bool:
        """Return whether a device may hold ``images`` at once instead."""
        if images == self.by_recipe and not self.compared:
            return True
        if self.fixed or images < 1:
            return False
        divides = not self.whole and self.by_recipe % images == 0
        return divides or images % self.by_recipe == 0

    def refuse(self, images: int, network: str) -> None:
        """Refuse a number that would change the results.

        Args:
            images: Number that a device is to hold at once.
            network: Name of what is trained, for the message.

        Raises:
            UserError: It would.
        """
        if self.allows(images):
            return
        if self.compared:
            raise UserError(
                f"schedule.micro_batch: {images} is not supported, because {self.fixed}: a process "
                f"holds its share of {self.compared}. Use model.compared=N to compare fewer, which "
                "makes another protocol."
            )
        raise UserError(
            f"schedule.micro_batch: {images} is not supported for {network}; use {self.words()}, "
            "or schedule.batch_size_per_device, which makes another protocol."
        )

    def words(self) -> str:
        """Return the allowed numbers in words."""
        if self.fixed:
            return f"{self.by_recipe} ({self.fixed})"
        return f"a multiple {'' if self.whole else 'or a divisor '}of {self.by_recipe}"

    def least(self, batch_size: int) -> int:
        """Return the smallest number that a device may hold at once.

        Args:
            batch_size: Images a step over all processes.
        """
        if self.compared:
            return batch_size // self.compared
        return self.by_recipe if self.fixed or self.whole else 1

    def choices(self, share: int) -> list[int]:
        """Return all allowed numbers that divide a process's share of a step, largest first.

        Args:
            share: Images of a process in a step.
        """
        return [n for n in range(share, 0, -1) if share % n == 0 and self.allows(n)]

    def halved(self, images: int) -> int | None:
        """Return half of a number where that is allowed, None elsewhere."""
        half = images // 2
        return half if images % 2 == 0 and self.allows(half) else None
