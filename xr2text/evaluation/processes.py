"""How several processes share an evaluation, as `torchrun` and `accelerate launch` start them."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed

from xr2text.errors import XR2TextError

# One process may wait for another that has much more left to do.
LONGEST_WAIT = timedelta(hours=24)


class LauncherError(XR2TextError, ValueError):
    """What a launcher says of the processes does not fit; the message says what is accepted."""


@dataclass(frozen=True)
class Processes:
    """This process among those that share the work; as a context manager it leaves the group at the end.

    Attributes:
        rank: of this process, 0 to count - 1.
        count: of all processes, on all machines.
        local_rank: of this process on its machine, which picks its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> "Processes":
        """Joins the group that RANK, WORLD_SIZE and LOCAL_RANK tell of; a single process where they are absent.

        Raises:
            LauncherError: only some of the variables are set, or a value is not accepted.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        missing = [name for name in names if name not in os.environ]
        if len(missing) == len(names):
            return cls()
        if missing:
            raise LauncherError(
                f"of the launcher's variables {', '.join(names)} this process lacks {', '.join(missing)}; "
                "start it by torchrun or accelerate launch, or set none of them"
            )
        values = [os.environ[name] for name in names]
        if not all(value.isdecimal() for value in values) or int(values[0]) >= int(values[1]):
            raise LauncherError(
                f"RANK, WORLD_SIZE and LOCAL_RANK are {', '.join(map(repr, values))}; "
                "accepted: whole numbers, RANK below WORLD_SIZE"
            )
        processes = cls(*map(int, values))
        if processes.count > 1:
            # Files carry the results; the group is there to wait in, for which no GPU is needed.
            torch.distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
        return processes

    @property
    def is_main(self) -> bool:
        """Whether this process shows progress and writes what is written once."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """This process's own GPU, or the CPU where there is none.

        Raises:
            LauncherError: there are GPUs, but fewer than processes on this machine.
        """
        if not torch.cuda.is_available():
            return torch.device("cpu")
        if self.local_rank >= torch.cuda.device_count():
            raise LauncherError(
                f"process {self.local_rank} of this machine has no GPU of its own, there are "
                f"{torch.cuda.device_count()}; launch at most one process for each"
            )
        return torch.device("cuda", self.local_rank)

    def wait(self) -> None:
        """Returns once every process has come here. Raises RuntimeError where one of them has gone."""
        if self.count > 1:
            torch.distributed.barrier()

    def close(self) -> None:
        """Leaves the group; processes that wait for this one then stop."""
        if self.count > 1:
            torch.distributed.destroy_process_group()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_) -> None:
        self.close()
