"""Base tools that know nothing about networks: files, processes, devices, errors."""
