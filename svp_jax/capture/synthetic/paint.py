"""Colours of the synthetic head: skin, eyes, mouth, hair, cloth and background, per pixel, in linear light.

Every function takes flat lists of pixels with what the rasterizer interpolated there, and gives float32 albedo
or colour [n,3] in linear light (sRGB is taken as a power of two).
"""

from functools import lru_cache

import numpy as np

from svp_jax.capture.synthetic.looks import (
    BACKGROUND_COLORS,
    CLOTHES_COLORS,
    EYES,
    HAIR_COLORS,
    LIPS,
    SKIN,
    Look,
    Scene,
)
from svp_jax.capture.synthetic.mesh import (
    EYE,
    EYE_RADIUS,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    bump,
    shape_of,
    smoothstep,
)

EYE_HALF_WIDTH = 0.150
IRIS_SINE = 0.43  # of the angle from the gaze to the iris's rim, seen from the eyeball's centre
PUPIL = 0.42  # of the iris's radius


def linear(color) -> np.ndarray:
    """sRGB 0..255 to linear light 0..1."""
    return ((np.asarray(color, np.float32) / 255) ** 2).astype(np.float32)


@lru_cache(maxsize=4)
def noise_texture(size: int = 512) -> np.ndarray:
    """Tileable fractal noise, mean 0, standard deviation 1: float32 [size,size]."""
    rng = np.random.default_rng(12345)
    frequency = np.fft.fftfreq(size)
    radius = np.hypot(frequency[:, None], frequency[None])
    radius[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(size, size))) / radius**1.1 * np.exp(-((radius / 0.22) ** 2))
    spectrum[0, 0] = 0
    field = np.fft.ifft2(spectrum).real
    return (field / field.std()).astype(np.float32)


@lru_cache(maxsize=4)
def strand_texture(size: int = 4096) -> np.ndarray:
    """Tileable one-dimensional noise with fine and coarse parts, about -1..1: float32 [size]."""
    rng = np.random.default_rng(54321)
    frequency = np.abs(np.fft.fftfreq(size)) * size
    spectrum = np.fft.fft(rng.normal(size=size)) / np.maximum(frequency, 8) ** 0.45 * (frequency < 900)
    spectrum[0] = 0
    field = np.fft.ifft(spectrum).real
    return (field / (2 * field.std())).astype(np.float32)


