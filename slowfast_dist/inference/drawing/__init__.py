"""Pictures about what a model says, and what their files are called."""
