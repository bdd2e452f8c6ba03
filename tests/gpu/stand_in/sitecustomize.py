"""Read by every Python whose path has this folder: once torch is there, the CPU does its work."""

import importlib.util
import os
import sys


class _AfterTorch:
    """Enters the mode right behind the import of torch."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        execute = spec.loader.exec_module

        def then_enter(module):
            execute(module)
            import stand_in_device

            stand_in_device.enter()

        spec.loader.exec_module = then_enter
        return spec


if os.environ.get("STAND_IN_GPUS"):
    sys.meta_path.insert(0, _AfterTorch())
