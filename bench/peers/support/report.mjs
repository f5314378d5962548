// Figures to a table and a plot.
const round = (value) => value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);

export function summary(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return { median: (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2,
    min: sorted[0], max: sorted.at(-1) };
}

// A ratio per round, then their median: what else the machine did in a round hit both.
export function ratio(row) {
  const peers = Object.keys(row.figures).filter((who) => who !== 'gateway' && !row.beside?.includes(who));
  const best = peers.sort((a, b) => summary(row.figures[a]).median - summary(row.figures[b]).median)[0];
  const ratios = row.figures.gateway.map((value, i) => value / row.figures[best][i]);
  return { best, ...summary(ratios) };
}

const said = ({ median, min, max }) => `${round(median)} (${round(min)} to ${round(max)})`;

function verdict(row) {
  if (row.limit !== undefined) {
    const { median } = summary(row.figures.gateway);
    return { value: `${round(median)}`, aim: `≤ ${row.limit}`, met: median <= row.limit };
  }
  const { best, median } = ratio(row);
  return { value: `${median.toFixed(2)} of ${best}`, aim: `≤ ${row.target}`, met: median <= row.target };
}

export function table(rows) {
  const lines = ['| | unit | gateway | HAProxy | nginx | ratio | aim |', '|---|---|---|---|---|---|---|'];
  for (const row of rows) {
    const { value, aim, met } = verdict(row);
    const cell = (prefix) => Object.entries(row.figures).filter(([who]) => who.startsWith(prefix))
      .map(([who, values]) => `${said(summary(values))}${who.slice(prefix.length)}`).join('<br>') || '-';
    lines.push(`| ${row.title} | ${row.unit} | ${cell('gateway')} | ${cell('haproxy')} | ${cell('nginx')} | `
      + `${value} | ${aim}${met ? '' : ' **missed**'} |`);
  }
  return `${lines.join('\n')}\n`;
}

// ---- plots: plain SVG, light and dark alike ----

const COLOURS = { gateway: '#2f7ed8', haproxy: '#e08e2b', nginx: '#3a9a5b', 'haproxy lean': '#b5793a',
  'nginx lua': '#3a9a5b', 'nginx disk': '#7bb98c' };
const text = (x, y, words, more = '') =>
  `<text x="${x}" y="${y}" font-size="12" font-family="sans-serif" fill="#777" ${more}>${words}</text>`;

// Each row's bars, the best peer being 1.
export function bars(rows) {
  const left = 300, width = 380, height = 13, parts = [];
  let y = 30;
  for (const row of rows.filter(({ target }) => target !== undefined)) {
    const base = summary(row.figures[ratio(row).best]).median, top = y;
    for (const [who, values] of Object.entries(row.figures)) {
      const { median, min, max } = summary(values);
      const at = (value) => left + Math.min(value / base, 2.6) / 2.6 * width;
      parts.push(`<rect x="${left}" y="${y}" width="${at(median) - left}" height="${height - 2}" fill="${COLOURS[who]}"/>`,
        `<path d="M${at(min)} ${y + 5}H${at(max)}" stroke="#555" stroke-width="1.5"/>`,
        text(at(Math.max(median, max)) + 6, y + 10, `${round(median)} ${who}`, 'style="font-size:10px"'));
      y += height;
    }
    parts.push(text(left - 8, (top + y) / 2 + 3, `${row.title}`, 'text-anchor="end"'));
    y += 9;
  }
  const one = left + width / 2.6;
  parts.push(`<path d="M${one} 20V${y}" stroke="#999" stroke-dasharray="3 3"/>`, text(one - 45, 14, 'best peer = 1'));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 ${y + 10}" width="860">${parts.join('\n')}</svg>\n`;
}

// Lines over a logarithmic axis: series is who -> [[x, y], ...].
export function curves({ title, xName, yName, series }) {
  const all = Object.values(series).flat(), xs = [...new Set(all.map(([x]) => x))].sort((a, b) => a - b);
  const top = Math.max(...all.map(([, y]) => y)) * 1.15, parts = [text(60, 18, title)];
  const X = (x) => 60 + Math.log(x / xs[0]) / Math.log(xs.at(-1) / xs[0]) * 400;
  const Y = (y) => 250 - y / top * 215;
  for (const x of xs) parts.push(text(X(x), 268, x.toLocaleString('en'), 'text-anchor="middle"'));
  for (let i = 0; i <= 4; i++)
    parts.push(`<path d="M60 ${Y(top * i / 4)}H460" stroke="#ccc" stroke-width="0.5"/>`,
      text(54, Y(top * i / 4) + 4, round(top * i / 4), 'text-anchor="end"'));
  for (const [who, points] of Object.entries(series)) {
    parts.push(`<polyline fill="none" stroke="${COLOURS[who]}" stroke-width="2" points="${
      points.map(([x, y]) => `${X(x)},${Y(y)}`).join(' ')}"/>`,
    ...points.map(([x, y]) => `<circle cx="${X(x)}" cy="${Y(y)}" r="3" fill="${COLOURS[who]}"/>`),
    text(466, Y(points.at(-1)[1]) + 4, who, `style="fill:${COLOURS[who]}"`));
  }
  parts.push(text(260, 288, xName, 'text-anchor="middle"'), text(0, 34, yName));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 296" width="560">${parts.join('\n')}</svg>\n`;
}
