"""Try the Space as Spaces would: its files in a clean folder, a fresh environment, one report.

    .venv/bin/python scripts/try_space.py
    .venv/bin/python scripts/try_space.py --target zero-gpu --python /usr/bin/python3.12

Exactly the planned files are laid out; what the platform adds to the installation is resolved
together with the Space's requirements; the app is started with the platform's variables and asked
for one report through ``gradio_client``, which comes with gradio. The extra package index of a
target is left to this machine's own pip configuration, and with ``--packages here`` the environment
that runs this script stands in for the fresh one (a quick look at files and start only).
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rad3d.deploy.files_plan import Plan, plan_space  # noqa: E402
from rad3d.deploy.manifest import read_manifest  # noqa: E402
from rad3d.deploy.platforms import PLATFORMS  # noqa: E402

START_SECONDS = 600
NO_NETWORK = 3
"""Exit status where packages cannot be fetched at all."""

UNREACHED = ("NewConnectionError", "ConnectTimeout", "name resolution", "Network is unreachable")

VISIT = """
import sys
from gradio_client import Client
client = Client(sys.argv[1], verbose=False)
ready = [v["id"] for v in client.predict(api_name="/variants") if v["ready"]]
print("ready:", ", ".join(ready))
scan = client.predict(sys.argv[2], api_name="/open_sample")
print("opened:", scan["shape"], "voxels")
job = client.submit(sys.argv[3] if len(sys.argv) > 3 else ready[-1], {}, api_name="/write_report")
done = job.result(timeout=900)
assert done["event"] == "done", done
assert done["report"]["finish_reason"] in ("end", "length"), done["report"]
print("report:", done["report"]["n_tokens"], "tokens,", done["report"]["finish_reason"])
"""


def main() -> int:
    """Lay out, install, start, visit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", help="(default: the first in spaces.yaml)")
    parser.add_argument("--python", default=sys.executable, help="(default: this one)")
    parser.add_argument("--packages", choices=("fresh", "here"), default="fresh")
    parser.add_argument("--variant", default="", help="(default: the last that is ready)")
    args = parser.parse_args()
    manifest = read_manifest()
    plan = plan_space(ROOT, manifest, manifest.target(args.target))
    with tempfile.TemporaryDirectory(prefix="rad3d-try-") as scratch:
        folder = Path(scratch, "space")
        plan.write(folder)
        print(f"{plan.target.name}: {len(plan.sizes)} files laid out", flush=True)
        python = Path(sys.executable)
        if args.packages == "fresh":
            python = install(plan, folder, Path(scratch, "venv"), args.python)
        return visit(plan, folder, python, Path(scratch), args.variant)


def install(plan: Plan, folder: Path, venv: Path, python: str) -> Path:
    """The environment that Spaces would build; returns its Python."""
    subprocess.run([python, "-m", "venv", str(venv)], check=True)
    requirements = (folder / "requirements.txt").read_text(encoding="utf-8")
    lines = [line for line in requirements.splitlines() if not line.startswith("--extra-index")]
    here = venv / "requirements.txt"
    here.write_text("\n".join(lines), encoding="utf-8")
    gradio = read_manifest().card["sdk_version"]
    always = [
        line.format(gradio=gradio)
        for line in PLATFORMS[plan.target.hardware].always
        if line.partition("==")[0] not in plan.target.packages
    ]
    made = venv / "bin" / "python"
    line = [made, "-m", "pip", "install", "-q", "-r", here, *always]
    done = subprocess.run(line, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise SystemExit(NO_NETWORK if any(word in done.stderr for word in UNREACHED) else 1)
    subprocess.run([made, "-m", "pip", "check"], check=True)
    return made


def visit(plan: Plan, folder: Path, python: Path, scratch: Path, variant: str) -> int:
    """Start the app as the platform does and have one report written."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "SPACE_ID": "owner/rad3d",
        "SYSTEM": "spaces",
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in ("HOME", "TMPDIR"):
        Path(environment[name]).mkdir()
    before = listing(folder)
    log = scratch / "app.log"
    with log.open("w") as out:
        app = subprocess.Popen(
            [python, "app.py"], cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        if not answers(port, app):
            print(log.read_text(encoding="utf-8"), file=sys.stderr)
            return 1
        sample = min(path.stem for path in (folder / "assets" / "samples").glob("*.json"))
        line = [str(python), "-c", VISIT, f"http://127.0.0.1:{port}/", sample]
        done = subprocess.run(
            [*line, *([variant] if variant else [])], env=environment, cwd=scratch, check=False
        )
        app.terminate()
        stopped = app.wait(60)
    finally:
        if app.poll() is None:
            app.kill()
    changed = [path for path, state in listing(folder).items() if before.get(path) != state]
    if done.returncode or stopped or changed:
        print(f"visit {done.returncode}, stop {stopped}, changed {changed}", file=sys.stderr)
        print(log.read_text(encoding="utf-8"), file=sys.stderr)
        return 1
    print(f"{plan.target.name}: started, wrote a report, stopped, left its files as they were")
    return 0


def listing(folder: Path) -> Mapping[str, tuple[int, int]]:
    """Path -> (size, time of change) of every file."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def answers(port: int, app: subprocess.Popen[bytes]) -> bool:
    """True once the app listens; False where it ended or took too long."""
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit and app.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.5)
    return False


if __name__ == "__main__":
    raise SystemExit(main())
