--- --dev: the style sheet of the error page. No file, font or script beside it;
--- light or dark as the browser prefers; from 360 pixels up.
return [[
:root {
    --page: #f4f5f7; --card: #ffffff; --text: #1d2129; --dim: #667085; --line: #e1e4e9;
    --code: #fafbfc; --red: #c9251d; --mark: #fdecea; --soft: #eef0f3;
    --word: #7a3e9d; --text-in-code: #2b6a3f; --number: #9a5b00; --note: #8a93a1;
    --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
    :root {
        --page: #101318; --card: #181c23; --text: #e4e7ec; --dim: #949dab; --line: #2a303a;
        --code: #13171d; --red: #ff7a70; --mark: #3a1f21; --soft: #222832;
        --word: #d2a8ff; --text-in-code: #8ddb9f; --number: #f0b265; --note: #778191;
    }
}
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body {
    margin: 0; background: var(--page); color: var(--text);
    font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
    border-top: 4px solid var(--red);
}
header, main, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem }
header { padding-top: 1.6rem }
.kind { margin: 0 0 .5rem; color: var(--dim) }
.badge {
    display: inline-block; padding: 0 .5em; margin-right: .35em; border-radius: 4px;
    background: var(--red); color: var(--card); font-weight: 600;
}
h1 {
    margin: 0; font: 600 1.35rem/1.4 var(--mono); overflow-wrap: anywhere; white-space: pre-wrap;
}
.more { margin: .6rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere }
.facts { display: flex; flex-wrap: wrap; gap: .25rem 1.75rem; margin: 1rem 0 0; padding: 0 }
.facts div { display: flex; gap: .5em; min-width: 0 }
dt { color: var(--dim) }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; font-family: var(--mono); font-size: .9em;
    line-height: 1.75 }
h2 { margin: 1.9rem 0 .6rem; font-size: 1rem; font-weight: 600 }
.card {
    background: var(--card); border: 1px solid var(--line); border-radius: 8px;
    overflow: hidden; margin: 0 0 .6rem;
}
summary { padding: .5rem .9rem; cursor: pointer; overflow-wrap: anywhere }
summary:hover { background: var(--soft) }
summary:focus-visible { outline: 2px solid var(--red); outline-offset: -2px }
summary b { font: 600 .92em var(--mono) }
summary span { color: var(--dim); margin-left: .4em }
pre, code, td { font-family: var(--mono); font-size: 13px; line-height: 1.6 }
pre { margin: 0; padding: .7rem .9rem; overflow-x: auto; background: var(--code) }
.card > pre { border-top: 1px solid var(--line) }
.source { padding: .5rem 0; tab-size: 4 }
.source div { display: inline-block; min-width: 100%; vertical-align: top }
.source div > span { display: block; padding: 0 .9rem 0 0; white-space: pre }
.source i {
    display: inline-block; width: 3.6rem; padding-right: 1rem; text-align: right;
    color: var(--note); font-style: normal; user-select: none;
}
.source .here { background: var(--mark); box-shadow: inset 3px 0 var(--red) }
.source .here i { color: var(--red); font-weight: 600 }
.w { color: var(--word) } .s { color: var(--text-in-code) } .n { color: var(--number) }
.c { color: var(--note); font-style: italic }
h3 {
    margin: 0; padding: .45rem .9rem .2rem; font-size: .8rem; font-weight: 600; color: var(--dim);
    border-top: 1px solid var(--line);
}
table { width: 100%; table-layout: fixed; border-collapse: collapse }
td { padding: .22rem .9rem; vertical-align: top; overflow-wrap: anywhere; white-space: pre-wrap }
td:first-child { width: 11rem; color: var(--dim) }
table + h3 { margin-top: .5rem }
table:last-child { margin-bottom: .5rem }
footer { margin-top: 2rem; padding-bottom: 2.5rem; color: var(--dim); font-size: .9rem }
footer code { color: var(--text); white-space: nowrap }
@media (max-width: 36rem) {
    header, main, footer { padding-left: .8rem; padding-right: .8rem }
    h1 { font-size: 1.1rem }
    td, h3, summary { padding-left: .7rem; padding-right: .7rem }
    td + td { padding-left: 0 }
    td:first-child { width: 7.2rem }
    .source i { width: 2.9rem; padding-right: .7rem }
    pre, code, td { font-size: 12px }
}
]]
