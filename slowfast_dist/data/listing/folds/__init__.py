"""The parts of a cross-validation: each group in one of them, the classes spread over all."""
