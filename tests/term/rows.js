// SPDX-License-Identifier: Apache-2.0
// rows.c with xterm.js as the engine: the judge. No reflow and no scrollback: lines that
// a resize takes away do not come back (xterm's own way, and ours).
'use strict';
const fs = require('fs');
const path = require('path');
const at = (name) => require(path.join(process.argv[3], 'node_modules', name));
const { Terminal } = at('@xterm/headless');
const { Unicode11Addon } = at('@xterm/addon-unicode11');

const file = fs.readFileSync(process.argv[2]);
let term = null;

function colour(cell, ground) {
	if (cell[`is${ground}Default`]()) return '-';
	const n = cell[`get${ground}Color`]();
	return cell[`is${ground}RGB`]() ? '#' + n.toString(16).padStart(6, '0') : String(n);
}

const ATTRS = ['Bold', 'Dim', 'Italic', 'Underline', 'Blink', 'Inverse', 'Invisible', 'Strikethrough'];
function look(cell) {
	let bits = 0;
	ATTRS.forEach((name, i) => { if (cell[`is${name}`]()) bits |= 1 << i; });
	return `${colour(cell, 'Fg')}/${colour(cell, 'Bg')}/${bits.toString(16)}`;
}

function row(line, cols) {
	const cells = [];
	let text = '', runs = '', last = null, n = 0;
	for (let x = 0; x < cols; x++) {
		const cell = line.getCell(x);
		if (cell.getWidth() > 0) text += cell.getChars() || ' ';
		const now = look(cell);
		if (now !== last) {
			if (last !== null) runs += `${n}:${last} `;
			last = now;
			n = 0;
		}
		n++;
	}
	return `|${text.replace(/ +$/, '')}\t${runs}${n}:${last} \n`;
}

function show() {
	const b = term.buffer.active;
	const x = Math.min(b.cursorX, term.cols - 1);
	let out = `@ ${term.cols}x${term.rows} ${x},${b.cursorY} ${b.type === 'alternate' ? 1 : 0}\n`;
	for (let y = 0; y < term.rows; y++) out += row(b.getLine(b.baseY + y), term.cols);
	return out;
}

async function main() {
	const out = [];
	for (let i = 0; i < file.length;) {
		const what = String.fromCharCode(file[i++]);
		if (what === 'r') {
			const cols = file.readUInt16LE(i), rows = file.readUInt16LE(i + 2);
			i += 4;
			if (term === null) {
				term = new Terminal({ cols, rows, scrollback: 0, allowProposedApi: true,
				    windowsPty: { backend: 'winpty', buildNumber: 1 } });
				term.loadAddon(new Unicode11Addon());
				term.unicode.activeVersion = '11';
			} else term.resize(cols, rows);
		} else if (what === 'f') {
			const n = file.readUInt32LE(i);
			await new Promise((done) => term.write(file.subarray(i + 4, i + 4 + n), done));
			i += 4 + n;
		} else out.push(show());
	}
	process.stdout.write(out.join(''));
}
main();
