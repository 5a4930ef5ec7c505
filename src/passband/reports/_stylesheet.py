"""The look of a page: light and dark, wide and narrow, on paper."""

CSS = """
:root { --paper: #ffffff; --ink: #1b1f24; --quiet: #57606a; --line: #d0d7de; --soft: #f4f6f8; --card: #ffffff;
  --accent: #0068a3; --warn: #9a4a00; --shade: #1b1f2440; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e6e9ec; --quiet: #a3acb5; --line: #363d45; --soft: #1e2329; --card: #1a1e23;
    --accent: #6bb8e8; --warn: #f0a860; --shade: #000000a0; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 58rem; margin: 0 auto; padding: clamp(1rem, 4vw, 3rem) clamp(1rem, 4vw, 2rem); }
h1 { font-size: clamp(1.5rem, 5vw, 2.1rem); line-height: 1.2; margin: 0 0 .75rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.75rem 0 .75rem; }
h3 { font-size: 1rem; line-height: 1.3; margin: 1.75rem 0 .25rem; overflow-wrap: anywhere; }
p { margin: .6rem 0; max-width: 44rem; }
ul { margin: .6rem 0; padding-left: 1.25rem; max-width: 44rem; }
a { color: var(--accent); text-underline-offset: .15em; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.summary { font-size: 1.15rem; }
h1, h2, p, td, th, dd, li, summary, figcaption { overflow-wrap: break-word; }
.contents { margin: 1.5rem 0 0; padding: .75rem 0; border: solid var(--line); border-width: 1px 0;
  font-size: .925rem; }
.contents ul { list-style: none; margin: 0; padding: 0; max-width: none; columns: 15rem auto; column-gap: 1.5rem; }
.contents li { break-inside: avoid; padding: .25rem 0; }
.contents a { text-decoration: none; }
.contents a:hover { text-decoration: underline; }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1.25rem 0; }
.numbers div { min-width: 8rem; }
.numbers dt { color: var(--quiet); font-size: .875rem; }
.numbers dd { margin: 0; font-size: 1.6rem; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums; }
.numbers dd.remark { font-size: .875rem; font-weight: 400; color: var(--quiet); }
figure { margin: 1.25rem 0; }
figure.drawn { max-width: 46rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .5rem; overflow: hidden; }
.card.white { background: #ffffff; }
.card img { display: block; width: 100%; height: auto; }
.card img.pixelated { image-rendering: pixelated; }
figcaption { color: var(--quiet); font-size: .9rem; margin-top: .5rem; max-width: 44rem; }
.files { white-space: nowrap; }
.player audio { display: block; width: 100%; margin-top: .5rem; }
.player .head { font-size: .9rem; font-weight: 600; margin: 0 0 .35rem; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: .25rem 1.25rem;
  align-items: start; }
.columns > div { min-width: 0; }
.columns > div:only-child { max-width: 32rem; }
.columns figure { margin: .6rem 0; }
.columns.wide { grid-template-columns: 1fr; }
@media (min-width: 72rem) {
  .columns.wide { grid-template-columns: 1fr 1fr; width: min(94vw, 84rem); margin-left: calc(50% - min(47vw, 42rem)); }
}
/* Shades at the sides say that there is more to see: each is covered at its end of the table. */
.scroll { overflow-x: auto; margin: 1rem 0; background:
  linear-gradient(90deg, var(--paper) 40%, transparent) left / 2.5rem 100%,
  linear-gradient(-90deg, var(--paper) 40%, transparent) right / 2.5rem 100%,
  linear-gradient(90deg, var(--shade), transparent) left / .75rem 100%,
  linear-gradient(-90deg, var(--shade), transparent) right / .75rem 100%;
  background-repeat: no-repeat; background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; font-size: .95rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); font-size: .9rem; padding-bottom: .4rem;
  max-width: min(44rem, calc(100vw - 3rem)); }
th, td { text-align: left; vertical-align: top; padding: .35rem 1.25rem .35rem 0;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; }
th.number, td.number { text-align: right; padding-left: .75rem; }
td.number, td.short { white-space: nowrap; }
td:not(.number, .short) { min-width: min(9rem, 30vw); }
th button { all: unset; box-sizing: border-box; cursor: pointer; color: inherit; font: inherit; text-align: inherit; }
th button:hover { color: var(--accent); }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
th button::after { content: "\\a0\\2195"; color: var(--quiet); font-weight: 400; }
th[aria-sort] button::after { color: var(--accent); font-weight: 600; }
th[aria-sort="ascending"] button::after { content: "\\a0\\2191"; }
th[aria-sort="descending"] button::after { content: "\\a0\\2193"; }
.note, .warning { background: var(--soft); border-left: 4px solid var(--accent); border-radius: 4px; margin: 1rem 0;
  padding: .25rem 1rem; max-width: 46rem; }
.warning { border-left-color: var(--warn); }
details { border: 1px solid var(--line); border-radius: 8px; margin: 1rem 0; padding: 0 1rem; }
summary { cursor: pointer; font-weight: 600; padding: .6rem 0; }
pre { background: var(--soft); border-radius: 6px; padding: .75rem 1rem; overflow-x: auto; font-size: .85rem;
  margin: .5rem 0; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
footer { border-top: 1px solid var(--line); margin-top: 3rem; padding-top: .5rem; color: var(--quiet);
  font-size: .9rem; }
footer pre { white-space: pre-wrap; overflow-wrap: anywhere; color: var(--ink); }
@media print {
  audio, .contents, .files, th button::after { display: none; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  figure, tr, .numbers, .note, .warning { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; background: none; }
  table { font-size: 8.5pt; }
  th, td { padding-right: .8rem; }
  th.number, td.number { padding-left: 0; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