def noise(u: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    """Fractal noise at (u, v); `scale` texels per unit."""
    texture = noise_texture()
    mask = len(texture) - 1
    return texture[(v * scale).astype(np.int32) & mask, (u * scale).astype(np.int32) & mask]


def strands(u: np.ndarray) -> np.ndarray:
    """Strand noise at u in turns."""
    texture = strand_texture()
    return texture[(u * len(texture)).astype(np.int32) & (len(texture) - 1)]


def mix(color: np.ndarray, other, amount: np.ndarray) -> np.ndarray:
    """color + (other - color) * amount, in place; `other` [3] or [n,3], `amount` [n]."""
    color += (np.asarray(other, np.float32) - color) * amount[:, None]
    return color


def lid_curves(u: np.ndarray, blink: float, gaze_y: float, squint: float) -> tuple[np.ndarray, np.ndarray]:
    """Heights (upper, lower) of the lid edges over the eye's centre at u in -1..1, inner to outer corner."""
    arch = np.clip(1 - np.abs(u) ** 2.3, 0, 1)
    tilt = 0.016 * u
    low = -0.050 * np.clip(1 - np.abs(u - 0.12) ** 2.2 * 0.85, 0, 1) * arch**0.6 * (1 - 0.35 * squint) + tilt
    up = (0.071 - 0.10 * np.clip(-gaze_y, 0, 14) / 57 + 0.05 * np.clip(gaze_y, 0, 14) / 57) * arch**0.75
    up = up * (1 - 0.12 * squint) * (1 - 0.12 * u) + tilt
    meet = 0.8 * low + 0.2 * tilt - 0.004
    return meet + (up - meet) * (1 - blink), low + (meet - low) * blink


def lip_edges(x: np.ndarray, look: Look) -> tuple[np.ndarray, np.ndarray]:
    """Heights of the upper lip above and of the lower lip below the mouth line at canonical x."""
    full = 1 + 0.35 * shape_of(look)["lips"] + (-0.15 if look.person == "man" else 0.12)
    inside = np.clip(1 - (x / (MOUTH_HALF_WIDTH + 0.012)) ** 2, 0, 1)
    bow = 1 - 0.22 * np.exp(-0.5 * (x / 0.028) ** 2) + 0.10 * np.exp(-0.5 * ((np.abs(x) - 0.06) / 0.035) ** 2)
    return 0.070 * full * inside**0.85 * bow, 0.094 * full * inside**0.65


def brow_weight(x: np.ndarray, y: np.ndarray, look: Look) -> np.ndarray:
    """How much of a canonical face point is brow, 0..1, without single hairs."""
    ax = np.abs(x)
    t = (ax - 0.115) / 0.36  # inner to outer end
    middle = 0.225 + 0.075 * np.sin(np.clip(t, 0, 1.1) * 2.35) - 0.015 * t
    thick = (0.020 + 0.016 * (1 - t)) * look.brows * smoothstep(-0.06, 0.10, t) * smoothstep(1.06, 0.75, t)
    return smoothstep(1.25, 0.55, np.abs(y - middle) / np.maximum(thick, 1e-4))


def beard_weight(x: np.ndarray, y: np.ndarray, z: np.ndarray, look: Look) -> np.ndarray:
    """How much of a canonical head point grows beard, 0..1, without single hairs."""
    if look.beard == "no":
        return np.zeros_like(x)
    ax = np.abs(x)
    upper = lip_edges(x, look)[0]
    above = y - (MOUTH_Y + upper)
    moustache = smoothstep(-0.004, 0.012, above) * smoothstep(0.145 - 0.20 * ax, 0.105 - 0.20 * ax, above)
    moustache *= smoothstep(0.33, 0.27, ax)
    below = MOUTH_Y - lip_edges(x, look)[1] - y
    chin = smoothstep(0.02, 0.05, below) * smoothstep(0.25, 0.19, ax) * (z > 0.25)
    link = smoothstep(0.20, 0.24, ax) * smoothstep(0.36, 0.30, ax) * smoothstep(MOUTH_Y + 0.10, MOUTH_Y + 0.02, y)
    link *= smoothstep(-1.0, -0.9, y) * (z > 0.25)
    if look.beard == "moustache":
        return moustache
    if look.beard == "goatee":
        return np.maximum(np.maximum(moustache, chin), link * smoothstep(0.33, 0.29, ax))
    cheek_line = -0.62 + 0.62 * smoothstep(0.22, 0.66, ax) ** 1.4
    cheeks = smoothstep(cheek_line + 0.04, cheek_line - 0.06, y) * smoothstep(-0.12, 0.02, z)
    mouth = (ax < MOUTH_HALF_WIDTH + 0.012) & (above < 0) & (below < 0)
    return np.maximum(np.maximum(cheeks, moustache), chin) * ~mouth


def skin_color(canonical: np.ndarray, look: Look) -> np.ndarray:
    """Bare skin at canonical head points [n,3]: tone, redness, freckles, pores."""
    x, y, z = canonical.T
    base = linear(SKIN[look.skin])
    color = np.broadcast_to(base, canonical.shape).copy()
    ax = np.abs(x)
    offset = look.seed % 97 / 97
    blotch = noise(x + offset, y + offset, 120.0)
    pores = noise(x + offset, y - z, 420.0)
    red = 0.32 * bump(ax, y, 0.40, -0.24, 0.15, 0.12) + 0.28 * bump(x, y, 0, -0.29, 0.10, 0.07)
    red += 0.10 * bump(x, y, 0, -0.92, 0.16, 0.08) + 0.045 * blotch
    red = np.where(z > 0, red, 0.045 * blotch)
    color *= 1 + np.stack([0.10 * red, -0.42 * red, -0.40 * red], 1)
    color *= (1 + 0.022 * pores + 0.02 * blotch)[:, None]
    if look.freckles:
        spots = smoothstep(1.3, 1.9, noise(x - offset, y + 2 * offset, 900.0))
        area = np.maximum(bump(ax, y, 0.30, -0.16, 0.22, 0.14), bump(x, y, 0, -0.1, 0.12, 0.16))
        color *= (1 - spots * area)[:, None] * 1.0 + (spots * area)[:, None] * np.array([0.62, 0.45, 0.36], np.float32)
    return color


def skin_shade(canonical: np.ndarray, look: Look) -> np.ndarray:
    """Painted soft shadow [n], 0..1, in the hollows of the head."""
    x, y, z = canonical.T
    ax = np.abs(x)
    dark = 0.36 * bump(ax, y, 0.15, 0.10, 0.065, 0.07) + 0.20 * bump(ax, y, 0.29, 0.15, 0.15, 0.05)
    dark += 0.14 * bump(ax, y, 0.28, -0.06, 0.11, 0.035)
    dark += 0.22 * bump(x, y, 0, -0.425, 0.09, 0.035)
    dark += 0.20 * bump(x, y, 0, -0.765, 0.12, 0.035)
    dark += 0.18 * bump(ax, y, MOUTH_HALF_WIDTH + 0.005, MOUTH_Y + 0.008, 0.022, 0.022)
    fold = 0.115 + 0.20 * (-0.32 - y) / 0.3
    dark += 0.17 * np.exp(-0.5 * ((ax - fold) / 0.02) ** 2) * smoothstep(-0.30, -0.38, y) * smoothstep(-0.60, -0.48, y)
    nostril = bump(ax, y, 0.058, -0.373, 0.021, 0.012)
    dark += 0.70 * nostril
    dark += 0.13 * np.exp(-0.5 * ((ax - 0.105) / 0.02) ** 2) * bump(x, y, 0, -0.31, 1, 0.05)
    return 1 - np.clip(np.where(z > 0.1, dark, 0), 0, 0.92)


def iris_color(sine: np.ndarray, angle: np.ndarray, look: Look) -> np.ndarray:
    """Iris and pupil at a distance from the gaze (in iris radii) and an angle about it."""
    color = np.broadcast_to(linear(EYES[look.eyes]), (len(sine), 3)).copy()
    fibres = strands(angle / (2 * np.pi) * 0.11 + 0.03 * sine)
    color *= (0.85 + 0.55 * sine + 0.35 * fibres)[:, None]
    color *= (1 - 0.75 * smoothstep(0.78, 1.0, sine))[:, None]
    return mix(color, (0.002, 0.002, 0.003), smoothstep(PUPIL + 0.05, PUPIL - 0.05, sine))


def lip_color(look: Look) -> np.ndarray:
    """Linear colour of the lips."""
    if LIPS[look.lips] is not None:
        return linear(LIPS[look.lips])
    return linear(SKIN[look.skin]) * np.array([0.80, 0.42, 0.42], np.float32)


def mouth_interior(point: np.ndarray, jaw: np.ndarray, front: float) -> np.ndarray:
    """What is seen between the lips: linear colour [n,3].

    Args:
        point: head-space points [n,3] where the sight lines meet the plane of the teeth.
        jaw: head-space position [3] of the lower front teeth's edge.
        front: y of the upper teeth's lower edge in the middle.
    """
    x, y = point[:, 0], point[:, 1]
    color = np.broadcast_to(np.array([0.075, 0.012, 0.014], np.float32), point.shape).copy()
    deep = smoothstep(0.0, 0.12, front - y) * smoothstep(0, 0.1, y - jaw[1])
    color *= (1 - 0.75 * deep)[:, None]
    tongue = 1 - (x / 0.17) ** 2 - ((y - jaw[1] + 0.01) / 0.075) ** 2
    tongue_color = np.array([0.42, 0.10, 0.10], np.float32) * (0.35 + 0.65 * np.clip(tongue, 0, 1))[:, None]
    ridge = 1 - 0.35 * np.exp(-0.5 * (x / 0.012) ** 2)
    mix(color, tongue_color * ridge[:, None], smoothstep(0.0, 0.18, tongue))
    edge = 0.10 * x**2
    seams = np.abs((np.abs(x) / 0.050) % 1 - 0.5)
    tooth = np.array([0.80, 0.76, 0.67], np.float32)
    curve = (1 - 0.80 * np.clip(np.abs(x) / 0.24, 0, 1) ** 1.7) * (1 - 0.22 * smoothstep(0.42, 0.5, seams))
    rounded = 0.010 * smoothstep(0.25, 0.5, seams)
    upper = smoothstep(-0.006, 0.006, y - front - edge - rounded)
    lower = smoothstep(0.006, -0.006, y - jaw[1] + 0.02 + edge + rounded)
    mix(color, tooth * (curve * 0.8)[:, None], lower)
    mix(color, np.array([0.40, 0.12, 0.11]), lower * smoothstep(jaw[1] - 0.10, jaw[1] - 0.11, y))
    mix(color, tooth * curve[:, None], upper)
    mix(color, np.array([0.42, 0.12, 0.12]), upper * smoothstep(front + 0.10, front + 0.115, y))
    return color


def hair_color(u: np.ndarray, v: np.ndarray, look: Look, curly: bool = False) -> np.ndarray:
    """Hair at u (turns across the strands) and v (along them)."""
    base = linear(HAIR_COLORS[look.hair_color])
    shift = look.seed % 89 / 89
    warp = 0.004 * noise(u * 2 + shift, v * 0.5, 140.0)
    fine = strands(u * 0.9 + warp + shift)
    coarse = strands(u * 0.11 + 2 * warp + 0.37 + shift)
    tone = 1 + 0.38 * fine + 0.34 * coarse
    if curly:
        tone = tone * 0.6 + 0.4 + 0.30 * noise(u * 2.2 + shift, v, 190.0)
    color = base * np.clip(tone, 0.25, 2.2)[:, None]
    return color + (0.006 + 0.03 * base) * np.clip(fine, 0, 1)[:, None]


def cloth_color(canonical: np.ndarray, look: Look) -> np.ndarray:
    """Cloth at canonical body points [n,3]."""
    x, y, z = canonical.T
    color = np.broadcast_to(linear(CLOTHES_COLORS[look.clothes_color]), canonical.shape).copy()
    bright = CLOTHES_COLORS[look.clothes_color][0] + CLOTHES_COLORS[look.clothes_color][1] > 330
    other = np.array([0.06, 0.07, 0.10], np.float32) if bright else np.array([0.72, 0.70, 0.66], np.float32)
    if look.pattern == "striped":
        mix(color, other, smoothstep(0.20, 0.28, np.abs((y * 5.2 + 0.25 * np.abs(x)) % 1 - 0.5)) * 0.85)
    if look.pattern == "checked":
        lines = smoothstep(0.24, 0.32, np.abs((y * 4.5) % 1 - 0.5)) + smoothstep(
            0.24, 0.32, np.abs((x * 4.5) % 1 - 0.5)
        )
        mix(color, other, 0.36 * lines)
    folds = noise(x * 0.6 + 0.3, y * 0.35 + z, 60.0)
    grain = noise(x, y + z, 640.0)
    if look.clothes in ("sweater", "turtleneck"):
        rib = np.sin(x * 130) * (0.5 + 0.5 * np.sin(y * 90))
        color *= (1 + 0.10 * rib + 0.06 * grain)[:, None]
    color *= (1 + 0.10 * folds + 0.05 * grain)[:, None]
    return np.maximum(color, 0.002)


def background(scene: Scene, size: int) -> np.ndarray:
    """The background, linear, float32 [size,size,3]."""
    rng = np.random.default_rng(scene.seed)
    first, second = linear(BACKGROUND_COLORS[scene.color]), linear(BACKGROUND_COLORS[scene.second_color])
    y, x = np.meshgrid(*[(np.arange(size, dtype=np.float32) + 0.5) / size] * 2, indexing="ij")
    if scene.background == "flat":
        amount = np.zeros_like(x)
    elif scene.background == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        amount = np.clip(0.5 + 0.6 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)), 0, 1) * 0.45
    elif scene.background == "blobs":
        amount = np.zeros_like(x)
        for _ in range(int(rng.integers(4, 10))):
            cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.17)
            soft = rng.uniform(0.1, 0.9)
            amount += smoothstep(1.0, 1 - soft, np.hypot(x - cx, y - cy) / radius) * rng.uniform(0.3, 0.9)
        amount = np.clip(amount, 0, 0.9)
    elif scene.background == "stripes":
        angle, count, soft = rng.uniform(0, np.pi), rng.uniform(3, 16), rng.uniform(0.04, 0.5)
        wave = np.abs(((np.cos(angle) * x + np.sin(angle) * y) * count) % 1 - 0.5) * 2
        amount = 0.75 * smoothstep(0.62 - soft / 2, 0.62 + soft / 2, wave)
    else:
        scale = rng.uniform(30, 320)
        texture = noise(x + rng.uniform(0, 9), y + rng.uniform(0, 9), scale) if scale > size else None
        if texture is None:
            texture = _stretched_noise(rng, size, scale)
        amount = np.clip(0.22 + 0.32 * texture, 0, 0.9)
    shade = 1 - 0.35 * rng.random() * ((x - 0.5) ** 2 + (y - 0.5) ** 2) * 2
    picture = first + (second - first) * amount[..., None]
    return (picture * shade[..., None]).astype(np.float32)


