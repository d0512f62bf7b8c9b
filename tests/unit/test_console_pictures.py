"""Each page of the console has its picture, as docs/console.md says."""

from browser import PAGES
from screenshots import FOLDER, TWO, photographed


def test_each_page_of_the_console_is_photographed() -> None:
    taken = {*photographed().values(), *TWO.values()}
    assert not PAGES - taken, "tests/screenshots.py takes no picture of these"
    assert not taken - PAGES, "these are no pages any more"


def test_each_picture_that_is_taken_is_there() -> None:
    names = {path.stem for path in FOLDER.glob("*.png")}
    assert not photographed().keys() - names, "make screenshots"
    for name in TWO:
        assert len([one for one in names if one.startswith(f"{name}-e")]) == 8, name
