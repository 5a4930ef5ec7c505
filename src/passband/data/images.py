"""Folders and zips of images, of any size and mode, as samples of one size in [-1, 1]."""

import os
from collections.abc import Sequence

from passband._checks import check_choice
from passband.data._labels import LABEL_KINDS, file_labels
from passband.data._samples import Framing, ImageSamples, Progress, SkippedImage, checked_resolution
from passband.data._sources import open_source

__all__ = ["ImageFolder", "SkippedImage"]


class ImageFolder(ImageSamples):
    r"""The images of a folder or zip, center-cropped or tiled to one size; sample i is always the same.

    Reads AVIF, BMP, GIF, JPEG, PNG, PNM, TIFF and WebP in folders of any depth, sorted by name; hidden files are left
    out. Of several frames the first counts. The EXIF rotation is applied, transparency is laid on white, palettes and
    CMYK become RGB, 16-bit gray is scaled to 8 bits.

    `crop="center"` takes the central square, or the central part of the aspect of (height, width), and resizes it with
    an antialiased Lanczos filter (smaller images are enlarged); `crop="tile"` cuts each image into non-overlapping
    tiles, from the top left corner, at native resolution or after the whole image was resized by `scale` with the same
    filter.

    Headers are read when the dataset is made, pixels when a sample is first asked for. Each file is then decoded once
    and its samples are kept as uint8, up to `cache_bytes` in this process and its DataLoader workers together: workers
    share what was decoded before they were forked (`preload` does that), and each may add its part of the rest.

    A broken image is left out, counted and named in `skipped`. Where the header is sound and the pixels are not, this
    shows only when the file is decoded: its samples are then replaced by those of the next file that is whole, pixels
    and label, so that the length and all other samples stay as they are. (Workers of a DataLoader note it in their own
    copy of `skipped`.)

    Args:
        path: a folder or a zip file.
        resolution: the side of a square sample in pixels, or (height, width).
        crop: "center" or "tile".
        scale: with tiles, resize the images by this factor first, in (0, 1].
        channels: 3 (RGB) or 1 (luma, ITU-R 601).
        labels: where `label` takes the class from. "none"; "folder": the first folder of the file's path within path,
            in the order of their names; "json": a dataset.json at the root, `{"labels": [["a/b.png", 3], ...]}`, as
            EDM's and StyleGAN's dataset zips have it, with integers or one-hot vectors, or null for no labels. A tile
            has its file's label.
        subset: "all", or one side of a split: "train" or "eval". A hash of the file's name within path and the tile's
            number decides, so each source lends the same share to both sides and a new file moves no old one.
        eval_share: the share of samples in "eval", between 0 and 1.
        limit: keep this many samples at most, picked by the same kind of hash, so from all over the folder.
        strict: raise on the first image that cannot be used, instead of leaving it out.
        cache_bytes: how many bytes of decoded samples to keep.
        progress: called with (files read, files in all) while the headers are read.

    Attributes:
        num_classes: number of classes in the whole folder, 0 without labels.
        class_names: the folders' names, or those that dataset.json gives under class_names; empty without any.
        skipped: the images left out so far, with the reasons.

    Raises:
        FileNotFoundError: if there is nothing at path.
        TypeError: if resolution or limit holds no integer.
        ValueError: if path is neither a folder nor a zip, holds no usable image, or an option is unknown; if an image
            cannot be used and `strict` is set; if a label is missing or dataset.json cannot be used.

    Example:
        >>> import tempfile, torch
        >>> from passband.data import ImageFolder, save_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_image(torch.rand(3, 40, 50), f"{folder}/a photo.png")
        ...     data = ImageFolder(folder, resolution=16, crop="tile")
        ...     len(data), tuple(data[5].shape), data.origin(5)
        (6, (3, 16, 16), ('a photo.png', 5))

    """

    _how_to_label = "pass labels='folder' or labels='json' to ImageFolder"

    def __init__(
        self,
        path: str | os.PathLike[str],
        resolution: int | Sequence[int],
        *,
        crop: str = "center",
        scale: float = 1.0,
        channels: int = 3,
        labels: str = "none",
        subset: str = "all",
        eval_share: float = 0.1,
        limit: int | None = None,
        strict: bool = False,
        cache_bytes: int = 2 << 30,
        progress: Progress | None = None,
    ) -> None:
        check_choice("labels", labels, LABEL_KINDS)
        framing = Framing(checked_resolution(resolution), crop, scale, channels)
        framing.check()  # before the path is looked at
        source = open_source(path)
        super().__init__(
            source,
            str(path),
            framing,
            labels=lambda: file_labels(source, labels),
            subset=subset,
            eval_share=eval_share,
            limit=limit,
            strict=strict,
            cache_bytes=cache_bytes,
            progress=progress,
        )
