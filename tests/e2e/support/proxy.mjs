// A proxy in front of the gateway: PROXY protocol headers (version 2), and connections that begin
// with one.
import net from 'node:net';
import { Wire } from './wire.mjs';

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

function addressBytes(address) {
    if (net.isIPv4(address)) return Buffer.from(address.split('.').map(Number));
    const [front, back] = address.split('::').map((half) => half.split(':').filter(Boolean));
    const groups = [...front, ...Array(8 - front.length - (back?.length ?? 0)).fill('0'), ...(back ?? [])];
    return Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex');
}

/** The header of a connection from `source`; without one it is LOCAL. */
export function proxyHeader(source, { port = 4711, extensions = Buffer.alloc(0) } = {}) {
    const ports = Buffer.from([port >> 8, port & 255, 0x20, 0xfb]);
    const v4 = source !== undefined && net.isIPv4(source);
    const rest = source === undefined ? extensions : Buffer.concat([
        addressBytes(source), addressBytes(v4 ? '10.0.0.1' : 'fd00::1'), ports, extensions]);
    const fixed = Buffer.from([source === undefined ? 0x20 : 0x21,
        source === undefined ? 0 : v4 ? 0x11 : 0x21, rest.length >> 8, rest.length & 255]);
    return Buffer.concat([SIGNATURE, fixed, rest]);
}

/** Connects, sends the pieces of the header one after the other, then speaks TLS if the target
 * does. */
export async function openBehind(target, ...pieces) {
    const socket = net.connect({ host: target.host, port: target.port, localAddress: target.localAddress });
    socket.setNoDelay(true);
    socket.on('error', () => {});
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    for (const piece of pieces) {
        await new Promise((resolve) => socket.write(piece, resolve));
        if (pieces.length > 1) await new Promise(setImmediate);
    }
    return target.tls ? Wire.open({ ...target, socket }) : Wire.over(socket);
}
