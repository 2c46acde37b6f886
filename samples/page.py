"""The front's page as text: patterns painted by CSS, a bar for their votes, a button each. No assets.

Without its one small script it is all there; with it, counts and ranks follow the live tally (no card moves under
the hand that votes for it).
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import parse_qs

STYLE = """
:root{color-scheme:light;--ink:#2d2433;--soft:#7b6f82;--line:#e9e0ec;--accent:#8a4f7d}
*{box-sizing:border-box}
body{margin:0;font:16px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;color:var(--ink);
 background:repeating-linear-gradient(60deg,#b98fb012 0 1px,#0000 1px 14px),
 repeating-linear-gradient(-60deg,#b98fb012 0 1px,#0000 1px 14px),#fbf8fc}
main{max-width:1080px;margin:0 auto;padding:48px 24px 64px}
h1{font:600 44px/1.1 Georgia,"DejaVu Serif",serif;letter-spacing:-.02em;margin:0 0 8px}
.lead{color:var(--soft);margin:0 0 28px;font-size:18px;max-width:36em}
.lead b{color:var(--ink)}
.note{padding:12px 18px;border-radius:12px;margin:0 0 24px;background:#e8f3ea;color:#23552f;border:1px solid #cfe6d4}
.note.bad{background:#fcebea;color:#8c2b23;border-color:#f3cdc9}
ul{list-style:none;display:grid;grid-template-columns:repeat(auto-fill,minmax(232px,1fr));gap:20px;margin:0;padding:0}
li{background:#fff;border:1px solid var(--line);border-radius:18px;overflow:hidden;display:flex;flex-direction:column;
 box-shadow:0 1px 2px #2d24330a,0 8px 24px #2d24330d;transition:transform .15s}
li:hover{transform:translateY(-3px)}
.swatch{height:116px;position:relative}
.rank{position:absolute;left:12px;top:12px;background:#fffffff0;border-radius:99px;padding:1px 11px;font-size:13px;
 font-weight:600}
.text{padding:14px 18px 18px;display:flex;flex-direction:column;gap:2px;flex:1}
h2{font:600 19px/1.3 Georgia,"DejaVu Serif",serif;margin:0}
.text p{margin:0 0 12px;color:var(--soft);font-size:14px;flex:1}
.bar{height:6px;border-radius:3px;background:#f1eaf3;overflow:hidden}
.bar i{display:block;height:100%;border-radius:3px;transition:width .2s;
 background:linear-gradient(90deg,#b98fb0,var(--accent))}
.row{display:flex;align-items:center;justify-content:space-between;margin-top:12px;font-size:14px;color:var(--soft)}
.row i{font-style:normal}
.row b{font-size:18px;color:var(--ink);font-variant-numeric:tabular-nums}
button{font:600 14px/1 inherit;color:#fff;background:var(--accent);border:0;border-radius:99px;padding:10px 18px;
 cursor:pointer}
button:hover{background:#6f3c64}
footer{margin-top:36px;color:var(--soft);font-size:14px}
"""

SCRIPT = """
new EventSource("/api/live").onmessage = ({data}) => {
  const votes = JSON.parse(data), of = card => votes[card.dataset.id] || 0
  const cards = [...document.querySelectorAll("li")].sort((a, b) => of(b) - of(a))
  const total = cards.reduce((sum, card) => sum + of(card), 0)
  document.querySelector(".lead b").textContent = total === 1 ? "one vote" : total.toLocaleString("en") + " votes"
  cards.forEach((card, index) => {
    const share = 100 * of(card) / Math.max(total, 1)
    card.querySelector(".rank").textContent = index + 1
    card.querySelector(".bar i").style.width = share.toFixed(1) + "%"
    card.querySelector(".row b").textContent = of(card).toLocaleString("en")
    card.querySelector(".row i").textContent = share.toFixed(0)
  })
}
"""


def render(results: Sequence[Mapping[str, Any]], query: str) -> str:
    """The page for these results, most votes first; `query` (voted=ID or lost=ID) says how the last vote went."""
    total = sum(one["votes"] for one in results)
    cards = "".join(_card(rank, one, max(total, 1)) for rank, one in enumerate(results, start=1))
    votes = "one vote" if total == 1 else f"{total:,} votes"
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>The Pattern Poll</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head><body><main>
<h1>The Pattern Poll</h1>
<p class="lead">One of these will hang in every window of town next season. So far <b>{votes}</b> say which.</p>
{_note(results, query)}<ul>{cards}</ul>
<footer>Served by <b>web</b>, with patterns from <b>catalog</b> and counts from <b>tally</b>, which it asks over gRPC.
</footer></main><script>{SCRIPT}</script></body></html>
"""


def _note(results: Sequence[Mapping[str, Any]], query: str) -> str:
    asked = parse_qs(query)
    names = {one["id"]: one["name"] for one in results}
    for key, style, text in (
        ("voted", "note", "Thank you. {} has your vote."),
        ("lost", "note bad", "Your vote for {} was lost: the tally did not take it."),
    ):
        name = names.get((asked.get(key) or [""])[0])
        if name:
            return f'<p class="{style}" role="status">{escape(text.format(name))}</p>'
    return ""


def _card(rank: int, one: Mapping[str, Any], total: int) -> str:
    key, votes = escape(one["id"]), one["votes"]
    share = 100 * votes / total
    return f"""<li data-id="{key}"><div class="swatch" style="background:{escape(one["background"])}">
<span class="rank">{rank}</span></div>
<div class="text"><h2>{escape(one["name"])}</h2><p>{escape(one["note"])}</p>
<div class="bar"><i style="width:{share:.1f}%"></i></div>
<form class="row" method="post" action="/vote/{key}"><span><b>{votes:,}</b> &middot; <i>{share:.0f}</i> %</span>
<button>Vote</button></form></div></li>"""
