"""Single regions of test images under a frozen backbone."""
