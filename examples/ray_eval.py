#!/usr/bin/env python3
"""`aim-bench eval` over a Ray cluster: the same binary, a task a part, and a worker that dies costs nothing.

    pip install ray
    python examples/ray_eval.py --parts /shared/parts -- --data-path /data/imagenet --model apple/aim-600M

Everything behind `--` goes to `aim-bench eval` as it is. --parts must be a folder that all machines see. There are more
parts than workers, so that fast machines take more of them. A task whose worker is killed is started again by Ray, on
whatever machine has room, and goes on where its part stood; in the end `aim-bench merge` adds the parts, which are exact,
and prints the report.
"""

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import ray


def command(args, rank):
    return [
        args.aim_bench, "eval", *args.eval,
        "--parts", str(args.parts), "--rank", str(rank), "--world-size", str(args.world_size), "--progress", "off",
    ]


class Unfinished(Exception):
    """A part that is not complete: another try goes on with it."""


def with_its_worker():
    """A worker that is killed takes the program that it started with it (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def is_complete(part):
    try:
        report = json.loads(part.read_text())
    except (OSError, ValueError):
        return False
    first, end = report["assigned"]
    return first == end or report["ranges"][-1:] == [[first, end]]


# What was counted is kept, so each try goes further than the one before.
@ray.remote(max_retries=10, retry_exceptions=[Unfinished])
def count(arguments, part, rank):
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, preexec_fn=with_its_worker)
    if done.returncode == 2:
        raise ValueError(f"aim-bench does not understand its options: {done.stderr}")
    # Broken pictures are counted and end with 1 as well; what tells them from an error is the part.
    if not is_complete(part):
        raise Unfinished(f"rank {rank} ended with {done.returncode}: {done.stderr[-2000:]}")
    return rank, done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, required=True, help="a folder that all machines see")
    parser.add_argument("--world-size", type=int, default=0, help="how many parts [default: four a worker]")
    parser.add_argument("--cpus", type=float, default=1, help="cores of a task")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a task")
    parser.add_argument("--address", help="the cluster; without it, one of this machine alone")
    parser.add_argument("--workers", type=int, help="workers of a cluster of this machine alone")
    parser.add_argument("--aim-bench", default=os.environ.get("AIM_BENCH", "aim-bench"), help="the binary")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("eval", nargs=argparse.REMAINDER, help="-- and the options of aim-bench eval")
    args = parser.parse_args()
    args.eval = args.eval[1:] if args.eval[:1] == ["--"] else args.eval
    args.parts = args.parts.resolve()

    # Ray tells of workers that died on standard output, which is the report's.
    report = os.dup(1)
    os.dup2(2, 1)
    ray.init(address=args.address, num_cpus=args.workers, include_dashboard=False, log_to_driver=False)
    if not args.world_size:
        args.world_size = max(1, int(4 * ray.cluster_resources().get("CPU", 1) / max(args.cpus, 1)))
    task = count.options(num_cpus=args.cpus, num_gpus=args.gpus)
    parts = [args.parts / f"part-{rank:05}-of-{args.world_size:05}.json" for rank in range(args.world_size)]
    waiting = [task.remote(command(args, rank), part, rank) for rank, part in enumerate(parts)]
    while waiting:
        done, waiting = ray.wait(waiting)
        rank, told = ray.get(done[0])
        print("".join(f"rank {rank}: {line}\n" for line in told.splitlines()), file=sys.stderr, end="")
        print(f"{args.world_size - len(waiting)} of {args.world_size} parts", file=sys.stderr)
    ray.shutdown()
    merge = [args.aim_bench, "merge", *map(str, parts)] + (["--json"] if args.json else [])
    sys.exit(subprocess.run(merge, stdout=report, check=False).returncode)


if __name__ == "__main__":
    main()
