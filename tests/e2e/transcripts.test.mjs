// Every recorded conversation through the gateway: an agent must not be able to tell it from the
// controller, except where the tables here say so.
import { isDeepStrictEqual } from 'node:util';
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGateway } from './support/gateway.mjs';
import { Stub } from './support/stub.mjs';
import { Session, plain, recordedAnswers, transcripts } from './support/transcripts.mjs';

// ---- what is different on purpose ----

/** The gateway's own error, in the controller's shape, with a code. */
const refused = (status, code) => (recorded, now) => ({
    status,
    interim: [],
    headers: ownHeaders(now),
    body: JSON.stringify({
        statusCode: status,
        message: someMessage(now),
        timestamp: '<time>',
        ...somePath(now),
        correlationId: '<correlation>',
        code,
    }),
});

/** An error as the controller itself would put it. */
const saidInstead = (status, message) => (recorded, now) => ({
    status,
    interim: [],
    headers: ownHeaders(now),
    body: JSON.stringify({
        statusCode: status,
        message,
        timestamp: '<time>',
        ...somePath(now),
        correlationId: '<correlation>',
    }),
});

const inOwnWords = (recorded, now) => {
    const body = JSON.parse(recorded.body);
    return { ...recorded, headers: ownHeaders(now), body: JSON.stringify({ ...body, message: someMessage(now) }) };
};

/** The recorded answer to another request. */
const asRecorded = (name) => (recorded, now, other) => other(name);

const ownHeaders = (now) => ({
    'content-type': 'application/json; charset=utf-8',
    'x-correlation-id': '<uuid>',
    date: '<date>',
    // Compared only where one was recorded.
    ...('content-length' in now.headers && { 'content-length': now.headers['content-length'] }),
});
const parsed = (now) => (now.body ? JSON.parse(now.body) : {});
const someMessage = (now) => parsed(now).message || 'some message';
const somePath = (now) => ('path' in parsed(now) ? { path: parsed(now).path } : {});

const differences = [
    {
        why: 'a body over 102,400 bytes is said to be too large',
        expect: refused(413, 'GATEWAY_BODY_TOO_LARGE'),
        closes: true,
        transcripts: ['connect-oversize-body'],
    },
    {
        why: 'an id that cannot be one is the client\'s mistake, not the server\'s',
        expect: refused(400, 'GATEWAY_BAD_AGENT_ID'),
        transcripts: ['connect-malformed-id', 'connect-12-char-id', 'heartbeat-malformed-id'],
    },
    {
        why: 'only HS256 tokens with an integer exp are accepted',
        expect: saidInstead(401, 'Unauthorized'),
        transcripts: ['heartbeat-alg-hs384', 'heartbeat-alg-hs512', 'heartbeat-no-exp'],
    },
    {
        why: 'heartbeat and disconnect need the token of that very agent',
        expect: refused(403, 'GATEWAY_AGENT_MISMATCH'),
        transcripts: ['heartbeat-token-of-another-agent', 'heartbeat-other-org-token',
            'heartbeat-admin-token', 'heartbeat-roles-missing',
            'disconnect-token-of-another-agent'],
    },
    {
        why: 'agents may not regenerate credentials',
        expect: refused(403, 'GATEWAY_AGENT_TOKEN_DENIED'),
        transcripts: ['regenerate-as-another-agent'],
    },
    {
        why: 'two Authorization headers are ambiguous',
        expect: refused(400, 'GATEWAY_TWO_AUTHORIZATIONS'),
        closes: true,
        transcripts: ['heartbeat-two-authorization-headers'],
    },
    {
        why: 'what is wrong with JSON is said without quoting the body: it may hold a secret',
        expect: inOwnWords,
        transcripts: ['connect-json-string'],
    },
    {
        why: 'the controller sees ids in lower case, and so its tokens say them',
        expect: (recorded) => ({
            ...recorded,
            body: recorded.body.replaceAll('6A0000000000000000000000', '6a0000000000000000000000'),
        }),
        transcripts: ['connect-ok-uppercase-id'],
    },
    {
        why: 'TRACE is not passed on',
        expect: refused(501, 'GATEWAY_METHOD_NOT_IMPLEMENTED'),
        closes: true,
        transcripts: ['trace-health'],
    },
    {
        why: 'the controller sees its own name as Host; the client\'s goes into X-Forwarded-Host',
        expect: asRecorded('mcp-initialize'),
        transcripts: ['mcp-bad-host'],
    },
    {
        why: 'a controller that closes without a word is a bad gateway',
        expect: refused(502, 'GATEWAY_UPSTREAM_CLOSED'),
        closes: false,
        transcripts: ['socketio-upgrade-documented-path'],
    },
    {
        why: 'a suspended agent\'s token from before the suspension is refused once that is known',
        expect: saidInstead(401, 'Agent is suspended'),
        either: true, // the recorded token may be a second younger than the refused connect
        transcripts: ['heartbeat-suspended-agent'],
    },
    {
        why: 'what is no proper HTTP gets an answer that says so',
        expect: refused(400, 'GATEWAY_BAD_REQUEST'),
        transcripts: ['bad-request-line'],
    },
    {
        why: 'the same',
        expect: refused(400, 'GATEWAY_BAD_FRAMING'),
        transcripts: ['both-length-and-chunked'],
    },
    {
        why: 'the same',
        expect: refused(400, 'GATEWAY_BAD_HOST'),
        transcripts: ['no-host-header'],
    },
    {
        why: 'the same',
        expect: refused(431, 'GATEWAY_HEAD_TOO_LARGE'),
        transcripts: ['header-too-large'],
    },
];

