"""UCF101, whose images are the middle frames of its videos (Radford et al. 2021, appendix A).

Frames that lie under the videos' names are taken as they are; without any, the videos are decoded.
``torchvision.datasets.UCF101`` gives out clips of several frames, and reads all videos to
list them.
"""

import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from backbones.base.errors import PreflightError
from benchmarks.labelled.sets.optional import import_optional
from benchmarks.labelled.sets.raw_images import as_file
from pretrain.data.images import FileImages, ImageSet, digests_of


class VideoFrames(FileImages):
    """One video an image: its middle frame."""

    def __init__(
        self,
        root: Path,
        files: Sequence[tuple[str, int]],
        labels: Sequence[int] | None = None,
        classes: tuple[str, ...] = (),
        *,
        digests: Sequence[str],
    ) -> None:
        """Number the videos; see ``FileImages``.

        Raises:
            PreflightError: PyAV, which decodes them, is not installed.
        """
        _pyav()
        super().__init__(root, files, labels, classes, digests=digests)
        # The same files may one day be shown in another way.
        self.fingerprint, self.former_fingerprint = (
            sha256(f"middle frame {known}".encode()).hexdigest()[:16]
            for known in (self.fingerprint, self.former_fingerprint)
        )

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


_LISTS = "ucfTrainTestlist"
_CLASSES = "classInd.txt"
# The first of three official splits.
_SPLITS = ("trainlist01.txt", "testlist01.txt")
_FRAMES = (".png", ".jpg", ".jpeg")


class _Video(NamedTuple):
    """A line of a list."""

    source: Path
    path: PurePosixPath
    label: int

    def lying_as(self, suffixes: Sequence[str], sizes: Mapping[str, int]) -> str | None:
        names = (str(self.path.with_suffix(suffix)) for suffix in suffixes)
        return next((name for name in names if name in sizes), None)


def open_ucf101(folder: Path, cache: Path) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test images of the first official split.

    Args:
        folder: Holds ``CLASS/v_CLASS_g01_c01.avi``, or frames with an image's suffix under the same
            names; the lists lie beside it in ``ucfTrainTestlist``.
        cache: Folder for what is known of files.

    Raises:
        PreflightError: A list is missing or damaged, or names what the folder does not hold; there
            are videos alone, and nothing to decode them with.
    """
    lists = folder.parent / _LISTS
    classes = _read_classes(lists / _CLASSES)
    train, test = (_read_list(lists / name, classes) for name in _SPLITS)
    sizes = _sizes(folder, {str(video.path.parent) for video in (*train, *test)})
    framed = any(video.lying_as(_FRAMES, sizes) for video in (*train, *test))
    kind, suffixes = (FileImages, _FRAMES) if framed else (VideoFrames, (".avi",))

    def images(videos: Sequence[_Video]) -> ImageSet:
        names = [
            video.lying_as(suffixes, sizes) or _refuse(folder, video, framed) for video in videos
        ]
        files = [(f"{folder.name}/{name}", sizes[name]) for name in names]
        digests = digests_of(
            folder.parent, [name for name, _ in files], cache, str(videos[0].source)
        )
        labels = [video.label for video in videos]
        found = kind(folder.parent, files, labels, classes, digests=digests)
        found.name = "UCF101"
        return found

    return images(train), images(test)


def _read_classes(path: Path) -> tuple[str, ...]:
    found: list[str] = []
    for line, words in _lines(path):
        if len(words) != 2 or words[0] != str(len(found) + 1) or words[1] in found:
            raise _odd(path, line, f"{len(found) + 1} CLASS")
        found.append(words[1])
    return tuple(found)


def _read_list(path: Path, classes: Sequence[str]) -> list[_Video]:
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    found = []
    for line, words in _lines(path):
        video = PurePosixPath(words[0])
        number = numbers.get(str(video.parent))
        if number is None or video.suffix != ".avi" or words[1:] not in ([], [str(number)]):
            raise _odd(path, line, f"CLASS/VIDEO.avi with a class, and its number, of {_CLASSES}")
        found.append(_Video(path, video, number - 1))
    return found


def _lines(path: Path) -> Iterable[tuple[int, list[str]]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PreflightError(
            f"{path} cannot be read; {_CLASSES}, {' and '.join(_SPLITS)} "
            "(UCF101TrainTestSplits-RecognitionTask.zip of the set's page) belong there."
        ) from error
    found = [(line, text.split()) for line, text in enumerate(lines, start=1) if text.strip()]
    if not found:
        raise PreflightError(f"{path} is empty; unpack the set's lists anew.")
    return found


def _sizes(folder: Path, classes: Iterable[str]) -> dict[str, int]:
    """Return the size of every file by its name inside the folder."""
    return {
        f"{name}/{entry.name}": entry.stat().st_size
        for name in classes
        if (folder / name).is_dir()
        for entry in os.scandir(folder / name)
        if entry.is_file()
    }


def _odd(path: Path, line: int, expected: str) -> PreflightError:
    return PreflightError(f"{path}, line {line}: expected {expected}; unpack the set's lists anew.")


def _refuse(folder: Path, video: _Video, framed: bool) -> str:
    reason = (
        "holds no frame, as it does of other videos; extract this one too, or remove the frames to "
        "have the videos decoded"
        if framed
        else f"holds neither the video nor a frame ({', '.join(_FRAMES)}); unpack the set there"
    )
    raise PreflightError(f"{video.source} names {video.path}, of which {folder} {reason}.")
