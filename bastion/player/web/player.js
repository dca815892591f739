// SPDX-License-Identifier: Apache-2.0
// The player of an exported recording. Everything recorded is data: it becomes text nodes and
// numbers, never markup. Nothing here asks the network, and the page's policy would not let it.
'use strict';
(() => {
const $ = id => document.getElementById(id);
const NAMES = {c: 'command', f: 'file', r: 'resize', a: 'approval', z: 'freeze', s: 'secret', b: 'bastion'};
const DARK = ['#1d2229', '#ff6b66', '#4cc38a', '#e3b341', '#5aa9ff', '#d28bff', '#3fc4cf', '#c9d1d9',
  '#6b7684', '#ff9a94', '#6fdda8', '#f2cc60', '#8cc4ff', '#e2b3ff', '#6fe0e8', '#f5f7fa'];
const LIGHT = ['#1f2328', '#c1121f', '#13723c', '#7d5a00', '#0a4fa3', '#8b2fb0', '#0b6a74', '#5c6570',
  '#4d5560', '#d1242f', '#1a8a4b', '#946b00', '#1a66cc', '#a04bc7', '#14808c', '#2f363d'];
const STEERS = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

// ---- data
let head = {};
const rows = [], styles = [], frames = [], marks = [], channels = [];
for (const line of $('data').textContent.split('\n')) {
  if (line === '') continue;
  const v = JSON.parse(line);
  if (!Array.isArray(v)) head = v;
  else if (v[0] === 'r') rows.push(v);
  else if (v[0] === 's') styles.push(v);
  else if (v[0] === 'k' || v[0] === 'd') frames.push(v);
  else if (v[0] === 'm') marks.push({t: v[1], kind: v[2], chan: v[3], text: v[4]});
  else if (v[0] === 'c') channels.push({id: v[1], pty: v[2] === 1, what: v[3]});
  else if (v[0] === 'e') head.last_ms = v[1], head.cut = v[2] === 1;
}
const END = Math.max(head.end_ms || 0, head.last_ms || 0, 1);
const perChannel = new Map();            // channel -> indexes of its frames
frames.forEach((f, i) => {
  if (!perChannel.has(f[2])) perChannel.set(f[2], []);
  perChannel.get(f[2]).push(i);
});
const plain = s => s.replace(STEERS, '\ufffd');
const textOf = id => { let s = ''; for (let i = 1; i < rows[id].length; i += 2) s += plain(rows[id][i]); return s; };

// ---- state
let now = 0, playing = false, speed = 1, chan = 0, pinned = false, words = '', hitRow = null, stamp = 0, frame = -1, moved = 0;
let view = null;                         // {cols, rows, ids, x, y, cursor}
const el = {rows: [], ids: []};
const grid = document.createElement('div'), cursor = document.createElement('div');
grid.id = 'grid'; cursor.id = 'cursor';
$('screen').append(grid);

const clock = ms => {
  const s = Math.floor(ms / 1000), p = n => String(n).padStart(2, '0');
  return Math.floor(s / 3600) + ':' + p(Math.floor(s / 60) % 60) + ':' + p(s % 60);
};
const say = text => { $('said').textContent = text; };
const clamp = ms => Math.min(Math.max(ms, 0), END);

// ---- screens
// The last frame of a channel at or before a moment; -1: none yet.
function frameAt(list, ms) {
  let a = 0, b = list.length;
  while (a < b) { const m = (a + b) >> 1; if (frames[list[m]][1] <= ms) a = m + 1; else b = m; }
  return a - 1;
}
function apply(v, f) {
  if (f[0] === 'k') return {cols: f[3], rows: f[4], x: f[5], y: f[6], cursor: f[7] === 1, ids: f[8].slice()};
  for (let i = 0; i < f[6].length; i += 2) v.ids[f[6][i]] = f[6][i + 1];
  v.x = f[3]; v.y = f[4]; v.cursor = f[5] === 1;
  return v;
}
function screenAt(list, k, from, have) {
  let i = k;
  if (have && from >= 0 && from <= k && k - from < 400) i = from + 1;
  else { have = null; while (i > 0 && frames[list[i]][0] !== 'k') i--; }
  for (; i <= k; i++) have = apply(have, frames[list[i]]);
  return have;
}
function colour(c, fallback) {
  if (c < 0) return fallback;
  if (c >= 256) return '#' + (c - 256).toString(16).padStart(6, '0');
  if (c < 16) return (document.documentElement.classList.contains('light') ? LIGHT : DARK)[c];
  if (c >= 232) { const g = 8 + (c - 232) * 10; return `rgb(${g},${g},${g})`; }
  const k = c - 16, lv = n => n === 0 ? 0 : 55 + 40 * n;
  return `rgb(${lv(Math.floor(k / 36))},${lv(Math.floor(k / 6) % 6)},${lv(k % 6)})`;
}
function dress(node, s) {
  let fg = colour(s[1], ''), bg = colour(s[2], '');
  const attr = s[3];
  if (attr & 32) { const f = fg || 'var(--term-fg)'; fg = bg || 'var(--term-bg)'; bg = f; }
  if (fg) node.style.color = fg;
  if (bg) node.style.background = bg;
  if (attr & 1) node.style.fontWeight = 'bold';
  if (attr & 2) node.style.opacity = '.65';
  if (attr & 4) node.style.fontStyle = 'italic';
  if (attr & (8 | 128)) node.style.textDecoration = (attr & 8 ? 'underline ' : '') + (attr & 128 ? 'line-through' : '');
}
function drawRow(node, id) {
  node.textContent = '';
  const r = rows[id];
  for (let i = 1; i < r.length; i += 2) {
    const kind = r[i + 1] & 3, style = styles[r[i + 1] >> 2], text = plain(r[i]);
    const span = document.createElement('span');
    dress(span, style);
    if (kind === 0) span.textContent = text;
    else for (const c of text.match(/\P{M}\p{M}*|\p{M}+/gu) || []) {   // one box a character, as wide as it was
      const box = document.createElement('i');
      box.className = kind === 2 ? 'w' : 'n';
      box.textContent = c;
      span.append(box);
    }
    node.append(span);
  }
}
function fit() {
  if (!view) return;
  const s = $('screen'), room = $('stage');
  s.style.fontSize = '20px';
  const probe = document.createElement('span');
  probe.textContent = '0'.repeat(50);
  grid.append(probe);
  const ch = probe.getBoundingClientRect().width / 50 / 20;
  probe.remove();
  const w = (room.clientWidth - 52) / (view.cols * ch), h = (room.clientHeight - 46) / (view.rows * 1.25);
  const px = Math.max(7, Math.min(22, Math.floor(Math.min(w, h) * 10) / 10));
  s.style.fontSize = px + 'px';
  grid.style.width = view.cols + 'ch';
}
function draw(all) {
  const list = perChannel.get(chan) || [], k = frameAt(list, now);
  if (k < 0) { grid.textContent = ''; el.rows = []; el.ids = []; view = null; frame = -1; return; }
  const old = view;
  if (k !== frame || all) view = screenAt(list, k, all ? -1 : frame, all ? null : view);
  frame = k;
  if (!old || el.rows.length !== view.rows || old.cols !== view.cols || grid.dataset.cols !== String(view.cols)) {
    grid.textContent = '';
    el.rows = view.ids.map(() => { const d = document.createElement('div'); d.className = 'row'; return d; });
    el.ids = view.ids.map(() => -1);
    grid.append(...el.rows, cursor);
    grid.dataset.cols = view.cols;
    fit();
  }
  view.ids.forEach((id, y) => {
    if (el.ids[y] === id && !all) return;
    drawRow(el.rows[y], id);
    el.ids[y] = id;
  });
  cursor.hidden = !view.cursor;
  cursor.style.left = view.x + 'ch';
  cursor.style.top = (view.y * 1.25) + 'em';
}
function follow() {                      // the channel where something happens, unless one was chosen
  if (pinned) return;
  let best = chan, t = -1;
  for (const [id, list] of perChannel) {
    const k = frameAt(list, now);
    if (k >= 0 && frames[list[k]][1] > t) { t = frames[list[k]][1]; best = id; }
  }
  if (best !== chan) { chan = best; frame = -1; view = null; $('channel').value = String(chan); draw(true); }
}
function show() {
  follow();
  draw(false);
  $('clock').textContent = clock(now) + ' / ' + clock(END);
  $('time').value = String(now);
  $('time').setAttribute('aria-valuetext', clock(now));
  let at = -1;
  for (let i = 0; i < marks.length && marks[i].t <= now; i++) at = i;
  if (at !== moved) {
    const list = $('marks').children;
    if (list[moved]) list[moved].classList.remove('now');
    if (list[at]) { list[at].classList.add('now'); list[at].scrollIntoView({block: 'nearest'}); }
    moved = at;
  }
}
function jump(ms, text) { now = clamp(ms); stamp = performance.now(); clearHit(); show(); if (text !== undefined) say(text); }

// ---- the clock
function nextChange() {
  let t = END;
  for (const list of perChannel.values()) {
    const k = frameAt(list, now) + 1;
    if (k < list.length) t = Math.min(t, frames[list[k]][1]);
  }
  return t;
}
function lastChange() {
  let t = 0;
  for (const list of perChannel.values()) { const k = frameAt(list, now); if (k >= 0) t = Math.max(t, frames[list[k]][1]); }
  return t;
}
function tick(at) {
  if (playing) {
    now = clamp(now + (at - stamp) * speed);
    if ($('idle').checked) {
      const next = nextChange(), last = lastChange();
      if (next - last > 2000 && now - last > 2000) now = Math.max(now, next);
    }
    if (now >= END) setPlaying(false);
    show();
  }
  stamp = at;
  if (playing) requestAnimationFrame(tick);
}
function setPlaying(on) {
  if (on && now >= END) now = 0;
  if (on && !playing) { stamp = performance.now(); clearHit(); requestAnimationFrame(tick); }
  playing = on;
  $('play').textContent = on ? '\u275a\u275a' : '\u25b6\ufe0e';
  $('play').setAttribute('aria-label', on ? 'Pause' : 'Play');
}

// ---- search: small letters find both cases
function clearHit() {
  if (!hitRow) return;
  hitRow = null;
  el.ids.fill(-1);
}
function matches(id) {
  const t = textOf(id);
  return words === words.toLowerCase() ? t.toLowerCase().includes(words) : t.includes(words);
}
function find(back) {
  if (words === '') { $('words').focus(); return; }
  const good = new Set();
  rows.forEach((_, id) => { if (matches(id)) good.add(id); });
  const hits = [];
  for (const [id, list] of perChannel) {
    let v = null, had = new Set();
    for (let k = 0; k < list.length; k++) {
      const f = frames[list[k]];
      v = apply(v, f);
      const has = new Set(v.ids.filter(x => good.has(x)));
      for (const x of has) if (!had.has(x)) { hits.push({t: f[1], chan: id, row: x}); break; }
      had = has;
    }
  }
  if (hits.length === 0) { say('not found in this recording'); return; }
  hits.sort((a, b) => a.t - b.t);
  const n = Math.floor(now);
  let h = back ? hits.filter(x => x.t < n).pop() : hits.find(x => x.t > n), round = '';
  if (!h) { h = back ? hits[hits.length - 1] : hits[0]; round = back ? ', from the end again' : ', from the beginning again'; }
  setPlaying(false);
  if (chan !== h.chan) choose(h.chan);
  jump(h.t, `found at ${clock(h.t)} (${hits.indexOf(h) + 1} of ${hits.length}${round})`);
  view.ids.forEach((id, y) => { if (good.has(id)) highlight(el.rows[y]); });
  hitRow = true;
}
function highlight(node) {
  const low = words === words.toLowerCase(), walk = document.createTreeWalker(node, NodeFilter.SHOW_TEXT), all = [];
  let whole = '';
  while (walk.nextNode()) { all.push({n: walk.currentNode, at: whole.length}); whole += walk.currentNode.data; }
  const text = low ? whole.toLowerCase() : whole;
  for (let i = text.lastIndexOf(words); i >= 0; i = i > 0 ? text.lastIndexOf(words, i - 1) : -1)
    for (const p of all.slice().reverse()) {
      const a = Math.max(0, i - p.at), b = Math.min(p.n.data.length, i + words.length - p.at);
      if (a >= b) continue;
      const r = document.createRange();
      r.setStart(p.n, a); r.setEnd(p.n, b);
      r.surroundContents(document.createElement('mark'));
    }
}

// ---- time as typed: 90, 1:30, 1:02:03, 1m30s, 50%, +10s
function parse(text) {
  const t = text.trim(), sign = /^[+-]/.test(t) ? t[0] : '', s = sign ? t.slice(1) : t;
  let ms = NaN, m;
  if ((m = /^(\d+(?:\.\d+)?)%$/.exec(s))) ms = END * m[1] / 100;
  else if (/^\d+(:\d{1,2}){1,2}(\.\d+)?$/.test(s)) ms = s.split(':').reduce((a, x) => a * 60 + Number(x), 0) * 1000;
  else if (/^\d+(\.\d+)?$/.test(s)) ms = Number(s) * 1000;
  else if (s !== '' && (m = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?$/.exec(s))) ms = ((m[1] || 0) * 3600 + (m[2] || 0) * 60 + Number(m[3] || 0)) * 1000;
  return sign === '+' ? now + ms : sign === '-' ? now - ms : ms;
}
function fromHash() {
  const m = /^#t=(.*)$/.exec(location.hash), ms = m ? parse(decodeURIComponent(m[1])) : NaN;
  if (!Number.isNaN(ms)) { setPlaying(false); jump(ms, 'at ' + clock(ms)); }
}

// ---- what the keys and buttons do
function toMark(back, kind) {
  const fits = m => !kind || m.kind === kind, near = playing ? 1500 : 0;
  const m = back ? marks.filter(x => fits(x) && x.t < now - near).pop() : marks.find(x => fits(x) && x.t > now);
  if (!m) { say(back ? 'nothing earlier' : 'nothing later'); return; }
  jump(m.t, `${clock(m.t)}  ${NAMES[m.kind] || ''}: ${plain(m.text)}`);
}
function choose(id) { pinned = perChannel.size > 1; chan = id; $('channel').value = String(id); view = null; frame = -1; show(); }
function setSpeed(v) { speed = Math.min(64, Math.max(0.125, v)); if (![...$('speed').options].some(o => Number(o.value) === speed)) addSpeed(speed); $('speed').value = String(speed); }
function addSpeed(v) { const o = document.createElement('option'); o.value = String(v); o.textContent = v + '\u00d7'; $('speed').append(o); }
const KEYS = [
  [[' ', 'k'], 'space', 'play, pause', () => setPlaying(!playing)],
  [['ArrowRight'], 'right left', '10 seconds on, back (with Shift a minute)', e => jump(now + (e.shiftKey ? 60000 : 10000))],
  [['ArrowLeft'], '', '', e => jump(now - (e.shiftKey ? 60000 : 10000))],
  [['+', '='], '+ - x', 'faster, slower, as it was', () => setSpeed(speed * 2)],
  [['-', '_'], '', '', () => setSpeed(speed / 2)],
  [['x'], '', '', () => setSpeed(1)],
  [['i'], 'i', 'cut silences', () => { $('idle').checked = !$('idle').checked; }],
  [['.'], '.', 'on to the next output', () => { setPlaying(false); jump(nextChange()); }],
  [['/'], '/ n N', 'search the screens; next, previous', () => { $('words').focus(); $('words').select(); }],
  [['n'], '', '', () => find(false)],
  [['N'], '', '', () => find(true)],
  [[']'], '] [', 'next, previous command', () => toMark(false, 'c')],
  [['['], '', '', () => toMark(true, 'c')],
  [['}'], '} {', 'next, previous mark of any kind', () => toMark(false)],
  [['{'], '', '', () => toMark(true)],
  [['g'], 'g', 'go to: 1:30, 1m30s, 50%, +10s', () => { $('when').focus(); $('when').select(); }],
  [['Home'], 'Home End 0-9', 'beginning, end, tenths', () => jump(0)],
  [['End'], '', '', () => jump(END)],
  [['c'], 'c', 'next channel', () => { const ids = [...perChannel.keys()]; if (ids.length > 1) choose(ids[(ids.indexOf(chan) + 1) % ids.length]); }],
  [['m'], 'm', 'to the list of what happened', () => { const l = $('marks').children[Math.max(0, moved)]; if (l) l.focus(); }],
  [['t'], 't', 'dark, light', () => theme()],
  [['?'], '?', 'this list', () => $('help').showModal()],
];
function theme() { document.documentElement.classList.toggle('light'); draw(true); }
document.addEventListener('keydown', e => {
  const typing = /^(INPUT|SELECT)$/.test(e.target.tagName) && e.target.type !== 'range' && e.target.type !== 'checkbox';
  if (e.ctrlKey || e.altKey || e.metaKey || $('help').open) return;
  if (typing) { if (e.key === 'Escape') $('screen').focus(); return; }
  if (e.target.tagName === 'BUTTON' && e.key === ' ') return;
  if (e.target.tagName === 'LI' && (e.key === 'Enter' || e.key === ' ')) { e.preventDefault(); e.target.click(); return; }
  const k = KEYS.find(x => x[0].includes(e.key));
  if (k) { e.preventDefault(); k[3](e); }
  else if (/^[0-9]$/.test(e.key)) jump(END * Number(e.key) / 10);
});

// ---- the page
function aboutLine() {
  const add = (label, value, bad) => {
    if (!value) return;
    const b = document.createElement('b');
    b.textContent = plain(String(value));
    if (bad) b.className = 'bad';
    $('about').append(label, b, '   ');
  };
  let meta = {};
  try { meta = JSON.parse(head.meta || '{}'); } catch { /* what a recording says of itself may be anything */ }
  add('', meta.person); add('as ', meta.account && meta.target ? meta.account + '@' + meta.target : '');
  add('', new Date(head.opened_us / 1000).toISOString().replace('T', ' ').slice(0, 19) + ' UTC');
  add('verdict ', head.verdict, !/^(intact|recovered)$/i.test(head.verdict));
  add('exported for ', head.exported_for);
  if (head.cut) add('', 'its end is not in this file', true);
}
function markList() {
  for (const m of marks) {
    const li = document.createElement('li'), time = document.createElement('time'), kind = document.createElement('b'), text = document.createElement('span');
    time.textContent = clock(m.t);
    kind.textContent = m.kind;
    kind.className = /^[cfrazsb]$/.test(m.kind) ? m.kind : 'r';
    kind.title = NAMES[m.kind] || '';
    text.textContent = plain(m.text) || 'Enter';
    li.tabIndex = 0;
    li.append(time, kind, text);
    li.setAttribute('aria-label', `${clock(m.t)} ${NAMES[m.kind] || ''}: ${plain(m.text)}`);
    li.addEventListener('click', () => { if (m.chan && perChannel.has(m.chan) && perChannel.size > 1) choose(m.chan); jump(m.t); });
    $('marks').append(li);
    const tick = document.createElement('b');
    tick.className = kind.className;
    tick.style.left = (100 * Math.min(m.t, END) / END) + '%';
    $('ticks').append(tick);
  }
}
function begin() {
  document.documentElement.classList.toggle('light', matchMedia('(prefers-color-scheme: light)').matches);
  $('session').textContent = head.session || '';
  aboutLine();
  markList();
  for (const v of [0.5, 1, 2, 4, 8, 16, 32]) addSpeed(v);
  setSpeed(1);
  $('time').max = String(END);
  for (const id of perChannel.keys()) {
    const o = document.createElement('option'), c = channels.find(x => x.id === id);
    o.value = String(id);
    o.textContent = id + (c ? ' ' + plain(c.what) : '');
    $('channel').append(o);
  }
  $('channel-label').hidden = perChannel.size < 2;
  for (const [, keys, what] of KEYS) {
    if (keys === '') continue;
    const dt = document.createElement('dt'), dd = document.createElement('dd');
    dt.textContent = keys; dd.textContent = what;
    $('help-list').append(dt, dd);
  }
  $('play').addEventListener('click', () => setPlaying(!playing));
  $('prev').addEventListener('click', () => toMark(true, 'c'));
  $('next').addEventListener('click', () => toMark(false, 'c'));
  $('time').addEventListener('input', () => jump(Number($('time').value)));
  $('speed').addEventListener('change', () => setSpeed(Number($('speed').value)));
  $('channel').addEventListener('change', () => choose(Number($('channel').value)));
  $('find').addEventListener('submit', e => { e.preventDefault(); words = $('words').value; find(false); $('screen').focus(); });
  $('back').addEventListener('click', () => { words = $('words').value; find(true); });
  $('goto').addEventListener('submit', e => {
    e.preventDefault();
    const ms = parse($('when').value);
    if (Number.isNaN(ms)) say('a time is 1:30, 1m30s, 90, 50% or +10s'); else { jump(ms, 'at ' + clock(clamp(ms))); $('screen').focus(); }
  });
  $('link').addEventListener('click', () => { location.hash = 't=' + (now / 1000).toFixed(2); say('the address of this page is now that of this moment'); });
  $('keys').addEventListener('click', () => $('help').showModal());
  $('theme').addEventListener('click', theme);
  addEventListener('resize', fit);
  addEventListener('hashchange', fromHash);
  chan = perChannel.size > 0 ? perChannel.keys().next().value : 0;
  setPlaying(false);
  show();
  fromHash();
  $('screen').focus();
}
begin();
})();
