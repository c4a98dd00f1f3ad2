"""Check, render and deploy the Space that spaces.yaml describes.

"check" holds the manifest, the README's front matter and the files to what the platform admits.
"render" writes the front matter, or lays out all files as the Space would get them. "deploy" prints
its plan, and uploads only with --yes and a token.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rad3d.commands import add_command, print_json, print_table, say
from rad3d.core.errors import BadRequest
from rad3d.core.settings import ROOT

CHECK_EXAMPLE = """
rad3d space check
rad3d space check --target zero-gpu --json
"""

RENDER_EXAMPLE = """
rad3d space render --target zero-gpu
rad3d space render --write
rad3d space render --out /tmp/space
"""

DEPLOY_EXAMPLE = """
rad3d space deploy owner/rad3d
HF_TOKEN=... rad3d space deploy owner/rad3d --target zero-gpu --yes
"""

EXAMPLE = CHECK_EXAMPLE + RENDER_EXAMPLE.lstrip() + DEPLOY_EXAMPLE.lstrip()

CHECK = """Check the manifest, the README and the files against the platform; exit 1 on a problem.

For each target: Python and package versions that the hardware admits, settings that exist, no
value of a secret anywhere, no file over the size that needs LFS.
"""

RENDER = """Print the front matter of a target, write it into README.md, or lay out all files."""

DEPLOY = """Print what would be uploaded; with --yes upload it, with the token in HF_TOKEN.

The Space is made if it does not exist. Files there that are not planned are removed. Secrets are
never sent: set them in the Space's settings.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the three parts."""
    parts = parser.add_subparsers(metavar="PART", required=True)
    check = add_command(parts, "check", CHECK, CHECK_EXAMPLE)
    check.add_argument("--target", metavar="NAME", help="only this one (default: all)")
    check.add_argument("--json", action="store_true", help="a JSON list of the problems")
    check.set_defaults(run=run_check)
    render = add_command(parts, "render", RENDER, RENDER_EXAMPLE)
    render.add_argument("--target", metavar="NAME", help="(default: the first in spaces.yaml)")
    where = render.add_mutually_exclusive_group()
    where.add_argument("--write", action="store_true", help="put the front matter into README.md")
    where.add_argument("--out", type=Path, metavar="DIR", help="lay out all files of the Space")
    render.set_defaults(run=run_render)
    deploy = add_command(parts, "deploy", DEPLOY, DEPLOY_EXAMPLE)
    deploy.add_argument("repo", metavar="OWNER/NAME", help="the Space")
    deploy.add_argument("--target", metavar="NAME", help="(default: the first in spaces.yaml)")
    deploy.add_argument("--private", action="store_true", help="make a new Space private")
    deploy.add_argument("--yes", action="store_true", help="upload; without it only the plan")
    deploy.set_defaults(run=run_deploy)


def run_check(args: argparse.Namespace) -> int:
    """Every problem on stdout; 1 where there is one."""
    from rad3d.deploy.files_plan import plan_space
    from rad3d.deploy.manifest import read_manifest
    from rad3d.deploy.space_checks import check_space

    manifest = read_manifest()
    names = [manifest.target(args.target).name] if args.target else list(manifest.targets)
    plans = {name: plan_space(ROOT, manifest, manifest.target(name)) for name in names}
    problems = check_space(manifest, plans)
    if args.json:
        print_json([vars(problem) for problem in problems])
    else:
        for problem in problems:
            print(problem)
    for name, plan in plans.items():
        sizes = plan.sizes
        path, most = max(sizes.items(), key=lambda item: item[1])
        say(
            f"{name}: {len(sizes)} files, {sum(sizes.values()) / 2**20:.1f} MiB, "
            f"the largest {path} with {most / 2**20:.1f} MiB"
        )
    say("fit to deploy" if not problems else f"{len(problems)} to mend")
    return int(bool(problems))


def run_render(args: argparse.Namespace) -> int:
    """The front matter on stdout, in README.md, or everything in a folder."""
    from rad3d.deploy.files_plan import front_matter, plan_space, split_readme, with_front_matter
    from rad3d.deploy.manifest import read_manifest

    manifest = read_manifest()
    target = manifest.target(args.target)
    block = front_matter(manifest, target)
    if args.out:
        plan = plan_space(ROOT, manifest, target)
        plan.write(args.out)
        say(f"{len(plan.sizes)} files for {target.name} are in {args.out}")
    elif args.write:
        readme = ROOT / "README.md"
        text = readme.read_text(encoding="utf-8")
        readme.write_text(with_front_matter(split_readme(text)[1], block), encoding="utf-8")
        say(f"README.md has the front matter for {target.name}")
    else:
        sys.stdout.write(block)
    return 0


def run_deploy(args: argparse.Namespace) -> int:
    """The plan on stdout; with --yes also the upload."""
    from rad3d.deploy.files_plan import plan_space
    from rad3d.deploy.manifest import read_manifest
    from rad3d.deploy.space_checks import check_space
    from rad3d.deploy.upload import check_repo, upload

    check_repo(args.repo)
    manifest = read_manifest()
    target = manifest.target(args.target)
    plan = plan_space(ROOT, manifest, target)
    problems = check_space(manifest, {target.name: plan})
    sizes = plan.sizes
    print_table([(path, f"{size:,}") for path, size in sizes.items()], ("file", "bytes"))
    say(
        f"{len(sizes)} files, {sum(sizes.values()) / 2**20:.1f} MiB, at {plan.source}, "
        f"for {args.repo} on {target.hardware}"
    )
    for path in plan.dirty:
        say(f"not committed: {path}")
    for path in plan.unknown:
        say(f"left out, since git does not know it: {path}")
    for name in manifest.secrets:
        say(f"to be set on the hub, where wanted: {name}")
    if problems:
        text = " ".join(str(problem) for problem in problems)
        raise BadRequest(f"The Space would not start. {text}", code="space_problems")
    if not args.yes:
        say("This is the plan; --yes uploads it.")
        return 0
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        raise BadRequest(
            "There is no token in HF_TOKEN.", "Make one on the hub that may write.", code="no_token"
        )
    print(upload(plan, args.repo, token, args.private))
    return 0
