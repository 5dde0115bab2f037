import copy

import pytest
import torch
from accelerate import Accelerator

from xr2text.config import DataConfig, TrainingConfig
from xr2text.data.dataset import ReportDataset
from xr2text.data.sources import load_studies
from xr2text.training import memory
from xr2text.training.memory import OutOfMemoryError, fit_batch


@pytest.fixture
def objective(make_objective):
    return make_objective(ce=1, load_balance=0.1, findings=1)


@pytest.fixture
def data(objective, tiny):
    studies = load_studies(DataConfig(source="phantom", phantoms=6), ["cardiomegaly"])["train"]
    transform = objective.model.transform
    return ReportDataset(studies, transform, tiny.tokenizer, 40, findings=["cardiomegaly"], training=True)


def test_the_try_leaves_no_trace(objective, data):
    settings = TrainingConfig(batch_size=4, gradient_accumulation_steps=2)
    before, random = copy.deepcopy(objective.state_dict()), torch.get_rng_state()
    fit_batch(objective, data, settings, Accelerator(cpu=True))
    assert (settings.batch_size, settings.gradient_accumulation_steps) == (4, 2)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in objective.parameters())


FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB"),
    RuntimeError("could not create a primitive descriptor for the matmul primitive"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
)


def test_a_batch_that_does_not_fit_is_halved(objective, data, monkeypatch):
    tried = []

    def small_machine(objective, batch, settings, accelerator):
        tried.append(len(batch["index"]))
        if tried[-1] > 2:
            raise error

    monkeypatch.setattr(memory, "_steps", small_machine)
    accelerator = Accelerator(cpu=True)
    for error in FULL:
        settings = TrainingConfig(batch_size=8)
        tried.clear()
        fit_batch(objective, data, settings, accelerator)
        assert tried == [8, 4, 2], error
        assert (settings.batch_size, settings.gradient_accumulation_steps) == (2, 4)
        assert accelerator.gradient_accumulation_steps == 4
    with pytest.raises(OutOfMemoryError, match="not even a batch of 5 fits"):
        fit_batch(objective, data, TrainingConfig(batch_size=5), accelerator)


def test_other_faults_keep_their_traceback(objective, data, monkeypatch):
    def broken(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x8 and 9x3)")

    monkeypatch.setattr(memory, "_steps", broken)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fit_batch(objective, data, TrainingConfig(batch_size=4), Accelerator(cpu=True))
