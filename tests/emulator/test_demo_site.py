"""The demo site, as a scraper sees it."""

import socket
import threading
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from bs4 import BeautifulSoup

from scrapedo_dagster.emulator.demo_site import DemoSite, targets

DAY = "2026-01-01"


@pytest.fixture(scope="module")
def site():
    with DemoSite() as site:
        yield site


@pytest.fixture(scope="module")
def http():
    with httpx.Client(trust_env=False, timeout=10) as client:
        yield client


@pytest.fixture(scope="module")
def answers(site, http) -> dict[str, httpx.Response]:
    """Responses of all targets of a day by path, except the one that never responds."""
    urls = [url for url in targets(site.base_url, DAY) if not url.endswith("never-responds")]
    with ThreadPoolExecutor(8) as pool:
        return {
            url.removeprefix(f"{site.base_url}/{DAY}/"): answer
            for url, answer in zip(urls, pool.map(http.get, urls), strict=True)
        }


def title_of(answer: httpx.Response) -> str:
    page = BeautifulSoup(answer.content, "html.parser", from_encoding=answer.charset_encoding)
    return page.title.get_text()


def test_a_day_has_over_120_distinct_targets_in_a_fixed_order():
    urls = targets("http://shop/", DAY)
    assert len(set(urls)) == len(urls) == 127
    assert urls[0] == f"http://shop/{DAY}/products/1"
    assert urls == targets("http://shop", DAY)


def test_targets_are_of_all_kinds(answers):
    kinds = Counter((a.status_code, a.headers["content-type"]) for a in answers.values())
    assert kinds == {
        (200, "text/html; charset=utf-8"): 63,
        (200, "text/html; charset=windows-1252"): 30,
        (200, "application/json"): 25,
        (200, "image/png"): 5,
        (302, "text/html"): 1,
        (404, "text/html; charset=utf-8"): 1,
        (500, "text/html; charset=utf-8"): 1,
    }


def test_titles_are_distinct_and_not_ascii_in_both_charsets(answers):
    for charset in ("utf-8", "windows-1252"):
        pages = [a for path, a in answers.items() if path.startswith("products/") and a.charset_encoding == charset]
        titles = [title_of(answer) for answer in pages if answer.status_code == 200]
        assert len(set(titles)) == len(titles)
        assert all(title.endswith(" €") for title in titles)
        assert all("À la carte" in answer.text for answer in pages if answer.status_code == 200)


def test_charsets_differ_in_their_bytes(answers):
    assert b"\x80</title>" in answers["products/3"].content
    assert "€</title>".encode() in answers["products/1"].content


def test_json_agrees_with_the_page(answers):
    facts = answers["api/products/7"].json()
    assert title_of(answers["products/7"]) == f"{facts['name']}: {facts['price']['amount']:.2f} €"
    assert facts["date"] == DAY


def test_images_decode(answers):
    png = answers["images/1.png"].content
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    position, chunks = 8, {}
    while position < len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        kind, data = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        assert zlib.crc32(kind + data) == int.from_bytes(png[position + 8 + length : position + 12 + length], "big")
        chunks[kind] = data
        position += 12 + length
    assert len(zlib.decompress(chunks[b"IDAT"])) == 48 * (1 + 48 * 3)


def test_redirect_leads_to_a_page(site, http):
    answer = http.get(f"{site.base_url}/{DAY}/sale", follow_redirects=True)
    assert answer.status_code == 200
    assert title_of(answer) == "Kitchen: 30 products"


def test_links_and_images_of_pages_exist(site, http, answers):
    for path in ("products/5", "categories/caf%C3%A9"):
        page = BeautifulSoup(answers[path].text, "html.parser")
        links = [tag.get("href") or tag.get("src") for tag in page.find_all(["a", "img"])]
        assert links
        assert {http.get(site.base_url + link).status_code for link in links} == {200}


def test_pages_are_the_same_on_every_visit_and_differ_by_day(site, http, answers):
    def page(day: str) -> bytes:
        return http.get(f"{site.base_url}/{day}/products/17").content

    assert page(DAY) == answers["products/17"].content
    assert page("2026-01-02") != page(DAY)


@pytest.mark.parametrize("path", ["/", "/today/products/1", f"/{DAY}/products/0", f"/{DAY}/products/x", f"/{DAY}/<b>"])
def test_unknown_pages_are_not_found(site, http, path):
    answer = http.get(site.base_url + path)
    assert answer.status_code == 404
    assert "<b>" not in answer.text


def test_requests_are_counted_by_path():
    with DemoSite() as site:
        for path in ("/a/b", "/a/b", f"/{DAY}/categories/caf%C3%A9?page=2"):
            httpx.get(site.base_url + path, trust_env=False)
        assert site.requests == {"/a/b": 2, f"/{DAY}/categories/café": 1}


def test_page_that_never_responds_ends_with_the_site():
    with DemoSite() as site:
        [url] = [url for url in targets(site.base_url, DAY) if url.endswith("never-responds")]
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(url, timeout=0.3, trust_env=False)
        clients = [threading.Thread(target=httpx.get, args=(url,), kwargs={"trust_env": False}) for _ in range(20)]
        for client in clients:
            client.start()
        while sum(site.requests.values()) < 21:
            time.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    for client in clients:
        client.join(2)
    assert not any(client.is_alive() for client in clients)
    with pytest.raises(httpx.ConnectError):
        httpx.get(site.base_url, trust_env=False)


def test_port_can_be_given_and_is_free_again_afterwards():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for _ in range(2):
        with DemoSite(port) as site:
            assert site.base_url == f"http://127.0.0.1:{port}"
            assert httpx.get(f"{site.base_url}/{DAY}/products/1", trust_env=False).status_code == 200


def test_port_in_use_is_an_error(site):
    with pytest.raises(OSError, match="in use"), DemoSite(int(site.base_url.rpartition(":")[2])):
        pass
