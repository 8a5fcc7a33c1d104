"""Sixteen drawings, two for each of eight imaging modalities.

Each function returns the luminance of a healthy picture, roughly between 0.05 and 0.75, so that lesions can be both
brighter and darker. What tells the modalities apart is shape and texture; colour and exposure
are nuisances, added later.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medr1.data.phantom.canvas import (
    Canvas,
    Picture,
    band,
    capsule,
    ellipse,
    inside,
    nearest,
    smooth_noise,
    speckle,
    vessel,
)
from medr1.types import Modality

SIDES = (-1, 1)


def _body(c: Canvas) -> Picture:
    """The outline of a trunk in cross-section: soft tissue within a bright rim, and the spine at the back."""
    outer, inner = ellipse(c, 0, 0, 0.95, 0.8), ellipse(c, 0, 0, 0.86, 0.71)
    picture = 0.05 + 0.2 * outer + 0.17 * inner
    spine = ellipse(c, 0, 0.52, 0.15, 0.13) + capsule(c, (0, 0.6), (0, 0.72), 0.05)
    return picture + 0.35 * np.clip(spine, 0, 1) - 0.4 * ellipse(c, 0, 0.53, 0.05, 0.05)


def ct_chest(c: Canvas) -> Picture:
    """Two dark lungs with bright vessels, a ring of ribs, the heart between."""
    picture = _body(c)
    lungs = np.zeros_like(picture)
    for side in SIDES:
        lungs += ellipse(c, side * 0.45, -0.04, 0.31 + c.jitter(0.03), 0.52 + c.jitter(0.04), angle=-0.15 * side)
    picture = picture - 0.33 * np.clip(lungs, 0, 1)
    around = np.linspace(0, 2 * np.pi, 12, endpoint=False) + c.jitter(0.2)
    ribs = np.stack([0.87 * np.cos(around), 0.71 * np.sin(around)], axis=1)
    picture += 0.4 * inside(nearest(c, ribs) - 0.055)
    branches = c.rng.uniform((-0.75, -0.45), (0.75, 0.4), (16, 2))
    picture += 0.25 * lungs * inside(nearest(c, branches) - 0.02)
    return picture + 0.2 * ellipse(c, 0.1 + c.jitter(), 0.02, 0.26, 0.3, angle=0.5)


def ct_abdomen(c: Canvas) -> Picture:
    """The liver on one side, the spleen on the other, two kidneys with a dark pelvis, gas in the bowel."""
    picture = _body(c)
    picture += 0.15 * ellipse(c, -0.42 + c.jitter(), -0.12, 0.38, 0.42, angle=0.5)
    picture += 0.13 * ellipse(c, 0.62, 0.0, 0.15, 0.32, angle=-0.3)
    for side in SIDES:
        x, y = side * (0.4 + c.jitter(0.03)), 0.36 + c.jitter(0.03)
        picture += 0.25 * ellipse(c, x, y, 0.15, 0.2, angle=0.3 * side)
        picture -= 0.2 * ellipse(c, x - side * 0.05, y, 0.06, 0.1)
    gas = c.rng.uniform((0.0, -0.55), (0.5, -0.2), (4, 2))
    picture -= 0.35 * inside(nearest(c, gas) - 0.09)
    return picture


def mri_brain(c: Canvas) -> Picture:
    """A bright scalp, a dark skull, folded cortex, two ventricles and the gap between the hemispheres."""
    scalp = ellipse(c, 0, 0, 0.8, 0.95) - ellipse(c, 0, 0, 0.73, 0.88)
    brain = ellipse(c, 0, 0, 0.68, 0.82)
    radius = np.sqrt((c.x / 0.82) ** 2 + c.y**2)
    folds = np.sin(9 * smooth_noise(c, 9) + 10 * radius) * np.clip(radius * 2 - 0.5, 0, 1)
    picture = 0.05 + 0.5 * scalp + brain * (0.38 + 0.12 * folds)
    for side in SIDES:
        picture -= 0.3 * ellipse(c, side * 0.14, -0.08 + c.jitter(0.04), 0.08, 0.28, angle=-0.35 * side)
        picture += 0.1 * ellipse(c, side * 0.27, 0.0, 0.1, 0.2)
    return picture - 0.25 * brain * band(c.x, 0.025)


def mri_knee(c: Canvas) -> Picture:
    """Thigh bone above, shin bone below, dark cartilage and menisci in the gap, the kneecap in front."""
    gap = c.jitter(0.04)
    picture = 0.08 + 0.14 * ellipse(c, 0, 0, 0.92, 1.6)
    femur = np.maximum(capsule(c, (0.05, -1.4), (0.05, -0.6), 0.36), ellipse(c, 0.05, -0.34 + gap, 0.56, 0.3))
    tibia = np.maximum(capsule(c, (0.05, 1.4), (0.05, 0.7), 0.36), ellipse(c, 0.05, 0.42 + gap, 0.56, 0.24))
    marrow = np.maximum(femur, tibia)
    picture += marrow * (0.4 + 0.03 * smooth_noise(c, 18))
    picture -= 0.3 * (marrow * (1 - marrow)) * 2
    for side in SIDES:
        picture -= 0.15 * ellipse(c, 0.05 + side * 0.42, 0.07 + gap, 0.17, 0.07)
    picture += 0.4 * ellipse(c, -0.74, -0.32 + gap, 0.11, 0.28, angle=-0.1)
    picture -= 0.12 * capsule(c, (-0.72, 0.0), (-0.5, 0.6), 0.04)
    return picture


def radiograph_ribs(c: Canvas) -> Picture:
    """Dark lung fields crossed by arched ribs, the spine, the shadow of the heart, the dome of the diaphragm."""
    lungs = ellipse(c, -0.43, -0.08, 0.36, 0.75, edge=0.15) + ellipse(c, 0.43, -0.08, 0.36, 0.75, edge=0.15)
    picture = 0.55 - 0.4 * np.clip(lungs, 0, 1)
    arch = c.y - 0.45 * np.abs(c.x) ** 1.5
    spacing, phase = 0.27 + c.jitter(0.02), c.jitter(0.1)
    bars = np.clip(np.cos((arch + phase) * np.float32(2 * np.pi / spacing)) - 0.1, 0, 1)
    picture += 0.16 * bars * (np.abs(c.x) < 0.85)
    picture += 0.14 * band(c.x, 0.1) + 0.25 * ellipse(c, 0.14, 0.3 + c.jitter(), 0.3, 0.3, edge=0.15)
    for side in SIDES:
        picture += 0.22 * ellipse(c, side * 0.5, 0.95, 0.5, 0.35, edge=0.1)
        picture += 0.15 * capsule(c, (side * 0.08, -0.72), (side * 0.75, -0.88), 0.05)
    return picture


FINGERS = ((-0.75, 0.1), (-0.42, -0.6), (-0.1, -0.8), (0.22, -0.7), (0.52, -0.38))
"""Tips (x, y) of the fingers, thumb first."""
WRIST = (-0.08, 0.85)
JOINTS, JOINT_GAP = (0.55, 0.8), 0.022
"""Gaps between the bones, and half their width, as shares of the way from the wrist to the tip."""


def radiograph_hand(c: Canvas) -> Picture:
    """Five chains of bright bones in a fainter hand."""
    flesh = ellipse(c, -0.06, 0.42, 0.42, 0.4)
    bones = np.zeros((c.side, c.side), np.float32)
    for tip_x, tip_y in FINGERS:
        tip_x, tip_y = tip_x + c.jitter(0.04), tip_y + c.jitter(0.04)
        way_x, way_y = tip_x - WRIST[0], tip_y - WRIST[1]
        base = WRIST[0] + 0.2 * way_x, WRIST[1] + 0.2 * way_y
        flesh = np.maximum(flesh, capsule(c, base, (tip_x, tip_y), 0.115))
        stroke = capsule(c, base, (tip_x, tip_y), 0.05, edge=0.04)
        progress = ((c.x - WRIST[0]) * way_x + (c.y - WRIST[1]) * way_y) / (way_x**2 + way_y**2)
        for joint in JOINTS:
            stroke = stroke * (np.abs(progress - joint) >= JOINT_GAP)
        bones = np.maximum(bones, stroke)
    carpus = np.array([[-0.22, 0.72], [-0.06, 0.7], [0.1, 0.72], [-0.15, 0.86], [0.03, 0.86]])
    bones = np.maximum(bones, inside(nearest(c, carpus) - 0.07, 0.04))
    return 0.08 + 0.22 * flesh + 0.4 * bones


APEX = -1.3
"""Height of the point from which the beams of the ultrasound probe spread."""


def _fan(c: Canvas, tissue: Picture) -> Picture:
    """Tissue seen through a curved probe: speckled, inside a sector, dark outside."""
    depth = np.sqrt(c.x**2 + (c.y - APEX) ** 2)
    sector = inside(np.abs(c.x) - 0.85 * (c.y - APEX)) * inside(depth - 2.15) * inside(0.42 - depth)
    layers = 0.05 * np.sin(11 * depth + smooth_noise(c, 5))
    return 0.03 + sector * (tissue + layers) * (0.45 + 0.5 * speckle(c, rows=0.7, columns=0.4))


def ultrasound_thyroid(c: Canvas) -> Picture:
    """Two bright lobes beside the dark windpipe with its echo, muscle above."""
    tissue = 0.3 - 0.12 * inside(c.y + 0.45 + 0.1 * c.x**2)
    for side in SIDES:
        tissue = tissue + 0.28 * ellipse(c, side * 0.42, 0.0, 0.3, 0.36 + c.jitter(0.03))
        tissue -= 0.25 * ellipse(c, side * 0.82, 0.1, 0.1, 0.1)
    trachea = ellipse(c, 0, 0.12, 0.17, 0.22)
    rim = ellipse(c, 0, 0.12, 0.21, 0.26) - trachea
    return _fan(c, tissue * (1 - 0.85 * trachea) + 0.3 * rim - 0.15 * inside(np.abs(c.x) - 0.12) * (c.y > 0.3))


def ultrasound_fetus(c: Canvas) -> Picture:
    """The bright oval of a skull in dark fluid, with its midline, and the womb around."""
    tilt = c.jitter(0.35)
    fluid = ellipse(c, 0, 0.05, 0.82, 0.68)
    skull = ellipse(c, 0, 0.05, 0.62, 0.47, angle=tilt)
    brain = ellipse(c, 0, 0.05, 0.54, 0.39, angle=tilt)
    reach_x, reach_y = 0.5 * np.cos(tilt), 0.5 * np.sin(tilt)
    midline = capsule(c, (-reach_x, 0.05 - reach_y), (reach_x, 0.05 + reach_y), 0.02)
    return _fan(c, 0.45 - 0.37 * fluid + 0.6 * (skull - brain) + 0.18 * brain + 0.25 * midline * brain)


def _hairs(c: Canvas, picture: Picture, count: int) -> Picture:
    for _ in range(count):
        x, y = c.rng.uniform(-0.8, 0.8, 2)
        angle, length = c.between(0, np.pi), c.between(0.5, 1.1)
        end = x + length * np.cos(angle), y + length * np.sin(angle)
        picture = picture * (1 - 0.65 * capsule(c, (x, y), end, 0.012, edge=0.035))
    return picture


def dermoscopy_skin(c: Canvas) -> Picture:
    """A honeycomb of pigment on mottled skin, crossed by hairs."""
    wave = 0.3 * smooth_noise(c, 5)
    u, v = c.x * 20 + wave, c.y * 20 + wave.T
    honeycomb = np.cos(u) + np.cos(0.5 * u + 0.866 * v) + np.cos(0.5 * u - 0.866 * v)
    mole = np.clip(ellipse(c, c.jitter(0.15), c.jitter(0.15), 0.75, 0.7, edge=0.35), 0, 1)
    picture = 0.62 + 0.03 * smooth_noise(c, 8) - mole * (0.12 + 0.09 * np.clip(-honeycomb, -0.3, 1.2))
    return _hairs(c, picture, int(c.rng.integers(2, 5)))


def dermoscopy_nail(c: Canvas) -> Picture:
    """A nail plate with lengthwise ridges, the pale crescent at its root, the folds of skin around."""
    plate = ellipse(c, 0, -0.1, 0.68, 0.85)
    lunula = ellipse(c, 0, 0.55, 0.48, 0.3) * plate
    ridges = np.sin(c.x * np.float32(34 + c.jitter(4)) + c.jitter(3))
    skin = 0.32 + 0.04 * smooth_noise(c, 14) + 0.04 * np.sin(26 * np.sqrt(c.x**2 + (c.y + 0.1) ** 2))
    fold = plate * (1 - plate) * 4
    return skin * (1 - plate) + plate * (0.5 + 0.05 * ridges) + 0.15 * lunula - 0.25 * fold


FIELD_OF_VIEW = 0.95


def _vessel_tree(c: Canvas, root: tuple[float, float], angles: tuple[float, ...], bends: tuple[float, ...]) -> Picture:
    tree = np.zeros((c.side, c.side), np.float32)
    for angle, bend in zip(angles, bends, strict=True):
        width = c.between(0.025, 0.038)
        tree = np.maximum(tree, vessel(c, root, angle + c.jitter(0.12), bend + c.jitter(0.1), width))
    return tree


def fundus_retina(c: Canvas) -> Picture:
    """A round field: the optic disc at one side, vessel arcades arching around the dark fovea."""
    side = int(c.rng.choice(SIDES))
    root = (0.6 * side, c.jitter(0.05))
    inward = np.pi if side > 0 else 0.0
    turn = 1 if side > 0 else -1
    angles = tuple(inward + turn * a for a in (1.05, -1.05, 1.9, -1.9, 0.45, -0.45))
    tree = _vessel_tree(c, root, angles, tuple(turn * b for b in (-0.75, 0.75, -0.2, 0.2, -0.5, 0.5)))
    picture = 0.42 + 0.03 * smooth_noise(c, 6) - 0.17 * ellipse(c, -0.1 * side, 0, 0.16, 0.16, edge=0.2)
    picture = picture * (1 - 0.6 * tree) + 0.3 * ellipse(c, *root, 0.16, 0.18)
    return 0.03 + picture * ellipse(c, 0, 0, FIELD_OF_VIEW, FIELD_OF_VIEW)


def fundus_disc(c: Canvas) -> Picture:
    """The optic disc close up: a bright rim, a brighter cup, vessels spreading from it to all sides."""
    root = (c.jitter(0.06), c.jitter(0.06))
    angles = tuple(k * np.pi / 4 + c.jitter(0.2) for k in range(8))
    tree = _vessel_tree(c, root, angles, tuple(c.jitter(0.5) for _ in angles))
    picture = 0.36 + 0.03 * smooth_noise(c, 6)
    picture += 0.2 * ellipse(c, *root, 0.42, 0.46) + 0.17 * ellipse(c, *root, 0.22, 0.25)
    picture = picture * (1 - 0.6 * tree)
    return 0.03 + picture * ellipse(c, 0, 0, FIELD_OF_VIEW, FIELD_OF_VIEW)


def _tomogram(c: Canvas, layers: Picture) -> Picture:
    """Layers seen by interference: speckle with wide grains."""
    return 0.04 + layers * (0.4 + 0.5 * speckle(c, rows=1.0, columns=0.45))


def oct_macula(c: Canvas) -> Picture:
    """The layers of the retina with the pit of the fovea, the choroid fading out below."""
    pit = np.exp(-(((c.x - c.jitter(0.1)) / 0.27) ** 2)).astype(np.float32)
    y = c.y + c.jitter(0.05) - 0.1 * c.x * c.jitter(1.0)
    layers = np.full((c.side, c.side), 0.04, np.float32)
    for depth, width, value, dip in (
        (-0.42, 0.07, 0.6, 0.33),
        (-0.2, 0.07, 0.35, 0.22),
        (0.0, 0.05, 0.4, 0.08),
        (0.3, 0.035, 0.65, 0.0),
        (0.42, 0.06, 0.7, 0.0),
    ):
        layers += value * band(y - depth - dip * pit, width)
    tissue = inside(np.abs(y - 0.05 - 0.16 * pit) - 0.45 + 0.16 * pit)
    return _tomogram(c, layers + 0.13 * tissue + 0.3 * np.exp(-np.clip(y - 0.45, 0, 3) / 0.25) * (y > 0.45))


def oct_cornea(c: Canvas) -> Picture:
    """One arched band between two bright lines, the iris as flat pieces below."""
    top = np.float32(-0.55 + c.jitter(0.05)) + (0.42 + c.jitter(0.05)) * c.x**2
    y = c.y - top
    thickness = 0.42 + c.jitter(0.04)
    layers = 0.3 * inside(np.abs(y - thickness / 2) - thickness / 2) + 0.5 * band(y, 0.04)
    layers += 0.25 * band(y - 0.12, 0.03) + 0.45 * band(y - thickness, 0.04)
    iris = inside(np.abs(c.y - 0.62) - 0.08) * inside(0.35 - np.abs(c.x))
    lens = band(c.y - 0.6 - 0.5 * c.x**2, 0.05) * inside(np.abs(c.x) - 0.4)
    return _tomogram(c, layers + 0.5 * iris + 0.35 * lens)


def microscopy_blood(c: Canvas) -> Picture:
    """Scattered red cells, each darker than the ground and pale in the middle."""
    spots = (np.stack(np.meshgrid(np.arange(5), np.arange(5)), -1).reshape(-1, 2) - 2) * 0.5
    spots = spots + c.rng.uniform(-0.13, 0.13, spots.shape)
    spots = spots[c.rng.random(len(spots)) < 0.9]
    distance = nearest(c, spots)
    radius = 0.19 + c.jitter(0.015)
    cells = inside(distance - radius) - 0.65 * inside(distance - 0.45 * radius, 0.12)
    return 0.68 - 0.33 * cells


def microscopy_colon(c: Canvas) -> Picture:
    """Crypts side by side: a pale opening in a wreath of dark nuclei, smaller nuclei strewn between."""
    spots = (np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(-1, 2) - 1.5) * 0.62
    spots = spots + c.rng.uniform(-0.06, 0.06, spots.shape)
    distance = nearest(c, spots)
    radius = 0.24 + c.jitter(0.015)
    cells = c.rng.uniform(-1.2, 1.2, (40, 2))
    stroma = inside(nearest(c, cells) - 0.022) * inside(radius + 0.03 - distance)
    dots = 0.5 + 0.5 * np.sin(22 * c.x + 2 * smooth_noise(c, 8)) * np.sin(22 * c.y)
    wreath = band(distance - radius, 0.05) * (0.55 + 0.45 * dots)
    picture = 0.5 + 0.03 * smooth_noise(c, 20) + 0.2 * inside(distance - 0.14, 0.1)
    return picture - 0.38 * wreath - 0.25 * stroma


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A drawing and the modality that it imitates."""

    modality: Modality
    draw: Callable[[Canvas], Picture]


ANATOMIES: dict[str, Anatomy] = {
    "chest": Anatomy("CT", ct_chest),
    "abdomen": Anatomy("CT", ct_abdomen),
    "brain": Anatomy("MRI", mri_brain),
    "knee": Anatomy("MRI", mri_knee),
    "ribs": Anatomy("X-Ray", radiograph_ribs),
    "hand": Anatomy("X-Ray", radiograph_hand),
    "thyroid": Anatomy("Ultrasound", ultrasound_thyroid),
    "fetus": Anatomy("Ultrasound", ultrasound_fetus),
    "skin": Anatomy("Dermoscopy", dermoscopy_skin),
    "nail": Anatomy("Dermoscopy", dermoscopy_nail),
    "retina": Anatomy("Fundus", fundus_retina),
    "disc": Anatomy("Fundus", fundus_disc),
    "macula": Anatomy("OCT", oct_macula),
    "cornea": Anatomy("OCT", oct_cornea),
    "blood": Anatomy("Microscopy", microscopy_blood),
    "colon": Anatomy("Microscopy", microscopy_colon),
}
"""The words are the answers to the anatomy questions."""
