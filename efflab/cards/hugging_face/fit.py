"""Whether a Hugging Face checkpoint fits a task: classes, image, and how pixels were normalised, as far as its files say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from efflab.cards.hugging_face.checkpoint import PREPROCESSOR, Checkpoint
from efflab.contracts.classification import Classification
from efflab.contracts.task import Task

CLASSIFIER = "ForImageClassification"
# models with a table of positions (or of attention biases) for one image size, and no other
ONE_SIZE = {"beit", "data2vec-vision", "deit", "levit", "vit", "vit_msn"}
CLOSE = 1e-3  # published means and deviations are rounded
Channels = tuple[float, ...]


@dataclass(frozen=True)
class Conversion:
    """How the numbers that a task gives become those that a model was trained on: times `scale`, plus `shift`."""

    scale: Channels  # one for each channel
    shift: Channels

    def nothing(self) -> bool:
        """Say whether it changes nothing."""
        return all(abs(one - 1) < CLOSE for one in self.scale) and all(abs(one) < CLOSE for one in self.shift)


def misfits(checkpoint: Checkpoint, task: Task) -> list[str]:
    """Return a sentence for each thing in which the checkpoint does not fit the task."""
    config, found = checkpoint.config, list[str]()
    told = config.get("architectures")
    named = [str(one) for one in told] if isinstance(told, list) else []
    if named and not any(CLASSIFIER in one for one in named):
        found.append(f"config.json says {', '.join(named)}; an image classifier (...{CLASSIFIER}) is wanted")
    if "quantization_config" in config:
        found.append("the model is quantised already; give the float one")
    if not isinstance(task, Classification):
        return [*found, "the task is no classification of images, which is all that models of Hugging Face can do here"]
    if found:
        return found
    classes = _classes(config)
    if task.classes is not None and classes != task.classes:
        what = f"the model tells {classes:,} classes apart, the task has {task.classes:,}; "
        found.append(what + "train it with a head for the task, and save it again")
    return found + _image_misfits(config, task.image)


def _image_misfits(config: dict[str, Any], gives: tuple[int, int, int] | None) -> list[str]:
    if gives is None:
        return []
    channels, sides = config.get("num_channels"), _sides(config.get("image_size"))
    if config.get("model_type") in ONE_SIZE and sides and (channels or gives[0], *sides) != gives:
        wants = _shape((channels or gives[0], *sides))
        return [
            f"the model takes images of {wants} (channels, height, width) and no others, the task gives {_shape(gives)}"
        ]
    if isinstance(channels, int) and channels != gives[0]:
        return [
            f"the model takes images of {channels} channels, the task gives {_shape(gives)} (channels, height, width)"
        ]
    return []


def notes(checkpoint: Checkpoint, task: Task) -> list[str]:
    """Return what the user should know of how the checkpoint will be used, a sentence each."""
    found = []
    if checkpoint.commit and not checkpoint.pinned:
        found.append(f"commit {checkpoint.commit} of {checkpoint.name} is used; `revision` in the card pins it")
    sides, gives = _sides_trained(checkpoint), getattr(task, "image", None)
    if sides and gives and sides != gives[1:]:
        found.append(f"the model was made for images of {sides[0]}x{sides[1]}, the task gives {gives[1]}x{gives[2]}")
    if checkpoint.preprocessor is None:
        return [*found, f"there is no {PREPROCESSOR}: the model is taken to want the numbers that the task gives"]
    change = conversion(checkpoint, task)
    if change is None:
        found.append(
            f"{PREPROCESSOR} and the task cannot be compared: the model is given the task's numbers as they are"
        )
    elif not change.nothing():
        wanted = _normalised(checkpoint.preprocessor) or ()
        mean, deviation = (" ".join(f"{one:.3g}" for one in part) for part in wanted)
        found.append(
            f"the model wants pixels with mean {mean} and deviation {deviation}: its graph converts the task's"
        )
    return found


def conversion(checkpoint: Checkpoint, task: Task) -> Conversion | None:
    """Return how the task's numbers become the model's, None where the files or the task do not say."""
    mean, deviation = getattr(task, "mean", None), getattr(task, "deviation", None)
    if checkpoint.preprocessor is None or mean is None or deviation is None:
        return None
    wanted = _normalised(checkpoint.preprocessor)
    if wanted is None:
        return None
    their_mean, their_deviation = (_spread(part, len(mean)) for part in wanted)
    if not their_mean or not their_deviation:
        return None
    both = list(zip(mean, deviation, their_mean, their_deviation, strict=True))
    return Conversion(
        tuple(ours / theirs for _, ours, _, theirs in both),
        tuple((ours - theirs) / spread for ours, _, theirs, spread in both),
    )


def _normalised(preprocessor: dict[str, Any]) -> tuple[Channels, Channels] | None:
    """Return the mean and the deviation by which pixels from 0 to 1 are normalised, None if the file does not say."""
    factor = preprocessor.get("rescale_factor", 1 / 255) if preprocessor.get("do_rescale", True) else 1
    mean, deviation = preprocessor.get("image_mean"), preprocessor.get("image_std")
    if not preprocessor.get("do_normalize", True):
        mean, deviation = [0.0], [1.0]
    lists = _numbers(mean), _numbers(deviation), _numbers([factor])
    if not all(lists) or not all(one > 0 for one in (*lists[1], *lists[2])):
        return None
    whole = 255 * lists[2][0]  # what becomes of a white pixel before it is normalised
    offset = 1.0 if preprocessor.get("rescale_offset") else 0.0
    return tuple((one + offset) / whole for one in lists[0]), tuple(one / whole for one in lists[1])


def _numbers(values: Any) -> Channels:
    """Return a list of finite numbers, () for anything else."""
    if not isinstance(values, list) or not all(isinstance(one, int | float) and math.isfinite(one) for one in values):
        return ()
    return tuple(map(float, values))


def _spread(values: Channels, channels: int) -> Channels:
    """Return one value for each channel, () if that is not clear; an equal value for all stands for any number of them."""
    return values if len(values) == channels else values[:1] * channels if len(set(values)) == 1 else ()


def _classes(config: dict[str, Any]) -> int:
    count, names = config.get("num_labels"), config.get("id2label")
    if isinstance(count, int):
        return count
    return len(names) if isinstance(names, dict) and names else 2  # what the library takes where the file is silent


def _sides_trained(checkpoint: Checkpoint) -> tuple[int, int] | None:
    told = checkpoint.preprocessor or {}
    cropped = told.get("crop_size") if told.get("do_center_crop") else None
    return _sides(checkpoint.config.get("image_size")) or _sides(cropped) or _sides(told.get("size"))


def _sides(size: Any) -> tuple[int, int] | None:
    """Return height and width of a size as Hugging Face writes it: a number, two, or a mapping."""
    if isinstance(size, dict):
        size = [size.get("height", size.get("shortest_edge")), size.get("width", size.get("shortest_edge"))]
    pair = size if isinstance(size, list) and len(size) == 2 else [size, size]
    return (pair[0], pair[1]) if all(type(one) is int for one in pair) else None


def _shape(image: tuple[int, ...]) -> str:
    return "x".join(map(str, image))
