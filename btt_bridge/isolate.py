"""Child processes for work that may die: each job has a time and a memory limit, and a killer costs only itself.

A small fork server (`_serve_forks`) is started once, imports what the jobs need, and forks children on request; so a
dead child is replaced in milliseconds, and no process that has threads is ever forked. Children answer over a socket
of their own. What they answer is read by an unpickler that knows records and plain values only, for a child that has
read hostile bytes is itself a stranger.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Self, TypeVar

from btt_bridge.errors import (
    BridgeError,
    FunctionFailedError,
    IsolationError,
    ProcessDiedError,
    ProcessTimedOutError,
)

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_PR_SET_PDEATHSIG = 1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Pause between two looks at the limits of running jobs: memory can overshoot by what is filled in this time.
_WATCH_SECONDS = 0.05
_SPAWN, _KILL = 1, 2
_PID_BYTES = 4

#: Classes besides those of btt_bridge that a child may answer with.
_PLAIN = frozenset({
    "builtins.bytearray", "builtins.complex", "builtins.frozenset", "builtins.set",
    "collections.OrderedDict", "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta",
    "datetime.timezone", "decimal.Decimal", "numpy.dtype", "numpy.ndarray", "pathlib.PosixPath",
})  # fmt: skip
#: The functions that numpy's own pickles call.
_NUMPY_BUILDERS = frozenset({
    "numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar", "numpy._core.numeric._frombuffer",
    "numpy.core.multiarray._reconstruct", "numpy.core.multiarray.scalar", "numpy.core.numeric._frombuffer",
})  # fmt: skip


class Isolation:
    """A pool of child processes; safe to use from many threads."""

    def __init__(
        self,
        processes: int,
        memory_bytes_max: int,
        seconds_max: float,
        preload: Sequence[str] = (),
        *,
        jobs_max: int = 0,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        """Start the children; they become ready in the background.

        `memory_bytes_max` bounds one child's own memory, `seconds_max` one call of `run` or one item of `each`.
        Modules in `preload` are imported once, before forking. A child is replaced after `jobs_max` jobs (0: never).
        `prepare` runs in each new child before its first job.
        """
        self._processes = processes
        self._memory_bytes_max = memory_bytes_max
        self._seconds_max = seconds_max
        self._jobs_max = jobs_max
        self._fork_server = _ForkServer(preload, prepare)
        self._closed = False
        self._changed = threading.Condition()
        self._idle = [self._spawn() for _ in range(processes)]
        self._busy: set[_Child] = set()
        self._callers = ThreadPoolExecutor(processes, thread_name_prefix="isolation")
        self._watcher = threading.Thread(target=self._watch, name="isolation-watch", daemon=True)
        self._watcher.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, function: Callable[..., Answer], *args: Any, seconds_max: float | None = None) -> Answer:
        """Call `function(*args)` in a child and return its answer.

        Raises the function's own BridgeError; FunctionFailedError, without the text, for any other exception of its;
        ProcessDiedError or ProcessTimedOutError when the child is gone.
        """
        answer: Answer
        (answer,) = self._job(function, [args], seconds_max or self._seconds_max)
        if isinstance(answer, BridgeError):
            raise answer
        return answer

    def each(
        self, function: Callable[[Item], Answer], items: Sequence[Item], batch: int = 16
    ) -> list[Answer | BridgeError]:
        """Call `function(item)` for each item; return, in order, each one's answer or the error that it met.

        Items go to the children up to `batch` at a time and answers come back one by one, so an item that kills
        its child is known for certain, and the rest go on in another.
        """
        size = max(1, min(batch, -(-len(items) // self._processes)))
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        work = [self._callers.submit(self._batch, function, group) for group in batches]
        return [answer for future in work for answer in future.result()]

    def abandon(self) -> None:
        """Kill whatever runs now; each of those calls raises ProcessDiedError. The pool stays usable."""
        with self._changed:
            for child in self._busy:
                self._condemn(child, ProcessDiedError("the job was abandoned"))

    def close(self) -> None:
        """Kill the children and the fork server; running calls raise ProcessDiedError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._fork_server.close()
        self._callers.shutdown()
        self._watcher.join()
        for child in self._idle:
            child.close()

    def _batch(self, function: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer | BridgeError]:
        answers: list[Answer | BridgeError] = []
        while len(answers) < len(items):
            answers += self._job(function, [(item,) for item in items[len(answers) :]], self._seconds_max)
        return answers

    def _job(self, function: Callable[..., Any], calls: list[tuple[Any, ...]], seconds_max: float) -> list[Any]:
        """Return the answers to `calls` in order, up to and including the first that lost its child."""
        child = self._take()
        answers: list[Any] = []
        try:
            child.await_ready()
            self._guard(child, seconds_max)
            child.send(function, calls)
            for _ in calls:
                answers.append(child.receive())
                self._guard(child, seconds_max)
        except (OSError, EOFError, pickle.UnpicklingError) as problem:
            child.broken = True
            answers.append(child.verdict or ProcessDiedError(str(problem) if isinstance(problem, _Forbidden) else ""))
        except BaseException:
            # A job that cannot be pickled, or an interrupted caller: the child may be in mid-sentence.
            child.broken = True
            raise
        finally:
            self._give_back(child)
        return answers

    def _take(self) -> _Child:
        with self._changed:
            self._changed.wait_for(lambda: self._idle or self._closed)
            if self._closed:
                raise ProcessDiedError("the isolation is closed")
            return self._idle.pop()

    def _guard(self, child: _Child, seconds_max: float) -> None:
        with self._changed:
            child.deadline = time.monotonic() + seconds_max
            if not self._busy:
                self._changed.notify_all()  # the watcher sleeps while nothing runs
            self._busy.add(child)

    def _give_back(self, child: _Child) -> None:
        child.jobs += 1
        with self._changed:
            self._busy.discard(child)
            if child.broken or child.verdict is not None or child.jobs == self._jobs_max:
                child.kill(self._fork_server)
                child.close()
                if self._closed:
                    return
                child = self._spawn()
            self._idle.append(child)
            self._changed.notify_all()

    def _spawn(self) -> _Child:
        return _Child(self._fork_server.spawn())

    def _watch(self) -> None:
        """Hold running jobs to their limits; sleep while there are none."""
        with self._changed:
            while not self._closed:
                for child in self._busy:
                    if time.monotonic() > child.deadline:
                        self._condemn(child, ProcessTimedOutError())
                    elif child.memory_bytes() > self._memory_bytes_max:
                        self._condemn(child, ProcessDiedError("the child process ran over its memory limit"))
                self._changed.wait(_WATCH_SECONDS if self._busy else None)

    def _condemn(self, child: _Child, verdict: IsolationError) -> None:
        if child.verdict is None:
            child.verdict = verdict
            child.kill(self._fork_server)


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent, the process of this number, ends; call it first thing.

    The kernel watches the parent's thread that started us, so that must be one that lasts.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it ended before it could be watched


