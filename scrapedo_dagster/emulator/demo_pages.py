"""Pages of the demo site, computed from their path alone.

Products keep their names; prices and stock change from day to day.
"""

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from html import escape

PRODUCTS = range(1, 91)
SERVED_AS_JSON = range(1, 26)
IMAGES = range(1, 6)
CATEGORIES = ("kitchen", "café", "travel")

_QUALITIES = ("Enameled", "Crème", "Jalapeño-red", "Hand-thrown", "Café", "Smörgås", "Piñata", "Rosé", "Naïve", "Décor")
_THINGS = ("teapot", "grinder", "bowl", "kettle", "tray", "lantern", "mug", "board", "thermos")
_IMAGE_SIZE = 48  # pixels


@dataclass(frozen=True)
class Page:
    """A response of the site. `media_type` may include a charset."""

    body: bytes
    media_type: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Product:
    number: int
    day: date

    @property
    def name(self) -> str:
        quality, thing = self.number % len(_QUALITIES), self.number // len(_QUALITIES) % len(_THINGS)
        return f"{_QUALITIES[quality]} {_THINGS[thing]} No. {self.number}"

    @property
    def category(self) -> str:
        return CATEGORIES[self.number % len(CATEGORIES)]

    @property
    def cents(self) -> int:
        return 500 + self.number * 37 + self._today % 200

    @property
    def stock(self) -> int:
        return self._today % 40

    @property
    def price(self) -> str:
        return f"{self.cents // 100}.{self.cents % 100:02d} €"

    @property
    def _today(self) -> int:
        return zlib.crc32(f"{self.day}/{self.number}".encode())


def page_at(path: str) -> Page:
    """Return the page at `/{day}/...`, or a page with status 404."""
    day_text, _, rest = path.removeprefix("/").partition("/")
    kind, _, name = rest.partition("/")
    try:
        day = date.fromisoformat(day_text)
        return _PAGES[kind](day, name)
    except (KeyError, ValueError):
        return _html("Not found: the demo shop", f"<p>There is nothing at {escape(path)}.</p>", status=404)


def _product(day: date, name: str) -> Page:
    product = _Product(_number(name, PRODUCTS), day)
    body = f"""
      <p class="category"><a href="/{day}/categories/{product.category}">{product.category}</a></p>
      <p class="price">{product.price}</p>
      <p class="stock">{product.stock} in stock on {day}</p>
      <img src="/{day}/images/{product.number % len(IMAGES) + 1}.png" alt="{product.name}">
      <p>À la carte: every {product.name} is made to order in our façade workshop, glazed «à l'ancienne» and
      shipped within three days.</p>
    """
    # A third of the pages are in windows-1252, as in the old part of a site; the € sign is another byte there.
    return _html(f"{product.name}: {product.price}", body, "windows-1252" if product.number % 3 == 0 else "utf-8")


def _product_as_json(day: date, name: str) -> Page:
    product = _Product(_number(name.removeprefix("products/"), SERVED_AS_JSON), day)
    facts = {
        "id": product.number,
        "name": product.name,
        "category": product.category,
        "price": {"amount": product.cents / 100, "currency": "EUR"},
        "stock": product.stock,
        "date": day.isoformat(),
    }
    return Page(json.dumps(facts, ensure_ascii=False).encode(), "application/json")


def _category(day: date, name: str) -> Page:
    if name not in CATEGORIES:
        raise KeyError(name)
    products = [product for product in (_Product(number, day) for number in PRODUCTS) if product.category == name]
    items = "".join(f'<li><a href="/{day}/products/{p.number}">{p.name}</a> {p.price}</li>' for p in products)
    return _html(f"{name.capitalize()}: {len(products)} products", f"<ul>{items}</ul>")


def _image(day: date, name: str) -> Page:
    shade = (_number(name.removesuffix(".png"), IMAGES) * 40 + day.toordinal()) % 256
    rows = b"".join(
        b"\0" + b"".join(bytes((shade, x * 5, y * 5)) for x in range(_IMAGE_SIZE)) for y in range(_IMAGE_SIZE)
    )
    header = struct.pack(">IIBBBBB", _IMAGE_SIZE, _IMAGE_SIZE, 8, 2, 0, 0, 0)  # 8 bits of red, green and blue each
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    png = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return Page(b"\x89PNG\r\n\x1a\n" + png, "image/png")


def _sale(day: date, _name: str) -> Page:
    return Page(b"", "text/html", status=302, headers={"Location": f"/{day}/categories/{CATEGORIES[0]}"})


def _checkout(_day: date, _name: str) -> Page:
    return _html("Something went wrong", "<p>The cart could not be loaded.</p>", status=500)


def _number(text: str, valid: range) -> int:
    number = int(text)
    if number not in valid:
        raise KeyError(text)
    return number


def _html(title: str, body: str, charset: str = "utf-8", *, status: int = 200) -> Page:
    text = (
        f'<!doctype html>\n<html lang="en"><head><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1>{body}</body></html>\n"
    )
    return Page(text.encode(charset), f"text/html; charset={charset}", status)


_PAGES: dict[str, Callable[[date, str], Page]] = {
    "products": _product,
    "api": _product_as_json,
    "categories": _category,
    "images": _image,
    "sale": _sale,
    "checkout": _checkout,
}
