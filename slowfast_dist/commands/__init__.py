"""What only a user calls: one module or folder a command, none of which imports another."""
