// The module in a Nest application set up as the controller's is, asked over HTTP; each request and
// answer is held against the contract.
import 'reflect-metadata';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import {
  BadRequestException,
  Body,
  Catch,
  Controller,
  HttpException,
  Injectable,
  Module,
  Post,
  UnauthorizedException,
  ValidationPipe,
  type ArgumentsHost,
  type CanActivate,
  type ExceptionFilter,
  type ExecutionContext,
  type INestApplication,
} from '@nestjs/common';
import { NestFactory, Reflector } from '@nestjs/core';
import { getModelToken } from '@nestjs/mongoose';
import { Ajv2020 } from 'ajv/dist/2020';
import type { Request, Response } from 'express';
import { parse } from 'yaml';
import { BULK_HEARTBEATS_PATH, BulkHeartbeatsModule, bulkHeartbeatsBody } from '../src';
import { AGENT_MODEL } from '../src/service';
import { FakeAgents, agentId } from './support';

const root = path.resolve(__dirname, '../..');
const secret = 'aiwm-local-test-secret-0123456789abcdef';

// ---- the contract ----

const contract = parse(
  readFileSync(path.resolve(root, '../../docs/bulk-heartbeats.openapi.yaml'), 'utf8'),
);
const ajv = new Ajv2020({ strict: false, allErrors: true, formats: { 'date-time': true } });
ajv.addSchema(contract, 'contract');
function fits(schema: string, value: unknown): boolean {
  return ajv.validate({ $ref: `contract#/components/schemas/${schema}` }, value) as boolean;
}

// ---- as the controller is ----

const claimsOf = (token: string) => {
  const [head, claims, mac] = token.split('.');
  const genuine = createHmac('sha256', secret).update(`${head}.${claims}`).digest('base64url');
  return mac === genuine ? JSON.parse(Buffer.from(claims!, 'base64url').toString()) : undefined;
};

/** Needs something injected, as the controller's does. */
@Injectable()
class JwtAuthGuard implements CanActivate {
  constructor(private readonly reflector: Reflector) {}
  canActivate(context: ExecutionContext): boolean {
    assert.ok(this.reflector instanceof Reflector);
    const request = context.switchToHttp().getRequest<Request & { user?: object }>();
    const claims = claimsOf(/^bearer (.+)/i.exec(request.headers.authorization ?? '')?.[1] ?? '');
    if (!claims || claims.exp * 1000 < Date.now()) throw new UnauthorizedException();
    request.user = claims;
    return true;
  }
}

@Catch()
class ControllerErrors implements ExceptionFilter {
  catch(error: unknown, host: ArgumentsHost) {
    const status = error instanceof HttpException ? error.getStatus() : 500;
    const said = error instanceof HttpException ? error.getResponse() : 'Internal server error';
    const { message, errors } =
      typeof said === 'string'
        ? { message: said }
        : (said as { message: string; errors?: string[] });
    const response = host.switchToHttp().getResponse<Response>();
    const { path } = host.switchToHttp().getRequest<Request>();
    response.status(status).json({
      statusCode: status,
      message,
      timestamp: new Date().toISOString(),
      path,
      correlationId: 'x',
      ...(errors && { errors }),
    });
  }
}

@Controller('agents')
class AgentController {
  @Post(':id/heartbeat')
  heartbeat(@Body() body: object) {
    return { success: true, body };
  }
}

const agents = new FakeAgents(600);

@Module({
  controllers: [AgentController],
  providers: [{ provide: getModelToken(AGENT_MODEL), useValue: agents.model }],
  exports: [getModelToken(AGENT_MODEL)],
})
class AgentModule {}

@Module({
  imports: [
    AgentModule,
    BulkHeartbeatsModule.register({ guard: JwtAuthGuard, imports: [AgentModule] }),
  ],
})
class AppModule {}

