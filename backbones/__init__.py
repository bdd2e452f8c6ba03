"""The vocabulary: networks, their weights and the one contract everything else reads.

Importing this package loads no torch. ``backbones.spec``, ``backbones.catalog`` and most of
``backbones.base`` are plain Python, so that planning and ``--help`` answer at once; the contract
"torch" in setup.cfg holds that. ``backbones.features`` and the networks load torch.
"""
