"""The middle frames of videos, taken from the videos themselves."""

from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.imagenet.optional import import_optional
from benchmarks.imagenet.raw_images import as_file
from pretrain.data.images import FileImages


class VideoFrames(FileImages):
    """One video an image: its middle frame."""

    def __init__(
        self,
        root: Path,
        files: Sequence[tuple[str, int]],
        labels: Sequence[int],
        classes: tuple[str, ...],
    ) -> None:
        """Number the videos; see ``FileImages``.

        Raises:
            PreflightError: PyAV, which decodes them, is not installed.
        """
        _pyav()
        super().__init__(root, files, labels, classes)
        # The same files may one day be shown in another way.
        self.fingerprint = sha256(f"middle frame {self.fingerprint}".encode()).hexdigest()[:16]

    def read(self, index: int) -> bytes:
        """Return one video's middle frame as an image file."""
        return as_file(middle_frame(Path(self.name_of(index))).to_ndarray(format="rgb24"))


def middle_frame(video: Path) -> Any:
    """Return frame n // 2, from 0, of the n frames that a video decodes to.

    They are counted by decoding all, since headers of cut videos tell other numbers; at most half
    of them are held at a time.

    Raises:
        OSError: No frame can be decoded.
    """
    av = _pyav()
    held: deque[Any] = deque()
    try:
        with av.open(str(video)) as container:
            # Loader workers share the cores already.
            container.streams.video[0].thread_type = "NONE"
            for count, frame in enumerate(container.decode(video=0), start=1):
                held.append(frame)
                if count % 2 == 0:
                    held.popleft()
    except (av.error.FFmpegError, IndexError) as error:
        raise OSError(f"not a video that can be decoded: {error}") from error
    if not held:
        raise OSError("a video without frames")
    return held[0]


def _pyav() -> Any:
    return import_optional("av", "UCF101 without extracted frames")
