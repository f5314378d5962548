// A body parser for this route alone: Express' default of 100 KiB is too small for 500 beats, and
// raising it for all routes is not ours to decide.
import { PayloadTooLargeException } from '@nestjs/common';
import { json, type RequestHandler } from 'express';

export const BULK_HEARTBEATS_PATH = '/agents/heartbeats';
export const BULK_MAX_BYTES = 256 * 1024;

/**
 * For main.ts, before the application listens: app.use(BULK_HEARTBEATS_PATH, bulkHeartbeatsBody()).
 * It runs before Nest's own parser, which then finds the body read. It must not be Express' bare
 * json(): Nest, seeing a middleware named jsonParser, would install none for the other routes.
 */
export function bulkHeartbeatsBody(): RequestHandler {
  const parse = json({ limit: BULK_MAX_BYTES });
  return function bulkHeartbeatsParser(request, response, next) {
    parse(request, response, (error?: unknown) => {
      const status = (error as { status?: unknown } | undefined)?.status;
      next(status === 413 ? new PayloadTooLargeException('Payload Too Large') : error);
    });
  };
}
