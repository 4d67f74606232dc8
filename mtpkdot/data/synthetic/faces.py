"""Generated faces: schematic heads as RGB frames, moved by an `Expression` and a `Pose`.

A face is drawn in units of half its height: u to the right and v down from the centre, the chin at v = 1. Parts that
never move (hair, skin, light) are painted once per person. Brows, eyes and mouth are drawn for all frames at once from
distances to their outlines, one half of the face and its mirror image; each frame is then moved by its pose.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mtpkdot.data.synthetic.expressions import Expression, Pose

Image = NDArray[np.uint8]
Array = NDArray[np.floating[Any]]

_EXTENT = 1.4  # Half the side of the painted square, in half heights of the head.
_HEAD = 0.27  # Half height of the head as a share of the frame's height.
_EYES = (-0.5, 0.12, 0.68)  # First v, last v and greatest |u| of the area of brows and eyes.
_MOUTH = (0.22, 0.88, 0.56)
_EYEBALL = np.array([228, 224, 220], dtype=np.float32)
_PUPIL = np.array([14, 12, 12], dtype=np.float32)
_LASHES = np.array([34, 26, 24], dtype=np.float32)
_THROAT = np.array([48, 20, 22], dtype=np.float32)
_TEETH = np.array([226, 220, 210], dtype=np.float32)
_BLOCK = 64  # Frames drawn at once: bounds the memory of a long clip.


@dataclass(frozen=True)
class Look:
    """Appearance of a person: colours as RGB in [0, 255], lengths in half heights of the head."""

    skin: Array
    hair: Array
    iris: Array
    lips: Array
    shirt: Array
    background: Array
    width: float
    hairline: float
    hair_width: float
    eye_distance: float
    eye_height: float
    eye_size: float
    brow_thickness: float
    mouth_height: float
    mouth_width: float
    nose_length: float
    light: tuple[float, float]
    brightness: float


def random_look(random: np.random.Generator) -> Look:
    """Return a random appearance of a person."""

    def pick(*colours: tuple[int, int, int]) -> Array:
        colour = np.array(colours[random.integers(len(colours))]) + random.normal(size=3) * 6
        return np.clip(colour, 5, 250).astype(np.float32)

    tone = random.uniform(0, 1)
    skin = (np.array([236, 196, 170]) * (1 - tone) + np.array([150, 104, 78]) * tone).astype(np.float32)
    return Look(
        skin=skin,
        hair=pick((40, 28, 22), (78, 52, 34), (150, 112, 68), (110, 104, 100), (92, 44, 26)),
        iris=pick((70, 46, 28), (76, 96, 120), (72, 98, 70)),
        lips=(skin * np.array([0.82, 0.58, 0.58])).astype(np.float32),
        shirt=pick((46, 60, 92), (120, 40, 48), (70, 92, 70), (190, 190, 186), (40, 40, 44)),
        background=pick((150, 160, 168), (186, 180, 166), (108, 118, 112), (86, 96, 120)),
        width=random.uniform(0.70, 0.78),
        hairline=random.uniform(-0.76, -0.64),
        hair_width=random.uniform(1.06, 1.16),
        eye_distance=random.uniform(0.30, 0.34),
        eye_height=random.uniform(-0.16, -0.10),
        eye_size=random.uniform(0.145, 0.165),
        brow_thickness=random.uniform(0.030, 0.048),
        mouth_height=random.uniform(0.52, 0.57),
        mouth_width=random.uniform(0.25, 0.30),
        nose_length=random.uniform(0.24, 0.30),
        light=(random.uniform(-0.18, 0.18), random.uniform(0.02, 0.14)),
        brightness=random.uniform(0.88, 1.08),
    )


def render(
    look: Look, expression: Expression, pose: Pose, size: int | tuple[int, int], random: np.random.Generator
) -> Image:
    """Return the frames of a clip.

    Args:
        look: appearance of the person.
        expression: expression of the face, [frames] each.
        pose: place of the head, [frames] each.
        size: height and width of the frames in pixels, or one number for both.
        random: source of randomness for background and camera noise.

    Returns:
        RGB frames [frames, height, width, 3].
    """
    return np.concatenate(list(render_blocks(look, expression, pose=pose, size=size, random=random)))


def render_blocks(
    look: Look, expression: Expression, pose: Pose, size: int | tuple[int, int], random: np.random.Generator
) -> Iterator[Image]:
    """Yield the frames of `render` in blocks, for clips of any length."""
    height, width = (size, size) if isinstance(size, int) else size
    expression = expression.within_bounds()
    painter = _Painter(look, scale=_HEAD * height)
    scene = _background(look, height, width, random)
    grain = random.normal(0, 1.5, size=(8, height, width, 1)).repeat(3, axis=3).astype(np.int16)
    matrices = placement(pose, (height, width)) @ painter.to_head
    for start in range(0, len(matrices), _BLOCK):
        block = Expression(*[control[start : start + _BLOCK].astype(np.float32) for control in expression])
        frames = np.empty((len(block.eyes), height, width, 3), dtype=np.uint8)
        for i, (upper, lower) in enumerate(zip(*painter.parts(block), strict=True)):
            noise = grain[(start + i) % len(grain)]
            painter.place(upper, lower, to_pixels=matrices[start + i], scene=scene, noise=noise, out=frames[i])
        yield frames


def placement(pose: Pose, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the transform from head coordinates to pixels.

    Args:
        pose: place of the head.
        size: height and width of the frame in pixels.

    Returns:
        [frames, 3, 3]: (u, v, 1) to (x, y, 1), where (0, 0) is the centre of the first pixel.
    """
    unit = _HEAD * size[0]
    cos, sin = unit * pose.scale * np.cos(pose.roll), unit * pose.scale * np.sin(pose.roll)
    matrices = np.zeros((len(pose.x), 3, 3))
    matrices[:, 0] = np.stack([cos, -sin, (size[1] - 1) / 2 + unit * pose.x], axis=1)
    matrices[:, 1] = np.stack([sin, cos, (size[0] - 1) / 2 + unit * pose.y], axis=1)
    matrices[:, 2, 2] = 1
    return matrices