def _stretched_noise(rng: np.random.Generator, size: int, texels: float) -> np.ndarray:
    """Noise of about `texels` texels across the picture, interpolated between texels: [size,size]."""
    texture = noise_texture()
    at = np.arange(size) / size * texels
    low, part = at.astype(int), at - at.astype(int)
    row, column = rng.integers(0, len(texture), 2)
    mask = len(texture) - 1
    rows = texture[(row + low) & mask] * (1 - part[:, None]) + texture[(row + low + 1) & mask] * part[:, None]
    left, right = rows[:, (column + low) & mask], rows[:, (column + low + 1) & mask]
    return left * (1 - part) + right * part


def eyeball(point: np.ndarray, sight: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Unit vectors [n,3] from the eyeball's centre to where sight lines through points [n,3] meet it."""
    offset = point - centre
    along = offset @ sight
    under = np.maximum(along**2 - (offset**2).sum(1) + EYE_RADIUS**2, 0)
    hit = offset + (-along - np.sqrt(under))[:, None] * sight
    return hit / np.maximum(np.linalg.norm(hit, axis=1, keepdims=True), 1e-6)


def eye_coordinates(canonical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) of canonical points in their side's eye: u -1..1 from inner to outer corner, v over the centre."""
    return (np.abs(canonical[:, 0]) - EYE[0]) / EYE_HALF_WIDTH, canonical[:, 1] - EYE[1]
