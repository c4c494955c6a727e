"""Labels as people have them: files that say which video shows what, read as rows."""