def crop(frame: Image, to_pixels: NDArray[np.float64], size: int = 112) -> Image:
    """Cut the upright face out of a frame, as a face aligner does.

    Args:
        frame: RGB [height, width, 3].
        to_pixels: [3, 3], a row of `placement`.
        size: side of the crop in pixels.

    Returns:
        RGB [size, size, 3].
    """
    step = 2.0 / (size - 1)
    from_crop = to_pixels @ np.array([[step, 0, -1.0], [0, step, -0.9], [0, 0, 1]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(frame, from_crop[:2], (size, size), flags=flags), dtype=np.uint8)


class _Painter:
    """Painter of one person at one scale: fixed parts, and drawing of moving ones."""

    def __init__(self, look: Look, scale: float) -> None:
        self.look, self.scale = look, np.float32(scale)
        half = int(np.ceil(_EXTENT * scale))
        line = (np.arange(-half, half) + 0.5).astype(np.float32) / self.scale
        self.u, self.v = line[None, :], line[:, None]
        self.half = half
        # Pixels of the painted square to head coordinates.
        offset = (0.5 - half) / scale
        self.to_head = np.array([[1 / scale, 0, offset], [0, 1 / scale, offset], [0, 0, 1]])
        self.areas = [self._area(*area) for area in (_EYES, _MOUTH)]
        self.albedo, alpha, shade = self._still()
        # Light times opacity, so that painted pixels can be added to the background.
        self.light = (shade * alpha)[..., None]
        self.painted = np.clip(self.albedo * self.light, 0, 255).astype(np.uint8)
        self.behind = np.rint(255 * (1 - alpha)).astype(np.uint8)

    def _area(self, first: float, last: float, side: float) -> tuple[slice, slice, slice]:
        """Return the rows, all columns and the columns of the right half of a part of the face."""
        rows = slice(self.half + int(first * self.scale), self.half + int(last * self.scale))
        reach = int(side * self.scale)
        return rows, slice(self.half - reach, self.half + reach), slice(self.half, self.half + reach)

    def _cover(self, distance: Array) -> Array:
        """Return the share of a pixel inside an outline, from its signed distance in head units (negative inside)."""
        return np.asarray(np.clip(0.5 - distance * self.scale, 0, 1))

    def _still(self) -> tuple[Array, Array, Array]:
        """Return colour before light [side, side, 3], opacity and light [side, side] of all fixed parts."""
        look, u, v = self.look, self.u, self.v
        side = np.abs(u)
        # The jaw narrows towards the chin.
        width = look.width * (1 - 0.16 * np.clip(v, 0, 1) ** 2)
        head = self._cover(_ellipse(side / width, v) * 0.75)
        hair_back = self._cover(_ellipse(side / (look.width * look.hair_width), (v + 0.16) / 0.93) * 0.8)
        hair_back = hair_back * np.clip((0.25 - v) * 6, 0, 1)
        ears = self._cover(_ellipse((side - look.width * 0.98) / 0.10, (v + 0.02) / 0.2) * 0.1)
        neck = self._cover(np.maximum(side - 0.36, 0.6 - v))
        hairline = look.hairline + 0.5 * (side / look.width) ** 3
        hair_line = self._cover(v - hairline)
        albedo = np.empty((*np.broadcast_shapes(u.shape, v.shape), 3), dtype=np.float32)
        albedo[...] = look.skin
        _over(albedo, neck, look.skin * 0.72)
        _over(albedo, np.maximum(hair_back, 0), look.hair)
        _over(albedo, ears, look.skin * 0.86)
        _over(albedo, head * (1 - hair_line), look.skin)
        for strength, distance in (
            (0.34, ((side - look.eye_distance) / 0.19) ** 2 + ((v - look.eye_height + 0.02) / 0.13) ** 2),
            (0.22, ((side - 0.10) / 0.04) ** 2 + ((v - 0.08) / 0.22) ** 2),
            (0.45, ((side - 0.06) / 0.035) ** 2 + ((v - look.nose_length) / 0.025) ** 2),
            (0.16, (side / 0.2) ** 2 + ((v - look.mouth_height - 0.14) / 0.05) ** 2),
            (-0.12, (side / 0.05) ** 2 + ((v - 0.02) / 0.24) ** 2),
            (-0.10, ((side - 0.36) / 0.16) ** 2 + ((v - 0.2) / 0.14) ** 2),
        ):
            albedo *= 1 - strength * np.exp(-distance)[..., None]
        _over(albedo, hair_line * (head > 0), look.hair)
        alpha = np.maximum.reduce(np.broadcast_arrays(head, hair_back, ears, neck * np.clip((1.3 - v) * 8, 0, 1)))
        round_off = np.clip((side / look.width) ** 2 + 0.5 * v**2, 0, 1.3)
        shade = look.brightness * (1.06 - 0.30 * round_off**1.5 + look.light[0] * u - look.light[1] * v)
        return albedo, alpha.astype(np.float32), shade.astype(np.float32)

    def parts(self, e: Expression) -> tuple[Image, Image]:
        """Return brows with eyes, and the mouth, lit: [frames, rows, columns, 3] each."""
        lit = []
        for area, draw in zip(self.areas, (self._eyes, self._mouth), strict=True):
            rows, columns, right = area
            u, v = self.u[None, :, right], self.v[None, rows]
            half = np.repeat(self.albedo[None, rows, right], len(e.eyes), axis=0)
            draw(half, u, v, Expression(*[control[:, None, None] for control in e]))
            whole = np.concatenate([half[:, :, ::-1], half], axis=2) * self.light[rows, columns]
            lit.append(np.clip(whole, 0, 255).astype(np.uint8))
        return lit[0], lit[1]

    def _eyes(self, canvas: Array, u: Array, v: Array, e: Expression) -> None:
        look = self.look
        du, dv = (u - look.eye_distance) / look.eye_size, v - look.eye_height
        arc = np.clip(1 - du**2, 0, None)
        opening = 0.42 * look.eye_size * e.eyes * arc
        upper, lower = dv + opening * 1.1, dv - opening * 0.75
        inside = self._cover(np.maximum(np.abs(du) - 1, np.maximum(-upper, lower)))
        iris = inside * self._cover(np.hypot(du * look.eye_size, dv) - 0.47 * look.eye_size)
        pupil = inside * self._cover(np.hypot(du * look.eye_size, dv) - 0.2 * look.eye_size)
        lash = self._cover(np.maximum(np.abs(upper) - 0.016, np.abs(du) - 1.0))
        _over(canvas, inside, _EYEBALL)
        _over(canvas, iris, look.iris)
        _over(canvas, pupil, _PUPIL)
        _over(canvas, lash * 0.85, _LASHES)
        # Brows: an arc whose inner end the frown pulls down and in.
        along = (u - look.eye_distance + 0.03 * e.frown) / 0.21
        middle = look.eye_height - 0.23 - 0.07 * e.brow_height - 0.09 * e.frown * along - 0.04 * (1 - along**2)
        thick = look.brow_thickness * (1.1 - 0.45 * np.clip(along, -1, 1))
        brow = self._cover(np.maximum(np.abs(v - middle) - thick, (np.abs(along) - 1) * 0.21))
        _over(canvas, brow, look.hair * 0.8)
        furrow = np.exp(-(((u - 0.055) / 0.018) ** 2) - ((v - look.eye_height + 0.2) / 0.10) ** 2)
        _over(canvas, 0.55 * e.wrinkle * furrow, look.skin * 0.45)

    def _mouth(self, canvas: Array, u: Array, v: Array, e: Expression) -> None:
        look = self.look
        width = look.mouth_width * (1 + 0.22 * e.mouth_width)
        along = u / width
        arc = np.clip(1 - along**2, 0, None)
        middle = look.mouth_height - 0.13 * e.mouth_curve * (along**2 - 0.35)
        gap = 0.13 * e.mouth_open * arc
        dv = v - middle
        ends = (np.abs(along) - 1) * look.mouth_width
        lips = self._cover(np.maximum(ends, np.maximum(-dv - gap * 0.6 - 0.055 * arc, dv - gap - 0.07 * arc)))
        hole = self._cover(np.maximum(ends, np.maximum(-dv - gap * 0.6 - 0.008, dv - gap - 0.008)))
        teeth = hole * self._cover(dv + gap * 0.6 - 0.045) * np.clip(e.mouth_open * 4, 0, 1)
        # The fold from the wing of the nose to the corner of the mouth.
        fold_at = 0.17 + 0.26 * (v - 0.26) / 0.34
        fold = np.exp(-(((u - fold_at) / 0.022) ** 2)) * np.clip((v - 0.24) * 12, 0, 1) * np.clip((0.6 - v) * 12, 0, 1)
        smile = np.clip(e.mouth_curve, 0, 1)
        _over(canvas, np.clip(0.1 + 0.35 * e.wrinkle + 0.3 * smile, 0, 0.6) * fold, look.skin * 0.5)
        _over(canvas, lips, look.lips)
        _over(canvas, hole, _THROAT)
        _over(canvas, teeth * 0.9, _TEETH)

    def place(
        self,
        upper: Image,
        lower: Image,
        to_pixels: NDArray[np.float64],
        scene: Image,
        noise: NDArray[np.int16],
        out: Image,
    ) -> None:
        """Draw one frame's face in front of the scene."""
        painted = self.painted.copy()
        for (rows, columns, _), part in zip(self.areas, (upper, lower), strict=True):
            painted[rows, columns] = part
        shape = (out.shape[1], out.shape[0])
        moved = cv2.warpAffine(painted, to_pixels[:2], shape)
        behind = cv2.warpAffine(self.behind, to_pixels[:2], shape, borderValue=(255.0,))
        seen = cv2.multiply(scene, cv2.cvtColor(behind, cv2.COLOR_GRAY2RGB), scale=1 / 255)
        cv2.add(cv2.add(seen, moved), noise, dst=out, dtype=cv2.CV_8U)


def _ellipse(x: Array, y: Array) -> Array:
    """Return the distance to the unit circle."""
    return np.asarray(np.hypot(x, y) - 1)


def _over(canvas: Array, cover: Array, colour: Array) -> None:
    """Paint `colour` [3] with opacity `cover` [..., rows, columns] on `canvas` [..., rows, columns, 3], in place."""
    canvas += cover[..., None] * (colour - canvas)


def _background(look: Look, height: int, width: int, random: np.random.Generator) -> Image:
    """Return a wall with soft shadows, and the person's shoulders."""
    rough = random.normal(size=(4, 5)).astype(np.float32)
    wall = 1 + 0.10 * cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    scene = (wall * look.background * look.brightness).astype(np.float32)
    unit = _HEAD * height
    u = (np.arange(width) - (width - 1) / 2)[None, :] / unit
    v = (np.arange(height) - (height - 1) / 2)[:, None] / unit
    shoulders = np.clip(0.5 - (np.hypot(u / 1.5, (v - 2.1) / 1.0) - 1) * unit, 0, 1)
    _over(scene, shoulders.astype(np.float32), look.shirt)
    return np.clip(scene, 0, 255).astype(np.uint8)
