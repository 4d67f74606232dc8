"""Filters for notices of libraries that do not help the user of an experiment."""

import logging
import warnings


def start_cells(threads: int) -> None:
    """Prepare a new process to run cells of a study.

    Args:
        threads: number of threads of torch.
    """
    # Lightning's logger keeps the stream that exists at its import, which must outlast the log of a cell.
    import lightning.pytorch  # noqa: F401
    import torch

    torch.set_num_threads(threads)
    quieten()


def quieten() -> None:
    """Silence Lightning's notices about devices and loaders, which do not concern the experiment."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    # Features lie in memory: loader processes would only copy them.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # The number of batches does not decide how often a user wants to log.
    warnings.filterwarnings("ignore", message=".*number of training batches.*is smaller than the logging interval.*")
    # Teachers and frozen backbones are in eval mode by design.
    warnings.filterwarnings("ignore", message=".*module\\(s\\) in eval mode at the start of training.*")
    # Lightning 2.6.6 calls a function of PyTorch that PyTorch has renamed.
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
    # A machine with Slurm can be used without it.
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system but is not used.*")
    # The sampler resumes within an epoch by itself, without a state of the loader.
    warnings.filterwarnings("ignore", message=".*ended before the epoch ended and your dataloader is not resumable.*")
    # A resumed stage trains in the folder of its first attempt by design.
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
