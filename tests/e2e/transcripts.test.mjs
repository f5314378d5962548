// Every recorded conversation through the gateway: an agent must not be able to tell it from the
// controller, except where the tables here say so.
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

const ownHeaders = (now) => ({
    'content-type': 'application/json; charset=utf-8',
    'content-length': now.headers['content-length'],
    'x-correlation-id': '<uuid>',
    date: '<date>',
});
const parsed = (now) => (now.body ? JSON.parse(now.body) : {});
const someMessage = (now) => parsed(now).message || 'some message';
const somePath = (now) => ('path' in parsed(now) ? { path: parsed(now).path } : {});

const differences = [
    {
        why: 'a body over 102,400 bytes is said to be too large',
        expect: refused(413, 'GATEWAY_BODY_TOO_LARGE'),
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
        transcripts: ['heartbeat-two-authorization-headers'],
    },
    {
        why: 'what is wrong with JSON is said in our words, without quoting it',
        expect: inOwnWords,
        transcripts: ['connect-bad-json', 'connect-json-string', 'heartbeat-bad-json',
            'heartbeat-bad-json-no-auth'],
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
        transcripts: ['trace-health'],
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

/** The headers that should have come, given which answer came. */
function expectedHeaders(transcript, recorded, now) {
    const headers = { ...recorded };
    for (const name of hopByHop) delete headers[name];
    if (!headers['content-length'] && now['content-length']) delete now['content-length'];
    if (!now.via && agentCall.test(transcript.request.toString('latin1'))) {
        // Made by the gateway itself.
        delete headers['x-powered-by'];
        delete headers.etag;
    } else {
        headers.via = '1.1 aiwm-gateway';
    }
    return headers;
}

// What it may add to the answers of agent calls: not part of any recording, tested elsewhere.
const added = ['cache-status', 'cache-control', 'age', 'x-aiwm-ack', 'retry-after'];

function comparable(transcript, recorded, now) {
    const view = { ...now, headers: { ...now.headers } };
    for (const name of hopByHop) delete view.headers[name];
    if (agentCall.test(transcript.request.toString('latin1')))
        for (const name of added) delete view.headers[name];
    const expected = { ...recorded, headers: expectedHeaders(transcript, recorded.headers, view.headers) };
    return [view, expected];
}

/** Fails unless this answer is the recorded one, but for what is different in general. */
function compare(transcript, recorded, now) {
    const [view, expected] = comparable(transcript, recorded, now);
    assert.deepEqual(view, expected);
}

/** Fails unless this answer is what the row says. */
function compareWithRow(transcript, row, recorded, now) {
    const [view, usual] = comparable(transcript, recorded, now);
    delete view.headers['retry-after'];
    assert.deepEqual(view, row.expect(usual, view), row.why);
}

function same(...args) {
    try {
        compare(...args);
        return true;
    } catch {
        return false;
    }
}

/** Each connection says how long it may stay, and keeps its word. */
function checkConnection(transcript, answer) {
    if (answer.status === 101) return;
    const closing = transcript.closes;
    assert.equal(answer.header('connection'), closing ? 'close' : 'keep-alive');
    assert.equal(answer.header('keep-alive'), closing ? undefined : 'timeout=75');
}

const rowOf = (transcript) => differences.find((row) => row.transcripts.includes(transcript.name));

for (const cache of [true, false])
    describe(`with the connect cache ${cache ? 'on' : 'off'}`, () => {
        let stub;
        let gateway;
        before(async () => {
            stub = await Stub.start();
            gateway = await startGateway(stub, {
                config: { connect_cache: { enabled: cache }, heartbeat: { max_rate: 1000 } },
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
                    const recorded = recordedAnswers(transcript);
                    const answers = await session.play(transcript, gateway.target);
                    if (recorded.length === 0 && answers.length === 0) return;
                    assert.equal(answers.length, recorded.length);
                    for (const [i, answer] of answers.entries()) {
                        const then = plain(recorded[i]);
                        const now = plain(answer);
                        if (row) {
                            assert.ok(!same(transcript, then, now), `no longer different: ${row.why}`);
                            compareWithRow(transcript, row, then, now);
                        } else {
                            compare(transcript, then, now);
                        }
                        checkConnection(transcript, answer);
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
