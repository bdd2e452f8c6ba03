"""The embedded mini data: a small detection set and a classification set, made on first use."""

from benchmarks.data.mini.cache import MINI_SHA256, MINI_VERSION, MiniData, mini_data

__all__ = ["MINI_SHA256", "MINI_VERSION", "MiniData", "mini_data"]
