"""Puts the page on the Hugging Face Hub as a Space: exactly the files that it needs, and no others."""

import argparse
from pathlib import Path

from xr2text.errors import XR2TextError

HELP = "put the page on the Hugging Face Hub as a Space"
ROOT = Path(__file__).resolve().parents[2]
MODEL = "checkpoints/xr2text-iu"
# README.md is the Space's card. It links to the documents, and these to one another.
PATTERNS = (
    "app.py", "requirements.txt", "README.md", "LICENSE", "xr2text/**/*", "checkpoints/xr2text-gate/*", f"{MODEL}/*",
    "docs/*.md", "benchmarks/*.md", "benchmarks/*.png",
)  # fmt: skip
# Files of an earlier deployment that match these are deleted.
FOLDERS = ["xr2text/*", "checkpoints/*", "docs/*", "configs/*", "benchmarks/*"]
VARIABLE = "XR2TEXT_CHECKPOINT"  # a variable of the Space, read by app.py


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
    files: list[str] = []
    for pattern in PATTERNS:
        pattern = pattern if with_checkpoint else pattern.replace(f"{MODEL}/*", f"{MODEL}/README.md")
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
        DeployError: a file is missing, a name is none, the Hub has no such checkpoint, nobody is logged in, or the Hub
            refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    files = space_files(root, with_checkpoint=model is None)
    api = HfApi()
    if model is not None and Path(model).exists():
        raise DeployError(
            f"--model {model} is a folder here, which a Space cannot read: it must be OWNER/NAME on the Hub"
        )
    try:
        if model is not None and not api.file_exists(model, "config.json"):
            raise DeployError(f"--model {model}: the Hugging Face Hub has no checkpoint of this name")
        url = api.create_repo(space_id, repo_type="space", space_sdk="gradio", exist_ok=True, private=private)
        if model is not None:
            api.add_space_variable(space_id, VARIABLE, model)
        elif VARIABLE in api.get_space_variables(space_id):  # set by an earlier deployment
            api.delete_space_variable(space_id, VARIABLE)
        api.upload_folder(
            folder_path=root, repo_id=space_id, repo_type="space", allow_patterns=files, delete_patterns=FOLDERS,
            commit_message="XR2Text",
        )  # fmt: skip
    except HFValidationError as error:
        names = space_id if model is None else f"{space_id} or {model}"
        raise DeployError(f"{names!r} is no name on the Hub: it must be OWNER/NAME") from error
    # Not logged in, or refused by the Hub. HfHubHTTPError's bases are also its HTTP library's errors, such as those of
    # a Hub that cannot be reached.
    except (OSError, *HfHubHTTPError.__bases__) as error:
        hint = "`hf auth login` or HF_TOKEN gives a token that may write"
        raise DeployError(f"the Hugging Face Hub did not take it: {error}; {hint}") from error
    return str(url)
