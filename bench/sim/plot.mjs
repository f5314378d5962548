// Draws lines from CSV as an SVG: the first column is x, each other column a line.
//
//   node bench/sim/plot.mjs TITLE YLABEL [columns=a,b] [to=600] < in.csv > out.svg
import fs from 'node:fs';

const [title, yLabel, ...options] = process.argv.slice(2);
const option = (name) => options.find((o) => o.startsWith(`${name}=`))?.slice(name.length + 1);
const [head, ...lines] = fs.readFileSync(0, 'utf8').trim().split('\n').map((line) => line.split(','));
const to = Number(option('to') ?? Infinity);
const rows = lines.map((line) => line.map(Number)).filter((row) => row[0] <= to);
const names = option('columns')?.split(',') ?? head.slice(1);
const columns = names.map((name) => head.indexOf(name));

const WIDTH = 760, HEIGHT = 360, LEFT = 64, RIGHT = 150, TOP = 40, BOTTOM = 48;
const colours = ['#c0392b', '#d68910', '#1e8449', '#2471a3', '#7d3c98'];

/** A round step that gives four to eight lines. */
function step(range) {
    const power = 10 ** Math.floor(Math.log10(range / 4));
    return [1, 2, 5, 10].map((n) => n * power).find((n) => range / n <= 8);
}

const xMax = Math.max(...rows.map((row) => row[0]));
const yMax = Math.max(...rows.flatMap((row) => columns.map((c) => row[c]))) * 1.05;
const x = (value) => (LEFT + (value / xMax) * (WIDTH - LEFT - RIGHT)).toFixed(1);
const y = (value) => (HEIGHT - BOTTOM - (value / yMax) * (HEIGHT - TOP - BOTTOM)).toFixed(1);
const text = (at, down, words, more = '') => `<text x="${at}" y="${down}" ${more}>${words}</text>`;

const grid = [];
for (let v = 0; v <= yMax; v += step(yMax))
    grid.push(`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(v)}" y2="${y(v)}" stroke="#ddd"/>`,
        text(LEFT - 8, Number(y(v)) + 4, v, 'text-anchor="end"'));
for (let v = 0; v <= xMax; v += step(xMax))
    grid.push(text(x(v), HEIGHT - BOTTOM + 18, v, 'text-anchor="middle"'));

const curves = columns.map((c, i) => {
    const points = rows.map((row) => `${x(row[0])},${y(row[c])}`).join(' ');
    const legend = TOP + 16 + i * 20;
    return `<polyline points="${points}" fill="none" stroke="${colours[i]}" stroke-width="2"/>` +
        `<line x1="${WIDTH - RIGHT + 12}" x2="${WIDTH - RIGHT + 32}" y1="${legend}" y2="${legend}" stroke="${colours[i]}" stroke-width="3"/>` +
        text(WIDTH - RIGHT + 38, legend + 4, names[i].replaceAll('_', ' '));
});

process.stdout.write(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
${text(LEFT, 22, title, 'font-size="15" font-weight="bold"')}
${text(WIDTH - RIGHT, HEIGHT - 10, 'seconds', 'text-anchor="end"')}
${text(8, TOP - 6, yLabel, 'font-size="11" fill="#555"')}
${grid.join('\n')}
${curves.join('\n')}
</svg>
`);
