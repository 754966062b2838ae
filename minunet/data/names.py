"""Names of images: what the pages of a stack are called, and why images and masks do not pair."""

from __future__ import annotations

import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

RENAME = "rename the images or the masks"


def page_names(stem: str, pages: int) -> tuple[str, ...]:
    """Names of the images in a file, in training and prediction alike: its stem, or stem_p001, stem_p002, ..."""
    if pages == 1:
        return (stem,)
    digits = max(3, len(str(pages)))
    return tuple(f"{stem}_p{page:0{digits}d}" for page in range(1, pages + 1))


def why_apart(images: Sequence[str], masks: Sequence[str], whole: bool) -> tuple[str, str] | None:
    """(what the names have, what to do), if the stems without a partner show why they have none.

    Known causes: an ending or a beginning that all names of one side have, one that is asked for and that none
    has, upper and lower case, and accented letters that are stored in two ways, as macOS and other systems do.
    Endings and beginnings are looked for only if the `whole` set of masks has no partner.
    """
    if not images or not masks:
        return None
    if set(masks) & set(images):  # they would have paired, had not an ending been asked for
        if whole and set(masks) <= set(images):
            return "names are those of the images, without an ending", "leave out --mask-suffix"
        return None
    if _pair_as(images, masks, _composed) or _pair_as(masks, images, _composed):
        forms = f"Unicode: {_form(images)} in the images, {_form(masks)} in the masks"
        return f"accented letters are stored in another way ({forms})", RENAME + ", for example with convmv --nfc"
    if whole and (ending := _ending(images, masks)):
        return f"all names end in {ending}", f"give {mask_suffix_option(ending)}"
    if whole and (ending := _ending(masks, images)):
        return f"names lack the ending {ending} of the images", RENAME
    if whole and (beginnings := _beginnings(images, masks)):
        told = [f"names begin with {text}" if text else "names lack that beginning" for text in beginnings]
        return f"{told[1]} (the images' {told[0]})", RENAME
    if _pair_as(images, masks, str.casefold):
        return "names differ in upper and lower case", RENAME
    return None


def shared_ending(stems: Sequence[str]) -> str:
    """The ending by which masks differ from images among the names of one folder; "" if there is none."""
    known = set(stems)
    endings = Counter(
        stem[length:] for stem in stems for length in range(1, len(stem)) if stem[:length] in known
    )
    ending, count = endings.most_common(1)[0] if endings else ("", 0)
    return ending if 2 * count == len(stems) else ""


def mask_suffix_option(ending: str) -> str:
    """As it is typed; behind a space, an ending that starts with "-" would pass for an option."""
    return f"--mask-suffix{'=' if ending.startswith('-') else ' '}{shlex.quote(ending)}"


def _ending(short: Sequence[str], long: Sequence[str]) -> str:
    """What stands behind every name of `long`, which without it is one of `short`."""
    known = set(short)
    first = long[0]
    for length in range(len(first) - 1, 0, -1):  # the shortest ending first
        ending = first[length:]
        if all(name.endswith(ending) and name.removesuffix(ending) in known for name in long):
            return ending
    return ""


def _beginnings(images: Sequence[str], masks: Sequence[str]) -> tuple[str, str] | None:
    """The two beginnings, if the names are alike but for them."""
    one, other = _common_start(images), _common_start(masks)
    common = len(_common_start([one[::-1], other[::-1]]))
    one, other = one[: len(one) - common], other[: len(other) - common]
    cores = {name.removeprefix(one) for name in images}
    alike = "" not in cores and {name.removeprefix(other) for name in masks} <= cores
    alike &= _composed(one) != _composed(other)  # the same to the eye
    return (one, other) if alike else None


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)  # all others lie between these two
    differ = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(differ, len(first))]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _form(names: Sequence[str]) -> str:
    """In which of its forms Unicode stores these names."""
    fitting = [form for form in ("NFC", "NFD") if all(unicodedata.is_normalized(form, name) for name in names)]
    return fitting[0] if fitting else "a mixture"


def _pair_as(images: Sequence[str], masks: Sequence[str], plain: Callable[[str], str]) -> bool:
    return {plain(name) for name in masks} <= {plain(name) for name in images}
