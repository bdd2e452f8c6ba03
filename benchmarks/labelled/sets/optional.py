"""Packages that one image set alone needs: the optional extra ``image-sets``."""

from importlib import import_module
from types import ModuleType

from backbones.base.errors import PreflightError


def import_optional(package: str, use: str) -> ModuleType:
    """Return a package.

    Args:
        package: Its name, the same in Python and for pip.
        use: What it is for, the beginning of a sentence.

    Raises:
        PreflightError: It is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise PreflightError(
            f"{use} needs the package {package}, which is not installed: pip install {package} "
            "(or backbench[image-sets])."
        ) from error
