"""timm's networks in the ``Backbone`` contract."""
