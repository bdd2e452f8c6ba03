"""Checkpoint to APbox and APmask: adapters, Mask R-CNN, COCO.

The only package that imports detectron2. ``detection.config``, ``detection.recipes`` and
``detection.schedule`` import neither it nor torch, so that a plan is made at once.
"""