// ---- what is different in general ----

// Between two hops, each with its own connection handling and framing (RFC 9110 section 7.6.1).
const hopByHop = ['connection', 'keep-alive', 'transfer-encoding', 'upgrade'];
const agentCall = /^POST \/agents\/[^/ ]+\/(connect|heartbeat|disconnect|credentials\/regenerate)\b/i;
// What it may add to the answers of agent calls: in no recording, tested elsewhere.
const added = ['cache-status', 'cache-control', 'age', 'x-aiwm-ack'];

const isAgentCall = (transcript) => agentCall.test(transcript.request.toString('latin1'));

/** The recorded answer as it should come through the gateway. */
function expected(transcript, recorded, now) {
    const headers = { ...recorded.headers };
    for (const name of hopByHop) delete headers[name];
    headers['x-correlation-id'] ??= '<uuid>';
    if (!now.headers.via && isAgentCall(transcript)) {
        // Made by the gateway itself, which is not Express and edits what it keeps.
        delete headers['x-powered-by'];
        delete headers.etag;
    } else {
        headers.via = '1.1 aiwm-gateway';
    }
    return { ...recorded, headers };
}

/** The answer that came, without what is each hop's own business. */
function received(transcript, recorded, now) {
    const headers = { ...now.headers };
    for (const name of hopByHop) delete headers[name];
    if (isAgentCall(transcript)) for (const name of added) delete headers[name];
    if (!recorded.headers['content-length']) delete headers['content-length'];
    return { ...now, headers };
}

const byName = new Map(transcripts().map((t) => [t.name, t]));

/** What should have come. `other` gives the same for another transcript. */
function wanted(transcript, recorded, now, row) {
    const usual = expected(transcript, recorded, now);
    if (!row) return usual;
    const other = (name) => expected(byName.get(name), plain(recordedAnswers(byName.get(name))[0]), now);
    return row.expect(usual, now, other);
}

function check(transcript, recorded, answer, row) {
    const then = plain(recorded);
    const now = received(transcript, then, plain(answer));
    if (!row) {
        assert.deepEqual(now, wanted(transcript, then, now));
        return;
    }
    delete now.headers['retry-after'];
    if (row.either && isDeepStrictEqual(now, wanted(transcript, then, now))) return;
    assert.notDeepEqual(now, wanted(transcript, then, now), `no longer different: ${row.why}`);
    assert.deepEqual(now, wanted(transcript, then, now, row), row.why);
}

/** Each connection says how long it may stay, and keeps its word. */
function checkConnection(closes, answer) {
    if (answer.status === 101) return;
    assert.equal(answer.header('connection'), closes ? 'close' : 'keep-alive');
    assert.equal(answer.header('keep-alive'), closes ? undefined : 'timeout=75');
}

const rowOf = (transcript) => differences.find((row) => row.transcripts.includes(transcript.name));

for (const cache of [true, false])
    describe(`with the connect cache ${cache ? 'on' : 'off'}`, () => {
        let stub;
        let gateway;
        before(async () => {
            stub = await Stub.start();
            gateway = await startGateway(stub, {
                config: { connect_cache: { enabled: cache }, heartbeat: { max_rate: 1000 }, limits: { connects_per_agent: 0 } },
            });
        });
        after(async () => {
            await gateway?.stop();
            await stub?.stop();
        });

        test('answers as the controller did', async (t) => {
            const session = new Session();
            for (const transcript of transcripts())
                await t.test(transcript.name, async () => {
                    const row = rowOf(transcript);
                    const closes = row?.closes ?? transcript.closes;
                    const recorded = recordedAnswers(transcript);
                    const answers = await session.play(transcript, gateway.target, closes);
                    assert.equal(answers.length, Math.max(recorded.length, row ? 1 : 0));
                    for (const [i, answer] of answers.entries()) {
                        check(transcript, recorded[i], answer, row);
                        checkConnection(closes, answer);
                    }
                });
        });
    });

test('the table names transcripts that exist, each once', () => {
    const names = new Set(transcripts().map((t) => t.name));
    const listed = differences.flatMap((row) => row.transcripts);
    assert.deepEqual(listed.filter((name) => !names.has(name)), []);
    assert.equal(new Set(listed).size, listed.length);
});
