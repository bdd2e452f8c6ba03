"""How a batch is shared out over processes, which a plan asks before there are any."""

from backbones.base.errors import UserError


def micro_batches(batch_size: int, batch_size_per_device: int, world_size: int) -> int:
    """Return how many micro-batches each process adds up in a step.

    Args:
        batch_size: Images a step over all processes.
        batch_size_per_device: Images a process holds at once.
        world_size: Number of processes.

    Raises:
        UserError: The batch cannot be shared out evenly.
    """
    if batch_size % (batch_size_per_device * world_size):
        processes = f"{world_size} processes" if world_size > 1 else "one process"
        raise UserError(
            f"The global batch of {batch_size} images cannot be shared out over {processes} with "
            f"{batch_size_per_device} images at once; use another number of processes, or change "
            "schedule.batch_size_per_device with --set."
        )
    return batch_size // (batch_size_per_device * world_size)
