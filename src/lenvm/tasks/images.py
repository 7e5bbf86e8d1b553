"""Images of prompts: files that are there, and files made of what a dataset holds."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

from PIL import Image

from lenvm.data.rollout import BadRowError


def image_paths(images: object, folder: Path) -> list[str]:
    """The paths of images that a row names relative to a folder.

    Raises:
        BadRowError: if they are no paths, or one does not exist. Whether it is an image is seen when it is used.
    """
    names = [images] if isinstance(images, str) else images
    if not (isinstance(names, list) and all(isinstance(name, str) and name for name in names)):
        raise BadRowError(f"`images` must be a list of paths, got {str(images)[:80]!r}")
    paths = [str(folder / Path(name).expanduser()) for name in names]
    for path in paths:
        if not Path(path).is_file():
            raise BadRowError(f"the image {path} does not exist")
    return paths


def cached_image(image: Any, folder: Path) -> str:
    """The path of a PNG file with an image of a dataset, written unless it is there; its name is its content's hash.

    Args:
        image: `{"bytes", "path"}`, as `datasets` gives an image that is not decoded.
        folder: where the file goes.

    Raises:
        BadRowError: if it is no image.
    """
    data = image.get("bytes") if isinstance(image, dict) else None
    if data is None and isinstance(image, dict) and image.get("path") and Path(image["path"]).is_file():
        data = Path(image["path"]).read_bytes()
    if not isinstance(data, bytes):
        raise BadRowError("the image has no bytes")
    path = folder / f"{hashlib.sha256(data).hexdigest()[:32]}.png"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
        try:
            with Image.open(io.BytesIO(data)) as opened:
                # PNG knows no CMYK and the like
                picture = opened if opened.mode in ("1", "L", "LA", "P", "RGB", "RGBA") else opened.convert("RGB")
                picture.save(unfinished, format="PNG")
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for broken chunks
            unfinished.unlink(missing_ok=True)
            raise BadRowError(f"the image cannot be read ({' '.join(str(error).split())[:120]})") from error
        unfinished.replace(path)
    return str(path)
