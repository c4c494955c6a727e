"""Fine-tune SlowFast video action recognition, on a laptop CPU, one GPU or many nodes."""

from slowfast_dist import renamed

renamed.install()
