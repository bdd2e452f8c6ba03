"""The vocabulary: networks, their weights and the one contract everything else reads.

Importing this package costs no torch: ``backbones.registry``, ``backbones.spec``,
``backbones.errors`` and ``backbones.files`` are plain Python, so that planning and ``--help``
answer at once. ``backbones.features`` and the networks themselves import torch.
"""
