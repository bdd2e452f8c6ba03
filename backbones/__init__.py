"""The vocabulary: networks, their weights and the one contract everything else reads.

Importing this package costs no torch: ``backbones.base.registry``, ``backbones.spec``,
``backbones.base.errors`` and ``base.files`` are plain Python, so that planning and ``--help``
answer at once. ``backbones.features`` and the networks themselves import torch.
"""
