"""What all recipes for the mini data share. Imports no torch."""

from pretrain.config import ScheduleConfig

# 1,500 pictures for minutes on two CPU cores: small batches, since steps are what counts.
NANO_SCHEDULE = ScheduleConfig(
    epochs=40,
    batch_size=64,
    batch_size_per_device=64,
    warmup_epochs=2,
    precision="fp32",
    checkpoint_epochs=0,
    state_images=5_000,
)
