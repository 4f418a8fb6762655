"""The picture says what the matrix says, and survives Graphviz."""

import shutil
from xml.etree import ElementTree

import pytest

from mastio import picture
from mastio.errors import MastioError
from mastio.flows import expand
from mastio.site.model import Site
from tests import sites


@pytest.mark.parametrize("site", sites.all_sites(), ids=lambda site: site.topology)
def test_all_machines_and_zones_are_drawn(site: Site) -> None:
    source = picture.dot_source(expand(site))
    for machine in site.machines:
        assert f'"{machine.name}" [label=<<b>{machine.name}</b>' in source
    for zone in site.zones:
        assert f'"cluster_zone_{zone.name}"' in source
    assert source == picture.dot_source(expand(site))


def test_what_all_do_alike_is_said_once() -> None:
    source = picture.dot_source(expand(sites.demo_site()))
    assert source.count("syslog 6514") == 1
    assert source.count("style=dotted") == 4


@pytest.mark.skipif(not shutil.which("dot"), reason="needs Graphviz")
def test_it_is_svg_with_a_title() -> None:
    root = ElementTree.fromstring(picture.draw(expand(sites.demo_site())))
    titles = [it.text for it in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "demo: zones, machines and flows"


def test_without_graphviz_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MastioError, match="Graphviz") as caught:
        picture.draw(expand(sites.demo_site()))
    assert caught.value.hint == "apt-get install graphviz"
