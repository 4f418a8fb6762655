"""The picture of a site: zones, machines and who talks to whom, as SVG by Graphviz.

It shows exactly the flow matrix. Arrows between the same two are one arrow that lists its services;
what every machine does alike (logs, packages, time, administration) is one thin dotted line to watch,
and its meaning stands under the picture once.

>>> Path("site.svg").write_text(draw(expand(site)))
"""

import subprocess
from html import escape

from mastio.errors import Exit, MastioError
from mastio.flows import ADMIN, INTERNET, POLICY, VPN, Flow, FlowMatrix, Party, Protection
from mastio.site.model import Machine, Role

_COMMON = {
    (row.service, row.why)
    for row in POLICY
    if Party.EVERYONE in (row.source, row.target) and not row.beneath
}
_INK, _PALE, _WALL = "#1f2d3d", "#8a97a6", "#a33b2e"
_COLOURS = {
    Protection.MUTUAL_TLS: "#0b7a5e",
    Protection.USER: "#2458a6",
    Protection.KEYS: "#6b3fa0",
    Protection.WIREGUARD: "#6b3fa0",
}
_OPEN = "#b3541e"
"""The colour of what crosses the wall under no key of the site's."""
_JOBS = {
    Role.FIREWALL: "routes, filters, logs",
    Role.GATEWAY_IN: "receives and cleans",
    Role.GATEWAY_OUT: "signs and sends",
    Role.STORE: "keeps the mail",
    Role.WEBMAIL: "shows the mail",
    Role.WATCH: "logs, access, time",
}


