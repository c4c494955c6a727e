"""The formats of annotation tools and datasets, a module each: their readers and writers."""
