"""What a training imports: by name, and later on, in torch's optimizers and in Accelerate."""

import sklearn.metrics
import torch._dynamo
import torch.distributed.fsdp

import slowfast_dist.cli.main
import slowfast_dist.report.command
import slowfast_dist.training.run

__all__ = ["sklearn", "slowfast_dist", "torch"]