def draw(matrix: FlowMatrix) -> str:
    """The picture as SVG text; MastioError when Graphviz is missing or fails."""
    try:
        done = subprocess.run(
            ["dot", "-Tsvg"], input=dot_source(matrix), capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise MastioError(
            "drawing needs Graphviz, and `dot` is not on this machine",
            hint="apt-get install graphviz",
            code=Exit.CANT_CREATE,
        ) from error
    except subprocess.CalledProcessError as error:
        raise MastioError(f"Graphviz could not draw the site: {error.stderr.strip()}") from error
    return done.stdout


def dot_source(matrix: FlowMatrix) -> str:
    """The picture in Graphviz' language: pure, the same for the same site."""
    site = matrix.site
    lines = [
        f"digraph {_quoted(f'{site.name}: zones, machines and flows')} {{",
        '  graph [rankdir=LR, fontname="Helvetica,Arial,sans-serif", fontsize=13, pad=0.4,',
        f'    nodesep=0.45, ranksep=1.1, bgcolor="white", fontcolor="{_INK}", splines=spline,',
        f"    labelloc=b, label={_legend(matrix)}]",
        '  node [fontname="Helvetica,Arial,sans-serif", fontsize=12, shape=box,',
        f'    style="rounded,filled", fillcolor="white", color="{_INK}", fontcolor="{_INK}",',
        '    penwidth=1.2, margin="0.18,0.1"]',
        '  edge [fontname="Helvetica,Arial,sans-serif", fontsize=10, arrowsize=0.7, penwidth=1.4]',
        *_outsiders(matrix),
        *_inside(matrix),
        *_arrows(matrix),
        "}",
    ]
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _outsiders(matrix: FlowMatrix) -> list[str]:
    ends = {end for flow in matrix.flows for end in (flow.source, flow.target)}
    looks = {
        INTERNET: ("the internet", "#fdf1e7", _OPEN),
        ADMIN: ("administrators", "#f3edf9", _COLOURS[Protection.KEYS]),
        VPN: ("people's devices", "#eaf1fb", _COLOURS[Protection.USER]),
    }
    return [
        f"  {_quoted(name)} [label={_quoted(label)}, shape=ellipse, style=filled, "
        f'fillcolor="{fill}", color="{ink}", margin="0.15,0.12"]'
        for name, (label, fill, ink) in looks.items()
        if name in ends
    ]


def _inside(matrix: FlowMatrix) -> list[str]:
    """The zones; behind a firewall they stand together in its wall."""
    site, firewall = matrix.site, matrix.firewall
    public = " · ".join(str(address) for address in site.public)
    lines = []
    if firewall:
        title = f"{site.organisation}: {public}"
        lines += [
            "  subgraph cluster_site {",
            f'    graph [label={_quoted(title)}, labelloc=t, style="rounded", '
            f'color="{_WALL}", penwidth=3, margin=22]',
            f"    {_machine(firewall, _WALL)}",
        ]
    for zone in site.zones:
        members = [it for it in site.machines if it.zone == zone.name and it != firewall]
        if members:
            networks = " · ".join(str(network) for network in zone.networks)
            lines += [
                f"    subgraph {_quoted(f'cluster_zone_{zone.name}')} {{",
                f"      graph [label=<zone <b>{zone.name}</b>"
                f'<br/><font point-size="9" color="{_PALE}">{networks}</font>>, labelloc=t,',
                '        style="rounded,filled", color="#d5dce4", fillcolor="#f4f7fa",',
                "        penwidth=1, margin=14]",
                *(f"      {_machine(it, _INK)}" for it in members),
                "    }",
            ]
    return [*lines, "  }"] if firewall else lines


def _machine(machine: Machine, colour: str) -> str:
    jobs = "<br/>".join(_JOBS[role] for role in machine.roles)
    label = f'<b>{machine.name}</b><br/><font point-size="9" color="{_PALE}">{jobs}</font>'
    return f'{_quoted(machine.name)} [label=<{label}>, color="{colour}"]'


def _is_common(flow: Flow) -> bool:
    return (flow.service, flow.why) in _COMMON


def _arrows(matrix: FlowMatrix) -> list[str]:
    pairs: dict[tuple[str, str], list[Flow]] = {}
    alike: dict[tuple[str, str], None] = {}
    watching = {machine.name for machine in matrix.site.carrying(Role.WATCH)}
    for flow in matrix.flows:
        ends = (flow.source, flow.target)
        if _is_common(flow):
            alike[ends if flow.target in watching else ends[::-1]] = None
        else:
            pairs.setdefault(ends, []).append(flow)
    lines: list[str] = []
    drawn: set[tuple[str, str]] = set()
    for (source, target), flows in pairs.items():
        # An answer to the left keeps its arrow but not its say in the order of the columns.
        leftward = target == INTERNET or (target, source) in drawn
        drawn.add((source, target))
        lines.append(_arrow(source, target, flows, leftward=leftward))
    lines += [
        f"  {_quoted(first)} -> {_quoted(second)} [style=dotted, dir=none, "
        f'color="{_PALE}", penwidth=1.1]'
        for first, second in alike
    ]
    return lines


def _arrow(source: str, target: str, flows: list[Flow], *, leftward: bool) -> str:
    names = [f"{flow.service.name} {flow.service.port}" for flow in flows]
    rows = [", ".join(names[at : at + 3]) for at in range(0, len(names), 3)]
    kinds = ", ".join(dict.fromkeys(escape(flow.protection) for flow in flows))
    words = f'{"<br/>".join(rows)}<br/><font point-size="8" color="{_PALE}">{kinds}</font>'
    colour = _COLOURS.get(flows[0].protection, _OPEN)
    tip = "\n".join(f"{flow.service.name}: {flow.why} ({flow.protection})" for flow in flows)
    first, second, back = (target, source, ", dir=back") if leftward else (source, target, "")
    return (
        f'  {_quoted(first)} -> {_quoted(second)} [label=<{words}>, color="{colour}", '
        f'fontcolor="{colour}", edgetooltip={_quoted(tip)}{back}]'
    )


def _legend(matrix: FlowMatrix) -> str:
    """What the dotted lines mean, from the policy table itself."""
    if not any(_is_common(flow) for flow in matrix.flows):
        return '""'
    to_watch, from_watch = (
        ", ".join(
            f"{row.service.name} {row.service.port}"
            for row in POLICY
            if (row.source, row.target)[end] is Party.EVERYONE and not row.beneath
        )
        for end in (0, 1)
    )
    parts = f"dotted: every machine to watch {to_watch}; watch to every machine {from_watch}"
    return (
        f'<<font point-size="10" color="{_PALE}">'
        f"<br/>{escape(parts)}<br/>what no line shows is closed</font>>"
    )
