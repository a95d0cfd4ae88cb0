"""One run in several processes, one a device, that together compute what one process would.

Every process takes its share of the same global batches. The network's output and the labels are gathered, on the
small grid where the loss is computed, and every process computes the loss of the whole batch: Dice, Tversky and Lovász
are sums or orders over all pixels of a batch, and no average of their values on shares is their value on the batch.
Gradients flow back through a process's own share alone, so their sum over the processes is the gradient.

In a single process every function here returns what it was given.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import torch
from torch import distributed as dist

from deeplab_lib.common.errors import SIGNALS, RunStopped, Stop, is_out_of_memory
from deeplab_lib.models.network import SegmentationNetwork

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from deeplab_lib.config import Config

T = TypeVar("T")
P = ParamSpec("P")


class PeerLost(RuntimeError):
    """Another process of the run is gone; why, it has said itself, or it was killed."""


# -- what the training loop calls --------------------------------------------------------------------------------------


def size() -> int:
    """Number of processes in this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if size() > 1 else 0


def first_only(function: Callable[P, T]) -> Callable[P, T | None]:
    """Decorator: the function runs in the first process and returns None in the others."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T | None:
        return function(*args, **kwargs) if rank() == 0 else None

    return wrapper


def from_first(function: Callable[..., T], *args: Any) -> T:
    """`function(*args)`, called in the first process alone; its result in all, so that all take the same way."""
    if size() == 1:
        return function(*args)
    result: list[Any] = [function(*args) if rank() == 0 else None]
    with rethrow():
        dist.broadcast_object_list(result, src=0)
    return result[0]


def share(numbers: Sequence[T], parts: int = 1) -> list[T]:
    """This process's items of a batch: its contiguous share of each of the batch's `parts` equal micro-batches."""
    each, processes = len(numbers) // parts, size()
    own = each // processes
    starts = (first + rank() * own for first in range(0, each * parts, each))
    return [item for start in starts for item in numbers[start : start + own]]


def scatter(batches: Sequence[T]) -> list[T]:
    """This process's batches, dealt one by one.

    Everyone gets as many, so that all stay in step: who would go short repeats the last one; see `gather_results`.
    """
    rounds = range(rank(), size() * -(-len(batches) // size()), size())
    return [batches[min(number, len(batches) - 1)] for number in rounds]


def gather_results(results: list[T], count: int) -> list[T]:
    """The results of all `count` dealt batches, in the batches' order, from everyone's own; repeats are left out."""
    if size() == 1:
        return results
    per_rank: list[list[T]] = [[] for _ in range(size())]
    with rethrow():
        dist.all_gather_object(per_rank, results)
    return [result for turn in zip(*per_rank, strict=True) for result in turn][:count]


def gather(tensor: torch.Tensor) -> torch.Tensor:
    """The shares `(n, ...)` of all processes joined to `(n * processes, ...)`; gradients reach the own share only."""
    if size() == 1:
        return tensor
    shares = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(size())]
    with rethrow():
        dist.all_gather(shares, tensor.detach().contiguous())
    shares[rank()] = tensor
    return torch.cat(shares)


def sum_gradients(model: torch.nn.Module) -> None:
    """Add up every trained parameter's gradient over all processes.

    One plain sum a step rather than DistributedDataParallel, which averages, must be wrapped anew when layers freeze,
    and reduces after every micro-batch; it would hide part of the communication behind the backward pass.
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if size() == 1 or not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    with rethrow():
        dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(total.view(gradient.shape))


def synchronize_batch_norm(model: SegmentationNetwork) -> SegmentationNetwork:
    """The model with batch norms that take their statistics from the whole batch when they follow the batches."""
    return model.synchronized() if size() > 1 and model.bn == "train" else model


def sync_stop(stop: Stop) -> Stop:
    """Let a stop that any process was asked for be known to all; every process must call this at the same step."""
    if size() > 1:
        number = torch.tensor(signal.Signals[stop.requested] if stop.requested else 0)
        with rethrow():
            dist.all_reduce(number, dist.ReduceOp.MAX)
        stop.requested = signal.Signals(int(number)).name if number else None
    return stop


def wait() -> None:
    """Wait until every process is here."""
    sync_stop(Stop())


