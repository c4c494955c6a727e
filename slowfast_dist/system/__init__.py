"""This machine: child processes, signals, memory, CPUs, files, progress."""
