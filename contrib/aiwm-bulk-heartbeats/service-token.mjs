#!/usr/bin/env node
// Prints a service token for the gateway: JWT_SECRET=... ./service-token.mjs [days] [name]
import { createHmac } from 'node:crypto';

const [days = '90', name = 'aiwm-gateway'] = process.argv.slice(2);
const secret = process.env.JWT_SECRET;
if (!secret || !(Number(days) > 0)) {
  console.error('Usage: JWT_SECRET=... service-token.mjs [days] [name]');
  process.exit(64);
}
const now = Math.floor(Date.now() / 1000);
const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const input = [
  { alg: 'HS256', typ: 'JWT' },
  {
    sub: name,
    username: `service:${name}`,
    status: 'active',
    type: 'service',
    roles: ['service.heartbeats'],
    iat: now,
    exp: now + Math.round(Number(days) * 86400),
  },
]
  .map(encode)
  .join('.');
console.log(`${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`);
