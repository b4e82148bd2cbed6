"""Saved networks on the Hugging Face Hub: fetched by name, published only when asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["PREFIX", "fetched", "hub_library", "push_to_hub"]

PREFIX = "hf-hub:"
FILES = ("config.json", "model.safetensors", "README.md")


def push_to_hub(
    folder: str | os.PathLike[str],
    repo: str,
    *,
    private: bool = True,
    message: str = "Upload by siamura",
    token: str | None = None,
) -> str:
    """Publish a saved network: config.json, model.safetensors and the model card README.md, and nothing else.

    Needs ``pip install "siamura[hub]"``. Everyone reads it by ``from_pretrained("hf-hub:OWNER/NAME")``.

    Parameters
    ----------
    folder : path
        What `save_pretrained` wrote; ``model`` in a run folder, which also holds the card.
    repo : str
        ``OWNER/NAME``; made if it does not exist.
    private : bool
        Whether a repository made now is for its owner alone. One that exists stays as it is.
    message : str
        Of the commit.
    token : str, optional
        The one that ``hf auth login`` keeps, if not given.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    FileNotFoundError
        If the folder holds no network, or no card to say what it is.
    ImportError
        If huggingface_hub is missing.

    Examples
    --------
    >>> push_to_hub("runs/nowhere", "me/finger")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    FileNotFoundError: runs/nowhere/config.json is missing; save_pretrained writes the network...
    """
    for name in FILES:
        if not (Path(folder) / name).is_file():
            raise FileNotFoundError(
                f"{Path(folder) / name} is missing; save_pretrained writes the network, and a run the card "
                "(docs/model_card_template.md otherwise)."
            )
    api = hub_library().HfApi(token=token)
    repo = str(api.create_repo(repo, private=private, exist_ok=True).repo_id)
    done = api.upload_folder(
        repo_id=repo, folder_path=str(folder), allow_patterns=list(FILES), commit_message=message
    )
    return str(done.commit_url)


def fetched(folder: str | os.PathLike[str], **options: Any) -> Path:
    """Give the folder itself, or where the network that ``"hf-hub:OWNER/NAME"`` names was fetched to.

    Parameters
    ----------
    folder : path or str
    **options
        ``revision``, ``cache_dir``, ``token``, ``local_files_only`` of the Hub; None where not given.

    Raises
    ------
    FileNotFoundError
        If it is neither on the Hub nor in its cache; says what to do without a network.
    """
    name = os.fspath(folder)
    if not name.startswith(PREFIX):
        return Path(folder)
    hub = hub_library()
    repo = name.removeprefix(PREFIX)
    try:
        return Path(hub.snapshot_download(repo, allow_patterns=list(FILES), **options))
    except Exception as error:  # the Hub, its cache and the network raise some thirty kinds
        told = str(error).strip().split("\n")[0]
        raise FileNotFoundError(
            f"{name} could not be fetched ({type(error).__name__}: {told}). Without a network, fetch {FILES[0]} and "
            f"{FILES[1]} of {hub.constants.ENDPOINT}/{repo} elsewhere and give their folder."
        ) from error


def hub_library() -> Any:
    """Import huggingface_hub, an extra."""
    try:
        import huggingface_hub  # an optional extra
    except ImportError as error:
        raise ImportError(
            'the Hugging Face Hub needs huggingface_hub: pip install "siamura[hub]".'
        ) from error
    return huggingface_hub