@contextmanager
def rethrow() -> Iterator[None]:
    """Tell an exchange that failed because another process is gone by its own name."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise PeerLost(f"process {rank()} of {size()} lost contact to the others: {error}") from error


# -- starting and ending the processes ---------------------------------------------------------------------------------


def launch(config: Config, function: Callable[..., object], args: tuple[Any, ...], stop: Stop) -> object:
    """Call `function(*args, stop)` here or, with `config.gpus` above 1, in as many new processes.

    `function` must be importable and `args` must pickle. What one process raises is raised here; a process that was
    killed, or a stop, is raised as `RunStopped`. No process is left behind.
    """
    if config.gpus == 1:
        return function(*args, stop)
    try:
        pickle.dumps((function, args))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"gpus={config.gpus} hands everything to new processes, and this cannot be: {error}") from None
    # On one machine; imported late, for it takes a second. With restarts the launcher can hang: running again resumes.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Of a stop: a step, a checkpoint and a slow disk take longer than the launcher's own half a minute.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "100")
    setup = config.device, max(1, torch.get_num_threads() // config.gpus), multiprocessing.get_start_method()
    with tempfile.TemporaryDirectory(prefix="deeplab-") as folder, launcher_contained(SignalException):
        setting = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=config.gpus,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(setting, work)(folder, setup, function, args, stop.requested)
        except ChildFailedError as ended:
            raise_cause(folder, config.gpus, describe_failure(folder, ended))
        except SignalException as ended:
            raise_cause(folder, config.gpus, f"stopped by {signal.Signals(ended.sigval).name}")
    return None


def check_guarded() -> None:
    """Refuse to train while a new process is only loading its parent's script: it would wait for the run's lock."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError('a script that trains must guard its call of fit: put it under if __name__ == "__main__":')


def work(
    folder: str,
    setup: tuple[str, int, str],
    function: Callable[..., object],
    args: tuple[Any, ...],
    requested: str | None,
) -> None:
    """What each process does: join the others, then call `function`; leave word of an error in `folder`."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    device, threads, start_method = setup
    torch.set_num_threads(threads)
    # A spawned process would spawn its loader's processes too, and import everything anew for every epoch.
    multiprocessing.set_start_method(start_method, force=True)
    own = int(os.environ["LOCAL_RANK"])
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(own)
        backend = "cpu:gloo,cuda:nccl" if dist.is_nccl_available() else "gloo"
    else:
        backend = "gloo"
    with Stop.listening(patient=True) as stop:
        stop.requested = requested
        try:
            dist.init_process_group(backend)
            function(*args, stop)
            wait()
        except BaseException as error:
            Path(folder, f"{own}.error").write_bytes(portable(error))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)  # an orderly end would wait for the others, perhaps for ever
        dist.destroy_process_group()


def end_with_parent() -> NoReturn:
    """End this process once its parent has ended, however that was: the run's lock fell with the parent."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


def portable(error: BaseException) -> bytes:
    """An exception and its traceback as bytes; one that cannot be pickled as a RuntimeError that says the same."""
    text = "".join(traceback.format_exception(error))
    try:
        content = pickle.dumps((error, text))
        pickle.loads(content)
    except Exception:  # whatever an exception's own pickling raises
        content = pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), text))
    return content


def raise_cause(folder: str, count: int, otherwise: str) -> NoReturn:
    """Raise what the first process that did not merely lose the others has said, else `RunStopped(otherwise)`."""
    for number in range(count):
        path = Path(folder, f"{number}.error")
        error, text = pickle.loads(path.read_bytes()) if path.exists() else (PeerLost(), "")
        if isinstance(error, RunStopped):
            raise error from None
        if not isinstance(error, PeerLost | dist.DistError):
            raise error from ProcessTraceback(f"in process {number} of {count}:\n{text}")
    raise RunStopped(f"{otherwise}; the same command continues from the last checkpoint") from None


class ProcessTraceback(Exception):
    """Carries the traceback of another process, so that it is shown with the error."""


def describe_failure(folder: str, failed: ChildFailedError) -> str:
    """Which process ended without a word, and how, as far as the launcher knows."""
    number, failure = next(iter(failed.failures.items()))
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        return f"process {number} of the run was killed by {name} (by SIGKILL most often because memory was short)"
    path = Path(folder, f"{number}.error")
    if not path.exists():
        return f"process {number} of the run could not start (exit code {failure.exitcode}); its message stands above"
    lost, _ = pickle.loads(path.read_bytes())
    return f"{lost} (if no process has said why: one was killed, most often because memory was short)"


@contextmanager
def launcher_contained(exception: type[SignalException]) -> Iterator[None]:
    """Give signals that arrive meanwhile to the launcher as its own `exception`, and undo what it leaves in here.

    It replaces signal handlers, logs every ending as an error, and may leave processes behind if stopped repeatedly.
    """

    def hand_over(number: int, frame: FrameType | None) -> NoReturn:
        for other in numbers - {signal.SIGINT}:
            signal.signal(other, signal.SIG_IGN)  # schedulers repeat themselves, and a third one would end all at once
        raise exception(f"got signal {number}", sigval=signal.Signals(number))

    in_main = threading.current_thread() is threading.main_thread()
    numbers = {*SIGNALS, *(getattr(signal, name) for name in ("SIGQUIT",) if hasattr(signal, name))}
    handlers = {number: signal.signal(number, hand_over) for number in numbers} if in_main else {}
    loggers = [logging.getLogger(name) for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn")]
    silence, earlier = logging.NullHandler(), set(multiprocessing.active_children())
    for logger in loggers:
        logger.addHandler(silence)
        logger.propagate = False
    try:
        yield
    finally:
        for process in set(multiprocessing.active_children()) - earlier:
            process.kill()
        for logger in loggers:
            logger.removeHandler(silence)
            logger.propagate = True
        for number, handler in handlers.items():
            signal.signal(number, handler)
