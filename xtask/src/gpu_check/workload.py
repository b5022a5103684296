"""A workload whose calls are known. It does what each line of its input asks, and answers with a line
of JSON. Memory is not cached: a tensor is an allocation of the driver's, and its end gives it back."""

import json
import os
import sys
import time

os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"

import torch  # noqa: E402

MIB = 1 << 20


def answer(**fields):
    print(json.dumps(fields), flush=True)


def allocate(count, size):
    kept = [torch.empty(size, dtype=torch.uint8, device="cuda") for _ in range(count)]
    torch.cuda.synchronize()
    answer(allocations=count, bytes=count * size)
    return kept


def launches(count):
    x = torch.zeros(1024, device="cuda")
    torch.cuda.synchronize()
    answer(ready=True)
    sys.stdin.readline()
    for _ in range(count):
        x.add_(1.0)
    torch.cuda.synchronize()
    answer(launches=count)


def copies(count, size):
    host = torch.empty(size, dtype=torch.uint8).pin_memory()
    device = torch.empty(size, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    answer(ready=True)
    sys.stdin.readline()
    for _ in range(count):
        device.copy_(host, non_blocking=True)
    torch.cuda.synchronize()
    for _ in range(count):
        host.copy_(device, non_blocking=True)
    torch.cuda.synchronize()
    answer(copies=count, bytes=count * size)


def loop(kind, seconds):
    """Iterations a second of a loop that the device bounds, or the launching."""
    torch.cuda.synchronize()
    if kind == "device":
        a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
        out = torch.empty_like(a)

        def step():
            torch.mm(a, a, out=out)

        batch = 20
    else:
        x = torch.zeros(1, device="cuda")

        def step():
            x.add_(1.0)

        batch = 2000
    for _ in range(batch):
        step()
    torch.cuda.synchronize()
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(batch):
            step()
        torch.cuda.synchronize()
        steps += batch
    answer(rate=steps / (time.perf_counter() - start))


def main():
    torch.cuda.init()
    torch.zeros(1, device="cuda").add_(1)
    torch.cuda.synchronize()
    answer(pid=os.getpid(), torch=torch.__version__, cuda=torch.version.cuda)
    kept = []
    for line in sys.stdin:
        words = line.split()
        if words[0] == "allocate":
            kept = allocate(int(words[1]), int(words[2]))
        elif words[0] == "free":
            kept = []
            torch.cuda.synchronize()
            answer(freed=True)
        elif words[0] == "launches":
            launches(int(words[1]))
        elif words[0] == "copies":
            copies(int(words[1]), int(words[2]))
        elif words[0] == "loop":
            loop(words[1], float(words[2]))
        elif words[0] == "end":
            return
        del words
    del kept


main()
