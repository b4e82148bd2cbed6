"""Image files of every kind, made on the spot: bytes with the grey they must give, or the reason they must not."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def picture() -> np.ndarray:
    """A smooth image, the same under no mirroring and no rotation, from 0 to 255."""
    y, x = np.mgrid[0:24, 0:40]
    grey = 255 * (0.7 * x / 39 + 0.3 * (y / 23) ** 2)
    grey[:6, :6] = 0
    return np.rint(grey).astype(np.uint8)


GREY = picture()


@dataclass(frozen=True)
class Good:
    data: bytes
    expected: np.ndarray
    within: int = 0
    name: str = "image.png"


@dataclass(frozen=True)
class Bad:
    data: bytes
    reason: str  # a regular expression
    name: str = "image.png"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    samples: np.ndarray, depth: int, colour: int, *extra: bytes, width: int = 0, height: int = 0
) -> bytes:
    """Encode (H, W, channels) samples as a PNG of any depth and colour type; extra chunks go before the data."""
    flat = samples.reshape(samples.shape[0], -1)
    if depth == 16:
        lines = [b"\0" + row.astype(">u2").tobytes() for row in flat]
    elif depth == 8:
        lines = [b"\0" + row.astype("u1").tobytes() for row in flat]
    else:
        bits = (flat[..., None] >> np.arange(depth - 1, -1, -1) & 1).reshape(flat.shape[0], -1)
        lines = [b"\0" + np.packbits(row.astype("u1")).tobytes() for row in bits]
    size = struct.pack(">II", width or samples.shape[1], height or samples.shape[0])
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", size + bytes((depth, colour, 0, 0, 0))),
            *extra,
            chunk(b"IDAT", zlib.compress(b"".join(lines))),
            chunk(b"IEND", b""),
        )
    )


def pillow(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def opencv(pixels: np.ndarray, suffix: str, *options: int) -> bytes:
    done, out = cv2.imencode(suffix, pixels, list(options))
    assert done
    return out.tobytes()


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def tiff(samples: np.ndarray, order: str = "<", **tags: Any) -> bytes:
    """Encode (H, W) samples as an uncompressed TIFF; tags by number overwrite, as in t262=0."""
    kinds = {"u": 1, "i": 2, "f": 3}
    body = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    entries = {
        256: samples.shape[1],
        257: samples.shape[0],
        258: samples.dtype.itemsize * 8,
        259: 1,
        262: 1,
        273: 8,
        277: 1,
        278: samples.shape[0],
        279: len(body),
        339: kinds[samples.dtype.kind],
    }
    entries |= {int(name[1:]): value for name, value in tags.items()}
    table = struct.pack(order + "H", len(entries))
    for tag, value in sorted(entries.items()):
        table += struct.pack(order + "HHII", tag, 4, 1, value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body))
    return head + body + table + struct.pack(order + "I", 0)


def dicom(stored: np.ndarray, *, bits: int = 0, **header: Any) -> bytes:
    """Encode stored values as a DICOM file; header elements by keyword overwrite, None removes."""
    allocated = stored.dtype.itemsize * 8
    bits = bits or allocated
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["siamura"])
    meta.TransferSyntaxUID = header.pop("TransferSyntaxUID", ExplicitVRLittleEndian)
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    elements: dict[str, Any] = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "CR",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": allocated,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "PixelData": stored.tobytes() + b"\0" * (stored.nbytes % 2),
    }
    for key, value in (elements | header).items():
        if value is not None:
            setattr(file, key, value)
    if "PixelData" in file:
        file["PixelData"].VR = "OW" if allocated > 8 else "OB"
    out = io.BytesIO()
    pydicom.dcmwrite(out, file, enforce_file_format=True)
    return out.getvalue()


def luma(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> np.ndarray:
    return np.rint(0.299 * red + 0.587 * green + 0.114 * blue).astype(np.uint8)


def own_range(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return np.rint((values - low) * (255.0 / (high - low))).astype(np.uint8)


def good() -> Iterator[tuple[str, Good]]:
    """Files that must be read, with the grey they must give."""
    grey, wide = GREY, GREY.astype(np.uint16)
    twelve = wide * 16 + 7  # 7 .. 4087
    red, green, blue = grey, grey[::-1], grey[:, ::-1]
    colour = np.stack((red, green, blue), -1)
    half = np.full_like(grey, 255)
    half[:, 20:] = 0
    half[:, 15:20] = 128
    laid = np.rint(grey.astype(float) * half / 255).astype(np.uint8)

    # PNG
    for depth in (1, 2, 4):
        levels = grey >> (8 - depth)
        yield f"png grey {depth} bit", Good(png(levels, depth, 0), levels * np.uint8(255 // (2**depth - 1)))
    yield "png grey 8 bit", Good(png(grey, 8, 0), grey)
    yield "png grey 16 bit holding 12", Good(png(twelve, 16, 0), grey)
    yield "png grey 16 bit, high", Good(png(wide + 65000, 16, 0), grey)
    yield "png grey 16 bit, constant", Good(png(np.full_like(wide, 777), 16, 0), np.zeros_like(grey))
    yield "png rgb 8 bit", Good(png(colour, 8, 2), luma(red, green, blue), 1)
    yield "png rgb 8 bit of grey", Good(png(np.stack((grey,) * 3, -1), 8, 2), grey)
    yield "png rgb 16 bit", Good(png(np.stack((twelve,) * 3, -1), 16, 2), grey)
    yield (
        "png rgb 16 bit, colours",
        Good(
            png(colour.astype(np.uint16) * 10, 16, 2),
            own_range(np.rint(10 * (0.299 * red + 0.587 * green + 0.114 * blue))),
            1,
        ),
    )
    yield "png grey with alpha", Good(png(np.stack((grey, half), -1), 8, 4), laid, 1)
    yield "png rgb with alpha", Good(png(np.stack((grey, grey, grey, half), -1), 8, 6), laid, 1)
    opaque = np.full_like(wide, 65535)
    yield "png grey 16 bit with alpha", Good(png(np.stack((twelve, opaque), -1), 16, 4), grey)
    yield "png rgb 16 bit with alpha", Good(png(np.stack((twelve, twelve, twelve, opaque), -1), 16, 6), grey)
    inverse = bytes(v for level in range(255, -1, -1) for v in (level,) * 3)
    yield "png palette, inverse", Good(png(grey, 8, 3, chunk(b"PLTE", inverse)), 255 - grey)
    yield (
        "png palette 1 bit",
        Good(
            png(grey >> 7, 1, 3, chunk(b"PLTE", bytes((10, 10, 10, 200, 200, 200)))),
            np.where(grey >> 7, 200, 10).astype(np.uint8),
        ),
    )
    yield (
        "png palette with transparency",
        Good(
            png(
                grey >> 7, 1, 3, chunk(b"PLTE", bytes((90, 90, 90, 200, 200, 200))), chunk(b"tRNS", b"\0\xff")
            ),
            np.where(grey >> 7, 200, 0).astype(np.uint8),
        ),
    )
    yield (
        "png grey, one value transparent",
        Good(png(grey, 8, 0, chunk(b"tRNS", struct.pack(">H", 255))), np.where(grey == 255, 0, grey)),
    )
    yield "png with exif rotation", Good(png(grey, 8, 0, chunk(b"eXIf", exif(6)[6:])), np.rot90(grey, -1))
    yield "png called jpg", Good(png(grey, 8, 0), grey, name="IMAGE.JPG")
    yield "png of one pixel", Good(png(np.array([[9]]), 8, 0), np.array([[9]], np.uint8))
    yield "png with an unknown chunk", Good(png(grey, 8, 0, chunk(b"abCd", b"...")), grey)
    yield "png with bytes behind it", Good(png(grey, 8, 0) + b"rest", grey)

    # JPEG
    image = Image.fromarray(grey)
    yield "jpeg grey", Good(pillow(image, "JPEG", quality=98), grey, 6)
    yield "jpeg rgb", Good(pillow(image.convert("RGB"), "JPEG", quality=98), grey, 6)
    yield "jpeg rgb 4:2:0", Good(pillow(image.convert("RGB"), "JPEG", quality=98, subsampling=2), grey, 6)
    yield (
        "jpeg rgb without YCC",
        Good(pillow(image.convert("RGB"), "JPEG", quality=98, keep_rgb=True), grey, 6),
    )
    yield "jpeg cmyk", Good(pillow(image.convert("CMYK"), "JPEG", quality=98), grey, 6)
    yield "jpeg progressive", Good(pillow(image, "JPEG", quality=98, progressive=True), grey, 6)
    yield (
        "jpeg progressive rgb",
        Good(pillow(image.convert("RGB"), "JPEG", quality=98, progressive=True), grey, 6),
    )
    yield "jpeg with restarts", Good(pillow(image, "JPEG", quality=98, restart_marker_blocks=2), grey, 6)
    yield "jpeg optimized", Good(pillow(image, "JPEG", quality=98, optimize=True), grey, 6)
    yield "jpeg with bytes behind it", Good(pillow(image, "JPEG", quality=98) + b"\0" * 20, grey, 6)
    turned = (
        grey, grey[:, ::-1], grey[::-1, ::-1], grey[::-1],
        grey.T, np.rot90(grey, -1), grey[::-1, ::-1].T, np.rot90(grey),
    )  # fmt: skip
    for orientation, upright in enumerate(turned, 1):
        yield (
            f"jpeg exif orientation {orientation}",
            Good(pillow(image, "JPEG", quality=98, exif=exif(orientation)), upright, 6),
        )

    # TIFF
    yield "tiff grey", Good(tiff(grey), grey)
    yield "tiff grey, white is zero", Good(tiff(grey, t262=0), 255 - grey)
    yield "tiff 16 bit little endian", Good(tiff(twelve), grey)
    yield "tiff 16 bit big endian", Good(tiff(twelve, ">"), grey)
    yield "tiff 16 bit, white is zero", Good(tiff(twelve, t262=0), 255 - grey)
    yield "tiff 16 bit signed", Good(tiff(wide.astype(np.int16) * 3 - 300), grey)
    yield "tiff 32 bit", Good(tiff(wide.astype(np.int32) * 1000), grey)
    yield "tiff float", Good(tiff(grey.astype(np.float32) / 7 - 3), grey)
    yield "tiff turned", Good(tiff(grey, t274=6), np.rot90(grey, -1))
    yield "tiff lzw", Good(pillow(image, "TIFF", compression="tiff_lzw"), grey)
    yield (
        "tiff deflate 16 bit",
        Good(pillow(Image.fromarray(twelve), "TIFF", compression="tiff_adobe_deflate"), grey),
    )
    yield "tiff rgb", Good(pillow(image.convert("RGB"), "TIFF"), grey)
    yield "tiff rgb 16 bit", Good(opencv(np.stack((twelve,) * 3, -1), ".tiff"), grey)
    yield (
        "tiff fax",
        Good(pillow(Image.fromarray(grey > 127), "TIFF", compression="group4"), np.where(grey > 127, 255, 0)),
    )

    # BMP, WebP, DICOM
    yield "bmp grey", Good(pillow(image, "BMP"), grey)
    yield "bmp rgb", Good(pillow(image.convert("RGB"), "BMP"), grey)
    yield "bmp 1 bit", Good(pillow(Image.fromarray(grey > 127), "BMP"), np.where(grey > 127, 255, 0))
    yield "webp lossless", Good(pillow(image.convert("RGB"), "WEBP", lossless=True), grey)
    yield "webp lossy", Good(pillow(image.convert("RGB"), "WEBP", quality=98), grey, 8)
    clear = Image.fromarray(np.stack((grey, grey, grey, half), -1))
    yield "webp with alpha", Good(pillow(clear, "WEBP", lossless=True, exact=True), laid, 1)
    yield (
        "webp turned",
        Good(pillow(image.convert("RGB"), "WEBP", lossless=True, exif=exif(8)), np.rot90(grey)),
    )
    yield "dicom 8 bit", Good(dicom(grey), grey, name="image")
    yield "dicom 8 bit, inverse", Good(dicom(grey, PhotometricInterpretation="MONOCHROME1"), 255 - grey)
    tagged = bytearray(dicom(grey))
    tagged[:4] = b"II*\0"
    yield "dicom that pretends to be a tiff", Good(bytes(tagged), grey)


def bad() -> Iterator[tuple[str, Bad]]:
    """Files that must be refused, with the reason."""
    grey = GREY
    image = Image.fromarray(grey)
    whole = png(grey, 8, 0)
    jpeg = pillow(image, "JPEG", quality=95)
    steps = pillow(image, "JPEG", quality=95, progressive=True)
    scan = jpeg.index(b"\xff\xda")

    yield "empty", Bad(b"", "is empty")
    yield "one byte", Bad(b"\x89", "truncated: only 1 bytes")
    yield "zeros", Bad(bytes(1000), "is no PNG, JPEG")
    yield "text", Bad(b"hello, this is no image at all", "is no PNG, JPEG")
    yield "web page", Bad(b"<!DOCTYPE html><html>404</html>", "text or web page")
    yield "gif", Bad(pillow(image, "GIF"), "is a GIF")
    yield "pdf", Bad(b"%PDF-1.7 ..........", "is a PDF")
    yield "zip", Bad(b"PK\x03\x04............", "zip archive")
    yield "gzip", Bad(b"\x1f\x8b............", "gzip")
    yield "git lfs pointer", Bad(b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer")
    yield "macos resource file", Bad(b"\x00\x05\x16\x07" + bytes(100), "macOS resource file")
    yield "jpeg 2000", Bad(pillow(image, "JPEG2000"), "bare JPEG 2000")

    yield "png signature alone", Bad(whole[:8], "truncated")
    yield "png cut in its header", Bad(whole[:20], "truncated")
    yield "png cut in its data", Bad(whole[: len(whole) // 2], "truncated: the file ends inside its 'IDAT'")
    yield "png without its end", Bad(whole[:-12], "truncated: its end chunk")
    yield (
        "png with a flipped bit",
        Bad(whole[:60] + bytes((whole[60] ^ 1,)) + whole[61:], "checksum of its 'IDAT'"),
    )
    yield (
        "png with a broken stream",
        Bad(
            whole[:33] + chunk(b"IDAT", b"\x78\x9c" + b"\xff" * 50) + chunk(b"IEND", b""),
            "cannot be decompressed",
        ),
    )
    short = zlib.compress(bytes(41 * 5))
    yield (
        "png with missing rows",
        Bad(whole[:33] + chunk(b"IDAT", short) + chunk(b"IEND", b""), "truncated|damaged"),
    )
    yield "png without data", Bad(whole[:33] + chunk(b"IEND", b""), "truncated|damaged")
    yield (
        "png without pixels",
        Bad(png(np.zeros((1, 1)), 8, 0)[:16] + bytes(8) + whole[24:], "checksum|no pixels"),
    )
    yield "png bomb", Bad(png(grey, 8, 0, width=60000, height=60000), "claims 60000 x 60000 pixels")
    yield (
        "png animation",
        Bad(png(grey, 8, 0, chunk(b"acTL", struct.pack(">II", 3, 0))), "animation of 3 frames"),
    )
    clear = np.stack((grey, np.zeros_like(grey)), -1)
    yield "png all transparent", Bad(png(clear, 8, 4), "transparent")
    yield "png of an impossible depth", Bad(whole[:24] + b"\x05" + whole[25:], "checksum")

    yield "jpeg start alone", Bad(jpeg[:3] + b"\xe0", "truncated")
    yield "jpeg cut in its header", Bad(jpeg[: scan - 30], "truncated")
    yield "jpeg cut in its scan", Bad(jpeg[: scan + 100], "truncated: its end marker")
    yield "jpeg without its end", Bad(jpeg[:-2], "truncated: its end marker")
    yield (
        "jpeg cut in its scan, with end",
        Bad(jpeg[: scan + 100] + b"\xff\xd9", "truncated: pixels are missing"),
    )
    yield "jpeg without a scan", Bad(jpeg[:scan] + b"\xff\xd9", "truncated: its header")
    yield (
        "jpeg progressive, cut, with end",
        Bad(steps[: len(steps) // 2] + b"\xff\xd9", "truncated: the last scans"),
    )
    table = jpeg.index(b"\xff\xc4") + 5
    yield (
        "jpeg with a damaged table",
        Bad(jpeg[:table] + b"\xff" * 16 + jpeg[table + 16 :], "JPEG data are damaged"),
    )
    size = jpeg.index(b"\xff\xc0") + 5
    yield "jpeg bomb", Bad(jpeg[:size] + b"\xff\xf0" * 2 + jpeg[size + 4 :], "claims 65520 x 65520 pixels")
    yield "jpeg without pixels", Bad(jpeg[:size] + bytes(4) + jpeg[size + 4 :], "no pixels|damaged")

    two = pillow(image, "TIFF", save_all=True, append_images=[image])
    yield "tiff of two pages", Bad(two, "holds 2 images")
    yield "tiff cut in its data", Bad(tiff(grey)[:500], "damaged|truncated")
    lzw = pillow(image, "TIFF", compression="tiff_lzw")
    yield "tiff with damaged data", Bad(lzw[:40] + b"\xff" * 60 + lzw[100:], "damaged|truncated")
    yield "tiff bomb", Bad(tiff(grey, t256=60000, t257=60000), "claims 60000 x 60000 pixels")
    holes = grey.astype(np.float32)
    holes[3, 3] = np.nan
    yield "tiff float with nan", Bad(tiff(holes), "not finite")
    yield "bmp cut", Bad(pillow(image, "BMP")[:-100], "truncated|damaged")
    bmp = pillow(image, "BMP")
    yield (
        "bmp bomb",
        Bad(bmp[:18] + struct.pack("<ii", 60000, 60000) + bmp[26:], "claims 60000 x 60000 pixels"),
    )
    webp = pillow(image.convert("RGB"), "WEBP", lossless=True)
    yield "webp cut", Bad(webp[: len(webp) // 2], "truncated")
    frames = [Image.fromarray(np.roll(grey, k, 1)).convert("RGB") for k in (5, 9)]
    yield (
        "webp animation",
        Bad(pillow(frames[0], "WEBP", save_all=True, append_images=frames[1:]), "holds 2 images"),
    )
    large = bytearray(webp)
    large[21:25] = ((16383 - 1) | (16383 - 1) << 14).to_bytes(4, "little")
    yield "webp bomb", Bad(bytes(large), "claims 16383 x 16383 pixels")

    file = dicom(grey)
    yield "dicom cut in its pixels", Bad(file[:-100], "damaged|truncated")
    yield "dicom cut in its header", Bad(file[:200], "no pixels|damaged|truncated")
    yield "dicom without pixels", Bad(dicom(grey, PixelData=None), "truncated|no pixels")
    rgb = np.stack((grey,) * 3, -1)
    yield (
        "dicom in colour",
        Bad(
            dicom(rgb, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0),
            "colour image",
        ),
    )
    yield "dicom palette", Bad(dicom(grey, PhotometricInterpretation="PALETTE COLOR"), "colour image")
    yield (
        "dicom of two frames",
        Bad(dicom(grey, NumberOfFrames=2, PixelData=grey.tobytes() * 2), "holds 2 frames"),
    )
    yield "dicom bomb", Bad(dicom(grey, Rows=60000, Columns=60000), "claims 60000 x 60000")
    yield "dicom of 32 bits", Bad(dicom(grey.astype(np.uint32)), "32 of 32 bits")
    yield (
        "dicom by name alone",
        Bad(b"no dicom at all, just text", "no PNG.* or DICOM", name="scan.dcm"),
    )
    lossless = "1.2.840.10008.1.2.4.70"
    yield "dicom without decoder", Bad(encapsulated(b"\xff\xd8\xff", lossless), r"JPEG Lossless.*python-gdcm")
    yield (
        "dicom film",
        Bad(encapsulated(b"\0\0\0\0", "1.2.840.10008.1.2.4.102"), "MPEG-4.*none of still images"),
    )
    jfif = encapsulated(jpeg[: scan + 100] + b"\xff\xd9", "1.2.840.10008.1.2.4.50")
    yield "dicom jpeg cut", Bad(jfif, "truncated|damaged")


def encapsulated(frame: bytes, syntax: str, grey: np.ndarray = GREY, **header: Any) -> bytes:
    """A DICOM file around an already compressed frame."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    return dicom(grey, TransferSyntaxUID=UID(syntax), PixelData=encapsulate([frame]), **header)


def all_of(kind: Callable[[], Iterator[tuple[str, Any]]]) -> dict[str, Any]:
    found = list(kind())
    assert len(dict(found)) == len(found)
    return dict(found)
