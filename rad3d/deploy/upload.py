"""Uploads a plan to Hugging Face Spaces."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from rad3d.core.errors import BadRequest
from rad3d.deploy.files_plan import Plan

_REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def check_repo(repo: str) -> None:
    """Raises BadRequest where a text is not ``owner/name``."""
    if not _REPO.fullmatch(repo):
        raise BadRequest(f"{repo} is not the name of a Space.", "Use owner/name.", code="bad_repo")


def upload(plan: Plan, repo: str, token: str, private: bool) -> str:
    """Make the Space ``owner/name`` or bring it to the plan; returns its address.

    Files there that the plan lacks are removed in the same commit. Secrets are not sent: the
    person sets them on the hub.

    Raises:
        BadRequest: the hub refuses, or cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="rad3d-space-") as folder:
        plan.write(Path(folder))
        return _send(folder, plan, repo, token, private)


def _send(folder: str, plan: Plan, repo: str, token: str, private: bool) -> str:
    from huggingface_hub import HfApi, SpaceHardware
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

    api = HfApi(token=token)
    hardware = SpaceHardware(plan.target.hardware)
    try:
        address = api.create_repo(
            repo,
            repo_type="space",
            space_sdk="gradio",
            space_hardware=hardware,
            private=private,
            exist_ok=True,
        )
        api.upload_folder(
            repo_id=repo,
            repo_type="space",
            folder_path=folder,
            commit_message=f"rad3d at {plan.source}",
            delete_patterns="*",
        )
        api.request_space_hardware(repo, hardware)
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        raise BadRequest(
            f"The hub refused to deploy to {repo} (status {status}).",
            "Check that the token may write there and that the account may have this hardware.",
            code="hub_refused",
        ) from error
    except HFValidationError as error:
        raise BadRequest(f"{repo} is not the name of a Space.", "Use owner/name.") from error
    except (HTTPError, OSError) as error:
        raise BadRequest("The hub could not be reached.", "Try again.", code="no_hub") from error
    return str(address)