let app: INestApplication;
let url: string;
before(async () => {
  app = await NestFactory.create(AppModule, { logger: false });
  app.use(BULK_HEARTBEATS_PATH, bulkHeartbeatsBody());
  app.useGlobalPipes(
    new ValidationPipe({
      transform: true,
      whitelist: true,
      exceptionFactory: (errors) =>
        new BadRequestException({
          message: 'Validation failed',
          errors: errors.flatMap((error) => Object.values(error.constraints ?? {})),
        }),
    }),
  );
  app.useGlobalFilters(new ControllerErrors());
  await app.listen(0, '127.0.0.1');
  url = `http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}`;
});
after(() => app.close());
beforeEach(() => {
  for (const agent of agents.stored.values())
    Object.assign(agent, { isDeleted: false, lastHeartbeatAt: undefined });
});

// ---- asking ----

const sign = (claims: object) => {
  const input = [{ alg: 'HS256', typ: 'JWT' }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
};
const exp = Math.floor(Date.now() / 1000) + 3600;
const service = { sub: 'aiwm-gateway', type: 'service', roles: ['service.heartbeats'], exp };

interface Answer {
  status: number;
  json: {
    statusCode?: number;
    message?: string;
    errors?: string[];
    results?: { agentId: string; status: number; message?: string }[];
  };
}
async function ask(
  body: unknown,
  { token = sign(service), path = BULK_HEARTBEATS_PATH, headers = {} } = {},
): Promise<Answer> {
  const response = await fetch(url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  const json = (await response.json()) as Answer['json'];
  if (path === BULK_HEARTBEATS_PATH)
    assert.ok(fits(response.status === 200 ? 'BulkResults' : 'Error', json), ajv.errorsText());
  return { status: response.status, json };
}
const at = '2026-01-23T04:23:11.613Z';
const beat = (n: number, over: object = {}) => ({
  agentId: agentId(n),
  status: 'online',
  at,
  ...over,
});

// ---- what must be true ----

test('the examples of the contract are true to it', () => {
  const { post } = contract.paths[BULK_HEARTBEATS_PATH];
  for (const [schema, content] of [
    ['BulkHeartbeats', post.requestBody.content],
    ['BulkResults', post.responses['200'].content],
  ] as const)
    for (const example of Object.values<{ value: unknown }>(content['application/json'].examples))
      assert.ok(fits(schema, example.value), ajv.errorsText());
});

test('what the contract calls wrong is refused, and what it calls right is taken', async () => {
  const bodies: unknown[] = [
    { heartbeats: [] },
    { heartbeats: [], more: 1 },
    { heartbeats: [beat(1, { metrics: null, more: 1 })] },
    {},
    [],
    { heartbeats: {} },
    { heartbeats: [1] },
    { heartbeats: [null] },
    { heartbeats: [[]] },
    { heartbeats: Array.from({ length: 500 }, () => beat(1)) },
    { heartbeats: Array.from({ length: 501 }, () => beat(1)) },
    { heartbeats: [beat(1, { at: '2026-01-23' })] },
    { heartbeats: [beat(1, { status: 'gone' })] },
    { heartbeats: [beat(1, { agentId: 'x' })] },
    { heartbeats: [beat(1, { metrics: [] })] },
  ];
  for (const body of bodies) {
    const { status, json } = await ask(body);
    assert.ok(status === 200 || status === 400, `${status}`);
    const taken = status === 200 && json.results!.every((result) => result.status === 200);
    assert.equal(taken, fits('BulkHeartbeats', body), JSON.stringify(body).slice(0, 100));
  }
});

test('judges item by item, in order', async () => {
  agents.stored.get(agentId(2))!.isDeleted = true;
  agents.failing = [1];
  const { status, json } = await ask({
    heartbeats: [beat(3), beat(2), beat(1), beat(4, { status: '?' }), beat(5)],
  });
  assert.equal(status, 200);
  assert.deepEqual(
    json.results!.map((result) => [result.agentId, result.status]),
    [
      [agentId(3), 200],
      [agentId(2), 404],
      [agentId(1), 500],
      [agentId(4), 400],
      [agentId(5), 200],
    ],
  );
  assert.equal(json.results![1]!.message, `Agent with ID ${agentId(2)} not found`);
  assert.equal(agents.stored.get(agentId(5))!.lastHeartbeatAt?.toISOString(), at);
});

test('takes 500 beats with metrics, more than Express takes by default', async () => {
  const heartbeats = Array.from({ length: 500 }, (_, n) =>
    beat(n, { metrics: { text: 'x'.repeat(300) } }),
  );
  const { status, json } = await ask({ heartbeats });
  assert.equal(status, 200);
  assert.ok(
    json.results!.every((result, n) => result.status === 200 && result.agentId === agentId(n)),
  );
});

test('refuses more than 500 beats, more than 256 KiB, and what is no such request', async () => {
  const padded = (size: number) => {
    const bare = JSON.stringify({ heartbeats: [], pad: '' });
    return bare.replace('""', `"${'x'.repeat(size - bare.length)}"`);
  };
  const rows: [unknown, number][] = [
    [{ heartbeats: Array.from({ length: 501 }, () => ({})) }, 400],
    [{ heartbeats: 'x' }, 400],
    [{}, 400],
    ['{"heartbeats":[', 400],
    ['', 400],
    [padded(256 * 1024), 200],
    [padded(256 * 1024 + 1), 413],
  ];
  for (const [body, expected] of rows) {
    const { status, json } = await ask(body);
    assert.equal(status, expected, String(body).slice(0, 50));
    assert.equal(json.statusCode, status === 200 ? undefined : status);
  }
  const { json } = await ask({});
  assert.equal(json.message, 'Validation failed');
  assert.ok(json.errors!.includes('heartbeats must be an array'));
});

test('listens to nobody but a service that may', async () => {
  const rows: [string, number][] = [
    ['x.y.z', 401],
    [sign({ ...service, exp: exp - 7200 }), 401],
    [sign({ ...service, type: 'agent' }), 403],
    [sign({ ...service, type: undefined }), 403],
    [sign({ ...service, roles: [] }), 403],
    [sign({ ...service, roles: undefined }), 403],
    [sign({ ...service, roles: 'service.heartbeats' }), 403],
    [sign({ ...service, type: 'user', roles: ['universe.owner'] }), 403],
    [sign(service), 200],
  ];
  for (const [token, expected] of rows) {
    const { status, json } = await ask({ heartbeats: [beat(9)] }, { token });
    assert.equal(status, expected, token);
    if (status === 403)
      assert.equal(json.message, 'You do not have permission to send heartbeats for agents.');
    assert.equal(agents.stored.get(agentId(9))!.lastHeartbeatAt !== undefined, status === 200);
  }
});

test('takes the token that service-token.mjs prints', async () => {
  const token = execFileSync(process.execPath, [path.join(root, 'service-token.mjs'), '1'], {
    env: { JWT_SECRET: secret },
    encoding: 'utf8',
  }).trim();
  assert.equal((await ask({ heartbeats: [] }, { token })).status, 200);
  assert.ok(Math.abs(claimsOf(token).exp - Date.now() / 1000 - 86400) < 60);
});

test('answers 500 when the database is gone, so that all is sent again', async () => {
  agents.failing = new Error('connection lost');
  assert.equal((await ask({ heartbeats: [beat(1)] })).status, 500);
  assert.equal((await ask({ heartbeats: [beat(1)] })).status, 200);
});

test('leaves the other routes as they were', async () => {
  const path = `/agents/${agentId(1)}/heartbeat`;
  const { status, json } = await ask({ status: 'online' }, { path });
  assert.equal(status, 201);
  assert.deepEqual(json, { success: true, body: { status: 'online' } });
  assert.equal((await ask({ pad: 'x'.repeat(110_000) }, { path })).status, 500);
});
