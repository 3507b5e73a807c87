"""Wall-clock of each stage of the demo, in a folder of its own.

    python -m benchmarks.quickstart [--config configs/quickstart.toml] [--workers 2]

Runs the chain as a user would (a subprocess of cli.py), then runs it once more to time the run that finds everything
done. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_chain(config: Path, outputs: Path, workers: int) -> float:
    """Seconds of one `cli.py run` into `outputs`."""
    started = time.perf_counter()
    command = [sys.executable, "cli.py", "run", "--config", str(config), "--outputs", str(outputs)]
    subprocess.run([*command, "--workers", str(workers)], cwd=ROOT, check=True)
    return time.perf_counter() - started


def stage_seconds(config: Path, outputs: Path) -> dict[str, float]:
    """Seconds each stage recorded in its run.json, in the order of the chain."""
    table = tomllib.loads(config.read_text("utf-8"))["run"]
    folder = outputs / table["name"]
    return {name: json.loads((folder / name / "run.json").read_text("utf-8"))["seconds"] for name in table["stages"]}


def main() -> None:
    """Run, print a table, print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "quickstart.toml")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder)
        total = run_chain(arguments.config, outputs, arguments.workers)
        seconds = stage_seconds(arguments.config, outputs)
        again = run_chain(arguments.config, outputs, arguments.workers)
    print(f"{'stage':24} seconds   ({arguments.workers} workers, {os.cpu_count()} cores)")
    for name, value in seconds.items():
        print(f"{name:24} {value:7.1f}")
    print(f"{'whole command':24} {total:7.1f}\n{'second command':24} {again:7.1f}")
    figures = {name: round(value, 1) for name, value in seconds.items()}
    print(json.dumps({"stages": figures, "total_s": round(total, 1), "again_s": round(again, 1)}))


if __name__ == "__main__":
    main()
