"""Where the images of a prompt stand in its messages."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from lenvm.data.rollout import BadRowError, Prompt

MARKER = "<image>"


def messages_with_images(
    prompt: Prompt, images: list[str] | None, show: Callable[[Path], dict[str, Any]]
) -> list[dict[str, Any]]:
    """A prompt as messages whose contents are parts.

    Images take the places of `<image>` in the texts and of parts `{"type": "image"}`, in order; without any such
    place they stand before the text of the user's last message.

    Args:
        prompt: a text, or messages.
        images: paths of the images.
        show: makes the part of an image.

    Raises:
        BadRowError: if places and images differ in number; and what `show` raises.
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not images:
        return messages
    contents = [list(_parts(message["content"])) for message in messages]
    places = sum(content.count(None) for content in contents)
    if not places:
        users = [i for i, message in enumerate(messages) if message["role"] == "user"] or [-1]
        contents[users[-1]][:0] = [None] * len(images)
    elif places != len(images):
        raise BadRowError(f"the prompt has places for {places} images, and {len(images)} are given")
    shown = (show(Path(path)) for path in images)
    return [
        {**message, "content": [next(shown) if part is None else part for part in content]}
        for message, content in zip(messages, contents, strict=True)
    ]


def _parts(content: Any) -> Iterator[dict[str, Any] | None]:
    """The parts of a message's content, and None for each place of an image."""
    if not isinstance(content, str):
        for part in content or ():
            if part.get("type") == "text":
                yield from _parts(part["text"])
            else:
                yield None if part.get("type") == "image" else part
        return
    for i, text in enumerate(content.split(MARKER)):
        if i:
            yield None
        if text:
            yield {"type": "text", "text": text}


def data_url_part(path: Path) -> dict[str, Any]:
    """The part of an image for OpenAI's protocol: the file in base64, with its media type.

    Raises:
        BadRowError: if there is no such file, or it is no image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadRowError(f"the image {path} cannot be read ({error.strerror or error})") from error
    try:
        with Image.open(BytesIO(data)) as image:
            media = image.get_format_mimetype()
            image.verify()
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's word for a damaged file
        raise BadRowError(f"{path} is not an image ({' '.join(str(error).split())[:120]})") from error
    url = f"data:{media};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}
