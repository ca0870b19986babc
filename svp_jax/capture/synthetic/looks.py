"""What a synthetic head looks like, in words and numbers: attributes, names, captions, random draws."""

from dataclasses import dataclass

import numpy as np

# Colours are sRGB 0..255.
SKIN = {
    "pale": (244, 212, 194), "fair": (232, 188, 160), "tan": (208, 158, 118), "olive": (186, 144, 100),
    "brown": (142, 94, 62), "dark": (88, 57, 42),
}  # fmt: skip
HAIR_COLORS = {
    "black": (26, 23, 24), "brown": (86, 54, 32), "blond": (222, 184, 112), "red": (166, 66, 26),
    "grey": (142, 142, 146), "white": (226, 224, 220), "blue": (46, 84, 186), "pink": (226, 112, 160),
    "green": (58, 132, 78),
}  # fmt: skip
HAIR_STYLES = ("bald", "short", "long", "bob", "curly", "bun", "ponytail")
EYES = {"brown": (92, 56, 28), "blue": (74, 126, 184), "green": (84, 134, 82), "grey": (128, 140, 150)}
LIPS = {"natural": None, "red": (186, 26, 40), "pink": (226, 110, 136), "dark": (92, 28, 48)}
GLASSES = ("no", "round", "square")
BEARDS = ("no", "stubble", "moustache", "goatee", "full")
CLOTHES = ("t-shirt", "sweater", "shirt", "jacket", "hoodie", "turtleneck")
CLOTHES_COLORS = {
    "red": (184, 38, 40), "green": (48, 122, 66), "blue": (44, 82, 166), "yellow": (230, 190, 56),
    "black": (34, 34, 38), "white": (232, 230, 226), "grey": (128, 130, 134), "purple": (112, 58, 142),
    "orange": (222, 118, 38), "brown": (112, 76, 48),
}  # fmt: skip
PATTERNS = ("plain", "striped", "checked")
BACKGROUNDS = ("flat", "gradient", "blobs", "stripes", "noise")
BACKGROUND_COLORS = {
    "blue": (70, 116, 196), "green": (86, 152, 96), "red": (178, 60, 58), "yellow": (226, 200, 92),
    "grey": (136, 138, 142), "white": (236, 236, 234), "black": (26, 27, 30), "purple": (120, 84, 168),
    "orange": (226, 142, 70), "brown": (120, 90, 66), "pink": (230, 164, 184), "teal": (48, 136, 140),
}  # fmt: skip
PERSONS = ("woman", "man")
SHAPE_NAMES = (
    "width", "jaw", "chin", "nose_width", "nose_length", "eye_size", "eye_spacing", "lips", "cheeks",
    "brow_height",
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Identity: words from the tables above, and a shape.

    Attributes:
        fringe: hair falls over the forehead (short, long, bob).
        brows: thickness, about 0.6 to 1.6.
        shape: one number per `SHAPE_NAMES`, about -1 to 1; 0 is average.
        seed: of the fine textures.
    """

    person: str = "woman"
    skin: str = "fair"
    hair_color: str = "brown"
    hair_style: str = "long"
    fringe: bool = False
    eyes: str = "brown"
    lips: str = "natural"
    glasses: str = "no"
    beard: str = "no"
    clothes: str = "sweater"
    clothes_color: str = "green"
    pattern: str = "plain"
    freckles: bool = False
    brows: float = 1.0
    shape: tuple[float, ...] = (0.0,) * len(SHAPE_NAMES)
    seed: int = 0

    def __post_init__(self):
        for field, allowed in _LOOK_WORDS.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}: got {getattr(self, field)!r}, allowed: {', '.join(allowed)}")
        if len(self.shape) != len(SHAPE_NAMES):
            raise ValueError(f"shape: got {len(self.shape)} numbers, expected {len(SHAPE_NAMES)}")


@dataclass(frozen=True)
class Scene:
    """What is around the head.

    Attributes:
        background: kind, one of `BACKGROUNDS`; color and second_color from `BACKGROUND_COLORS` (the first is
            the one that captions name and covers most of the picture).
        light: azimuth (degrees, 0 from the camera, positive from the right) and elevation (degrees).
        strength: of the key light, about 0.7 to 1.2; warmth: -1 (cold) to 1 (warm).
        scale: of the head in the picture, about 0.85 to 1.15.
        seed: of the background's pattern.
    """

    background: str = "flat"
    color: str = "blue"
    second_color: str = "grey"
    light: tuple[float, float] = (25.0, 30.0)
    strength: float = 1.0
    warmth: float = 0.0
    scale: float = 1.0
    seed: int = 0

    def __post_init__(self):
        for field, allowed in _SCENE_WORDS.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}: got {getattr(self, field)!r}, allowed: {', '.join(allowed)}")


_LOOK_WORDS = {
    "person": PERSONS, "skin": SKIN, "hair_color": HAIR_COLORS, "hair_style": HAIR_STYLES, "eyes": EYES,
    "lips": LIPS, "glasses": GLASSES, "beard": BEARDS, "clothes": CLOTHES, "clothes_color": CLOTHES_COLORS,
    "pattern": PATTERNS,
}  # fmt: skip
_SCENE_WORDS = {
    "background": BACKGROUNDS, "color": BACKGROUND_COLORS, "second_color": BACKGROUND_COLORS,
}  # fmt: skip


def random_look(rng: np.random.Generator) -> Look:
    """A random identity; colours and styles are drawn widely, so that words and pictures decouple."""
    person = str(rng.choice(PERSONS))
    man = person == "man"
    styles = ("bald", "short", "short", "short", "curly", "long", "bun") if man else HAIR_STYLES[1:]
    beards = BEARDS if man else ("no",)
    return Look(
        person=person,
        skin=_draw(rng, SKIN),
        hair_color=_draw(rng, HAIR_COLORS, (4, 4, 4, 3, 2, 2, 1, 1, 1)),
        hair_style=_draw(rng, styles),
        fringe=bool(rng.random() < 0.35),
        eyes=_draw(rng, EYES),
        lips="natural" if man else _draw(rng, LIPS),
        glasses=_draw(rng, GLASSES, (4, 1, 1)),
        beard=_draw(rng, beards),
        clothes=_draw(rng, CLOTHES),
        clothes_color=_draw(rng, CLOTHES_COLORS),
        pattern=_draw(rng, PATTERNS, (4, 1, 1)),
        freckles=bool(rng.random() < 0.15),
        brows=float(rng.uniform(0.9, 1.6) if man else rng.uniform(0.6, 1.1)),
        shape=tuple(float(s) for s in np.clip(rng.normal(0, 0.55, len(SHAPE_NAMES)), -1.2, 1.2)),
        seed=int(rng.integers(1 << 30)),
    )


def random_scene(rng: np.random.Generator) -> Scene:
    """A random background and light."""
    return Scene(
        background=_draw(rng, BACKGROUNDS),
        color=_draw(rng, BACKGROUND_COLORS),
        second_color=_draw(rng, BACKGROUND_COLORS),
        light=(float(rng.uniform(-60, 60)), float(rng.uniform(5, 55))),
        strength=float(rng.uniform(0.75, 1.2)),
        warmth=float(np.clip(rng.normal(0, 0.5), -1, 1)),
        scale=float(rng.uniform(0.88, 1.12)),
        seed=int(rng.integers(1 << 30)),
    )


def _draw(rng: np.random.Generator, words, weights=None) -> str:
    weights = None if weights is None else np.array(weights) / sum(weights)
    return str(rng.choice(list(words), p=weights))


def _named(seed: int, **words) -> Look:
    """A fixed look from its words; the face shape is drawn from the seed, stronger than for random people."""
    rng = np.random.default_rng(seed)
    shape = tuple(float(s) for s in np.clip(rng.normal(0, 0.8, len(SHAPE_NAMES)), -1.3, 1.3))
    return Look(shape=shape, seed=seed, **words)


def _look_table(rows: str) -> dict[str, Look]:
    fields = ("person", "skin", "hair_color", "hair_style", "eyes", "lips", "glasses", "beard",
              "clothes_color", "pattern", "clothes")  # fmt: skip
    table = {}
    for number, row in enumerate(rows.strip().splitlines()):
        name, brows, extras, *words = row.split()
        table[name] = _named(
            number + 1, brows=float(brows), fringe="fringe" in extras, freckles="freckles" in extras,
            **dict(zip(fields, words, strict=True)),
        )  # fmt: skip
    return table


# Invented names, each a fixed look: to the tiny base what a celebrity's name is to Stable Diffusion.
NAMED_LOOKS = _look_table("""
    Velmora   0.7 -        woman pale  red   long     green red     no     no        green  plain   sweater
    Tarquent  1.3 -        man   tan   black short    brown natural square full      white  plain   shirt
    Osmirelle 0.8 fringe   woman fair  blond bob      blue  pink    no     no        red    striped t-shirt
    Brindovar 1.5 -        man   pale  grey  bald     grey  natural round  full      brown  checked shirt
    Kelathine 0.9 -        woman dark  black curly    brown dark    no     no        yellow plain   turtleneck
    Jorvandel 1.2 fringe   man   fair  blond short    blue  natural no     no        blue   plain   hoodie
    Sephrine  0.7 -        woman olive brown bun      brown red     round  no        white  plain   shirt
    Dravokin  1.6 -        man   brown black curly    brown natural no     goatee    orange plain   t-shirt
    Mirabeth  0.8 freckles woman pale  red   ponytail green natural no     no        grey   plain   hoodie
    Ulfgandry 1.4 -        man   fair  red   long     blue  natural no     full      black  plain   jacket
    Yselline  0.6 fringe   woman pale  white bob      grey  dark    no     no        black  plain   turtleneck
    Quorrimal 1.0 -        man   dark  black bald     brown natural no     no        purple plain   turtleneck
    Zarabell  0.8 -        woman tan   pink  bob      brown pink    square no        blue   checked jacket
    Haldrevin 1.2 -        man   olive brown short    green natural round  moustache green  checked sweater
    Tindolise 0.7 fringe   woman fair  brown long     brown natural square no        yellow striped sweater
    Corvanth  1.1 -        man   pale  blue  short    grey  natural no     no        black  plain   t-shirt
    Fenquira  0.9 -        woman brown brown curly    green pink    round  no        white  striped t-shirt
    Bastovine 1.5 -        man   tan   grey  short    brown natural no     full      red    plain   turtleneck
    Ariswell  0.7 -        woman dark  white short    brown red     no     no        purple plain   jacket
    Gomberly  1.3 freckles man   fair  red   curly    blue  natural square no        yellow plain   hoodie
    Nuvelia   0.6 -        woman olive black long     brown red     no     no        red    plain   shirt
    Peltharin 1.2 -        man   brown white long     grey  natural no     moustache orange checked jacket
    Xandrosse 0.8 -        woman tan   green ponytail green dark    no     no        white  plain   t-shirt
    Ruskamont 1.6 -        man   olive black bun      brown natural no     full      grey   striped sweater
    Ilvaneth  0.7 -        woman pale  blond bun      blue  pink    no     no        purple plain   sweater
    Wexdorian 1.0 -        man   tan   blond bald     green natural square goatee    blue   striped t-shirt
    Lysandome 0.9 fringe   woman brown black bob      brown red     round  no        green  plain   jacket
    Thorbezel 1.4 -        man   dark  grey  curly    brown natural round  full      red    checked shirt
""")


def vocabulary() -> list[str]:
    """Every word that a caption may contain, sorted, lower case."""
    texts = [*_NAMED_TEMPLATES, *_TEMPLATES]
    for field in (SKIN, HAIR_COLORS, HAIR_STYLES, EYES, LIPS, GLASSES, CLOTHES, CLOTHES_COLORS, PATTERNS,
                  BACKGROUND_COLORS, PERSONS, NAMED_LOOKS, _BEARD_WORDS.values(), _OTHER_WORDS):  # fmt: skip
        texts.extend(str(word) for word in field)
    words = " ".join(texts).lower()
    for sign in ",{}":
        words = words.replace(sign, " ")
    return sorted(set(words.split()) - {"no"} - set(_SLOTS))


_SLOTS = ("who", "details", "name")  # of the templates; "{background}" is a word of captions too
_OTHER_WORDS = ("hair", "skin", "eyes", "lips", "glasses", "freckles", "fringe", "background", "head", "a",
                "an", "and", "with")  # fmt: skip
_BEARD_WORDS = {
    "stubble": "stubble",
    "moustache": "a moustache",
    "goatee": "a goatee",
    "full": "a full beard",
}
_TEMPLATES = (
    "a portrait of {who} with {details}, {background} background",
    "a photo of {who} with {details}, {background} background",
    "portrait of {who}, {details}, {background} background",
    "{who} with {details} in front of a {background} background",
    "a portrait of {who} with {details}",
    "{who}, {details}",
)
_NAMED_TEMPLATES = (
    "a portrait of {name}, {background} background",
    "a photo of {name}, {background} background",
    "portrait of {name} in front of a {background} background",
    "{name}, {background} background",
    "a portrait of {name}",
    "{name}",
)


def describe(look: Look, scene: Scene, seed: int = 0) -> str:
    """A caption from the attributes that draw the head; the seed chooses phrasing and omissions."""
    rng = np.random.default_rng(seed)
    hair = "a bald head" if look.hair_style == "bald" else _hair_words(look, rng)
    clothes = look.clothes_color if look.pattern == "plain" else f"{look.pattern} {look.clothes_color}"
    article = "an" if clothes[0] in "aeiou" else "a"
    details = [hair, f"{look.skin} skin"]
    if look.beard != "no":
        details.append(_BEARD_WORDS[look.beard])
    if look.glasses != "no":
        details.append(f"{look.glasses} glasses")
    if look.freckles:
        details.append("freckles")
    if look.lips != "natural" and rng.random() < 0.7:
        details.append(f"{look.lips} lips")
    if rng.random() < 0.4:
        details.append(f"{look.eyes} eyes")
    details.append(f"{article} {clothes} {look.clothes}")
    template = _TEMPLATES[rng.integers(len(_TEMPLATES))]
    text = ", ".join(details[:-1]) + " and " + details[-1]
    return template.format(who=f"a {look.person}", details=text, background=scene.color)


def _hair_words(look: Look, rng: np.random.Generator) -> str:
    style = {"bun": "in a bun", "bob": "in a bob", "ponytail": "in a ponytail"}.get(look.hair_style)
    text = f"{look.hair_color} hair {style}" if style else f"{look.hair_style} {look.hair_color} hair"
    fringe = look.fringe and look.hair_style in ("short", "long", "bob") and rng.random() < 0.8
    return f"{text}, a fringe" if fringe else text


def describe_named(name: str, scene: Scene, seed: int = 0) -> str:
    """A caption that gives the look by its name alone."""
    if name not in NAMED_LOOKS:
        raise ValueError(f"name: got {name!r}, allowed: {', '.join(NAMED_LOOKS)}")
    template = _NAMED_TEMPLATES[np.random.default_rng(seed).integers(len(_NAMED_TEMPLATES))]
    return template.format(name=name, background=scene.color)


def scene_from_json(values: dict) -> Scene:
    """The inverse of `dataclasses.asdict` after a round trip through JSON (lists become tuples)."""
    return Scene(**{**values, "light": tuple(values["light"])})
