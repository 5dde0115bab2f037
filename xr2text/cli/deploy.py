"""Puts the page on the Hugging Face Hub as a Space: exactly the files that it needs, and no others."""

import argparse
from pathlib import Path

from xr2text.errors import XR2TextError

HELP = "put the page on the Hugging Face Hub as a Space"
ROOT = Path(__file__).resolve().parents[2]
MODEL_PATTERN = "checkpoints/xr2text-iu/*"
PATTERNS = (
    "app.py", "requirements.txt", "README.md", "LICENSE", "xr2text/**/*", "checkpoints/xr2text-gate/*", MODEL_PATTERN,
)  # fmt: skip
FOLDERS = ("xr2text/*", "checkpoints/*")  # in which files of an earlier deployment are deleted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("space", metavar="OWNER/NAME")
    parser.add_argument("--model", metavar="HUB_ID", help="a checkpoint on the Hub, in place of the shipped one")
    parser.add_argument("--private", action="store_true", help="a new Space is seen by its owner alone")


def run(args: argparse.Namespace) -> int:
    """Uploads the page, with huggingface_hub's own progress bars."""
    print(deploy(args.space, args.model, args.private))
    return 0


class DeployError(XR2TextError):
    """A Space that cannot be made; the message says why and what to do."""


def space_files(root: Path = ROOT, with_checkpoint: bool = True) -> list[str]:
    """The files of a Space, as paths from `root`.

    Raises:
        DeployError: one of them is missing.
    """
    patterns = [pattern for pattern in PATTERNS if with_checkpoint or pattern != MODEL_PATTERN]
    files: list[str] = []
    for pattern in patterns:
        found = [path for path in sorted(root.glob(pattern)) if path.is_file() and "__pycache__" not in path.parts]
        if not found:
            raise DeployError(f"{root} has no {pattern}: deploy from a whole copy of the repository")
        files += [path.relative_to(root).as_posix() for path in found if not path.name.startswith(".")]
    return files


def deploy(space_id: str, model: str | None = None, private: bool = False, root: Path = ROOT) -> str:
    """Makes the Space if there is none, and brings it up to date in one commit.

    Args:
        space_id: OWNER/NAME.
        model: Hub id of a checkpoint, which the Space loads in place of the shipped one.
        private: a new Space is seen by its owner alone.

    Returns:
        the Space's address.

    Raises:
        DeployError: a file is missing, the name is none, nobody is logged in, or the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    files = space_files(root, with_checkpoint=model is None)
    api = HfApi()
    try:
        url = api.create_repo(space_id, repo_type="space", space_sdk="gradio", exist_ok=True, private=private)
        if model is not None:
            api.add_space_variable(space_id, "XR2TEXT_CHECKPOINT", model)
        api.upload_folder(
            folder_path=root, repo_id=space_id, repo_type="space", allow_patterns=files, delete_patterns=list(FOLDERS),
            commit_message="XR2Text",
        )  # fmt: skip
    except HFValidationError as error:
        raise DeployError(f"{space_id!r} is no name of a Space: it must be OWNER/NAME") from error
    except OSError as error:  # nobody is logged in, the Hub refuses, or it cannot be reached
        hint = "`hf auth login` or HF_TOKEN gives a token that may write"
        raise DeployError(f"the Hugging Face Hub did not take it: {error}; {hint}") from error
    return str(url)
