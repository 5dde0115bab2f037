"""Tries a step on the longest batch before the run. A batch that does not fit is halved, and the accumulation
doubled."""

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from xr2text.config import TrainingConfig
from xr2text.data.dataset import ReportDataset, collate
from xr2text.errors import XR2TextError
from xr2text.training.objective import Batch, Objective
from xr2text.training.optim import build_optimizer

# Words by which oneDNN, the C++ library, cuBLAS and cuDNN say that memory is full; accelerate knows the others.
FULL = ("could not create a primitive", "could not create a memory", "std::bad_alloc", "STATUS_ALLOC_FAILED")


class OutOfMemoryError(XR2TextError):
    """Not even the smallest batch fits; the message says what may be changed."""


def fit_batch(objective: Objective, data: ReportDataset, settings: TrainingConfig, accelerator: Accelerator) -> None:
    """Halves `settings.batch_size` and doubles `gradient_accumulation_steps` until the longest batch fits. The studies
    of each update stay the same.

    Raises:
        OutOfMemoryError: not even a batch that cannot be halved fits.
    """
    if accelerator.distributed_type == DistributedType.FSDP:  # a single process cannot hold the sharded model
        accelerator.print("the longest batch is not tried beforehand under FSDP")
        return
    asked = settings.batch_size
    while not _fits(objective, data, settings, accelerator):
        if settings.batch_size % 2:
            raise OutOfMemoryError(
                f"not even a batch of {settings.batch_size} fits into the memory: training.gradient_checkpointing=all "
                "and training.optimizer=adamw_8bit need less, and a lower model.image_size"
            )
        settings.batch_size //= 2
        settings.gradient_accumulation_steps *= 2
    steps = accelerator.gradient_accumulation_steps = settings.gradient_accumulation_steps
    if settings.batch_size < asked:
        accelerator.print(f"batch {settings.batch_size}, gradient accumulation {steps}: what fits of batch {asked}")
    if torch.cuda.is_available():
        accelerator.print(f"the longest batch takes {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def _fits(objective: Objective, data: ReportDataset, settings: TrainingConfig, accelerator: Accelerator) -> bool:
    """Whether two updates on the longest batch fit on every process. Weights, buffers and random state stay as is."""
    batch = collate(data.longest_examples(settings.batch_size))
    before = {name: value.clone() for name, value in objective.named_buffers()}
    objective.alone, failed = True, 0.0  # does not wait for other processes, which may have failed
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        try:
            _steps(objective, batch, settings, accelerator)
        except (RuntimeError, MemoryError) as error:
            if not _is_full(error):
                raise
            failed = 1.0
    objective.alone = False
    objective.zero_grad(set_to_none=True)
    clear_device_cache(garbage_collection=True)
    for name, value in objective.named_buffers():
        value.copy_(before[name])
    return not accelerator.reduce(torch.tensor(failed, device=accelerator.device), "sum")


def _is_full(error: Exception) -> bool:
    """Whether the error means that memory is full, on the GPU or the machine."""
    full = isinstance(error, MemoryError | torch.OutOfMemoryError) or should_reduce_batch_size(error)
    return full or any(words in str(error) for words in FULL)


def _steps(objective: Objective, batch: Batch, settings: TrainingConfig, accelerator: Accelerator) -> None:
    """Two updates with learning rates of 0, which change no weight. The second one has the optimiser's states in
    memory."""
    frozen = settings.model_copy(update=dict.fromkeys(("lr_encoder", "lr_projection", "lr_decoder"), 0.0))
    optimizer = build_optimizer(objective.model, frozen)
    batch = {name: value.to(accelerator.device) for name, value in batch.items()}
    objective.train()
    for _ in range(2):
        with accelerator.autocast():
            loss = objective(batch, 0.0).loss
        loss.backward()
        optimizer.step()
        if settings.gradient_accumulation_steps == 1:  # else gradients wait for the next batch
            optimizer.zero_grad(set_to_none=True)
