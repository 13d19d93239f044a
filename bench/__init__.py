"""Figures of CPU and memory, each with its method. CPU time, not wall-clock: the machines are shared."""