class _Forbidden(pickle.UnpicklingError):
    """The child answered with something that is no record and no plain value."""


class _StrictUnpickler(pickle.Unpickler):
    """Reads records of this package, errors and plain values, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _PLAIN or full in _NUMPY_BUILDERS:
            return super().find_class(module, name)
        if module.startswith("btt_bridge.") and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise _Forbidden(f"a child process may not answer with a {full[:80]}")


class _Child:
    """The caller's end of one child process."""

    def __init__(self, wire: socket.socket) -> None:
        self._reader = wire.makefile("rb")
        self._writer = wire.makefile("wb")
        wire.close()
        self._pid = 0
        self.jobs = 0
        self.deadline = 0.0
        self.broken = False
        #: Why we killed it, where we did.
        self.verdict: IsolationError | None = None

    def await_ready(self) -> None:
        """Wait until the fork server has forked it; importing what is preloaded is not the job's time."""
        if not self._pid:
            pid = self._reader.read(_PID_BYTES)
            if len(pid) < _PID_BYTES:
                raise EOFError
            self._pid = int.from_bytes(pid, "little")

    def send(self, function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
        pickle.dump((function, calls), self._writer, protocol=5)
        self._writer.flush()

    def receive(self) -> Any:
        """Return the next answer; raise EOFError or OSError when the child is gone."""
        return _StrictUnpickler(self._reader).load()

    def memory_bytes(self) -> int:
        """Return the memory that is the child's own: resident, less what is shared or backed by files."""
        try:
            with open(f"/proc/{self._pid}/statm", "rb") as file:
                resident, shared = file.read().split()[1:3]
        except (OSError, ValueError):
            return 0  # gone already: the reader finds out
        return (int(resident) - int(shared)) * _PAGE_BYTES

    def kill(self, fork_server: _ForkServer) -> None:
        fork_server.kill(self._pid)

    def close(self) -> None:
        for stream in (self._reader, self._writer):
            try:
                stream.close()
            except OSError:
                continue  # unsent bytes to a dead child


class _ForkServer:
    """The parent's side of the process that forks the children."""

    def __init__(self, preload: Sequence[str], prepare: Callable[[], object] | None) -> None:
        self._start = pickle.dumps((list(sys.path), list(preload), prepare))
        self._lock = threading.Lock()
        self._process, self._control = self._launch()

    def spawn(self) -> socket.socket:
        """Ask for a child and return our end of its wire at once, before the child exists."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            try:
                socket.send_fds(self._control, [bytes([_SPAWN])], [theirs.fileno()])
            except OSError:
                # The fork server is gone, and its children with it; another takes its place.
                self._control.close()
                self._process.wait()
                self._process, self._control = self._launch()
                socket.send_fds(self._control, [bytes([_SPAWN])], [theirs.fileno()])
        return ours

    def kill(self, pid: int) -> None:
        """Have a child killed by its parent, who alone knows that the number is still its own."""
        with self._lock, contextlib.suppress(OSError):
            self._control.send(bytes([_KILL]) + pid.to_bytes(_PID_BYTES, "little"))

    def close(self) -> None:
        with self._lock:
            self._control.close()
            self._process.kill()
            self._process.wait()

    def _launch(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", f"from btt_bridge.isolate import _serve_forks; _serve_forks({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Threads that a library starts on import would not survive the fork.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
                # Ctrl-C at the terminal is for the parent; the children end with it.
                start_new_session=True,
            )
        control.send(self._start)
        return process, control


# --- in the fork server -----------------------------------------------------------------------------------


def _serve_forks(descriptor: int) -> None:
    """Import what the jobs need, then fork and kill children until the parent is gone."""
    control = socket.socket(fileno=descriptor)
    start = control.recv(1 << 20)
    if not start:
        return
    path, preload, prepare = pickle.loads(start)  # noqa: S301 (our parent wrote it)
    sys.path[:] = path
    for module in preload:
        import_module(module)
    gc.collect()
    gc.freeze()  # keeps the collector from touching, and so copying, pages that all children share
    children: set[int] = set()
    own_pid = os.getpid()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 16, 1)
        if not message:
            os._exit(0)  # each child has asked to be killed with us
        children -= _reaped(children)
        if message[0] == _SPAWN:
            pid = os.fork()
            if pid == 0:
                control.close()
                _serve_jobs(socket.socket(fileno=descriptors[0]), prepare, own_pid)
            os.close(descriptors[0])
            children.add(pid)
        elif (pid := int.from_bytes(message[1:], "little")) in children:
            os.kill(pid, signal.SIGKILL)


def _reaped(children: set[int]) -> set[int]:
    return {pid for pid in children if os.waitpid(pid, os.WNOHANG)[0]}


# --- in a child -------------------------------------------------------------------------------------------


def _serve_jobs(wire: socket.socket, prepare: Callable[[], object] | None, parent: int) -> None:
    """Work until the parent hangs up."""
    try:
        _seclude(parent)
        reader, writer = wire.makefile("rb"), wire.makefile("wb")
        writer.write(os.getpid().to_bytes(_PID_BYTES, "little"))
        writer.flush()
        if prepare is not None:
            _call(prepare, ())
        while True:
            try:
                function, calls = pickle.load(reader)  # noqa: S301 (our parent wrote it)
            except (AttributeError, ImportError) as problem:
                writer.writelines(_pickled(FunctionFailedError(_name(problem))))
                writer.flush()
                return
            for arguments in calls:
                writer.writelines(_pickled(_call(function, arguments)))
                writer.flush()
    finally:
        os._exit(0)


def _seclude(parent: int) -> None:
    """Die with the fork server, leave no core dump, say nothing, and be first when the machine runs out of memory."""
    die_with_parent(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # C libraries print what they choke on.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Return the answer or the error; only our own errors are known to carry no patient data in their text."""
    try:
        return function(*arguments)
    except BridgeError as problem:
        return problem
    except Exception as problem:
        return FunctionFailedError(_name(problem))


def _name(problem: Exception) -> str:
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{type(problem).__name__} at {'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno}"


class _Pieces(list[Any]):
    """A file that keeps what is written in pieces, large values uncopied."""

    write = list.append


def _pickled(answer: Any) -> _Pieces:
    """Pickle whole before the first byte leaves, for half an answer could not be taken back."""
    pieces = _Pieces()
    try:
        pickle.dump(answer, pieces, protocol=5)
    except Exception as problem:
        pieces = _Pieces()
        pickle.dump(FunctionFailedError(_name(problem)), pieces, protocol=5)
    return pieces
