"""A CUDA without a GPU: builds the stand-in, and runs a command in it.

    python -m tests.gpu.stand_in --gpus 2 python -m pytest tests/gpu -m gpu

torch then believes in GPUs of compute capability 9.0, whose operators the CPU carries out. Shown
are devices that do not go together, memory that is asked for, and all of our own code that runs
only where there is a GPU. Not shown are real kernels, their rounding, NCCL, races and speed.
"""
