"""What is watched while a training runs: the console and wandb."""
