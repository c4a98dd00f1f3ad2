"""The table of docs/cost.md: language models with random weights, timed on this machine.

    python benchmarks/llm_cost.py [--llm NAME ...] [--precision P ...] [--seconds S] [--threads N]

Each row runs in a process of its own. Prints a Markdown table: what a step of two pairs with 100
tokens takes in V-3 (counted), and the time of such a step and of writing (measured). The share is
how much of the threads' time the process had; times under other load are longer than they need be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

MODELS = ("distilgpt2", "gpt2", "smollm2-360m", "biogpt", "llama-3.2-1b")
PRECISIONS = ("float32", "bf16", "8bit", "4bit")
WORKLOAD = ("--batch-size", "2", "--report-tokens", "100")


def measure(llm: str, precision: str, seconds: float, threads: int) -> dict[str, object]:
    """What `rad3d cost --measure --json` says, or why it says nothing."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    line = [sys.executable, "-m", "rad3d", "cost", "--llm", llm, "--mode", "v3", "--precision",
            precision, "--measure", "--seconds", str(seconds), "--json", *WORKLOAD]  # fmt: skip
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"problem": done.stderr.strip().splitlines()[-1]}
    found: dict[str, object] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llm", nargs="+", default=MODELS)
    parser.add_argument("--precision", nargs="+", default=PRECISIONS)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    print(time.strftime("%Y-%m-%d"))
    print("| LLM | precision | weights | step, memory | step | first token | tokens/s | share |")
    print("|---|---|---|---|---|---|---|---|")
    for llm in args.llm:
        for precision in args.precision:
            found = measure(llm, precision, args.seconds, args.threads)
            if "problem" in found:
                print(f"| {llm} | {precision} | {found['problem']} | | | | | |", flush=True)
                continue
            cost, here = found["cost"], found["measured"]
            print(
                f"| {llm} | {precision} | {cost['weights'] / 1e9:.2f} GB "
                f"| {cost['training'] / 1e9:.2f} GB | {here['step_s']:.2f} s "
                f"| {here['first_token_s']:.2f} s | {here['tokens_per_s']:.1f} "
                f"| {here['share']:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
