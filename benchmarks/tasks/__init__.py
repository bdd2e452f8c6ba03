"""What is measured: one module a task; a module that defines ``TASK`` registers it."""
