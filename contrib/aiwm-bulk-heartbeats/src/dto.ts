// The contract's shapes: docs/bulk-heartbeats.openapi.yaml of aiwm-gateway.
import {
  ArrayMaxSize,
  IsArray,
  IsISO8601,
  IsIn,
  IsMongoId,
  IsObject,
  IsOptional,
  Matches,
} from 'class-validator';

/** More is refused as a whole. */
export const BULK_MAX_BEATS = 500;

const UTC = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$/;

/**
 * Validated by the controller's global ValidationPipe. It looks at the list only: items are judged
 * one by one (see BeatDto), so that a bad one does not take the others with it.
 */
export class BulkHeartbeatsDto {
  @IsArray()
  @ArrayMaxSize(BULK_MAX_BEATS)
  @IsObject({ each: true })
  heartbeats!: object[];
}

export class BeatDto {
  @IsMongoId()
  agentId!: string;

  @IsIn(['online', 'busy', 'idle'])
  status!: string;

  @IsOptional()
  @IsObject()
  metrics?: object | null;

  // The first knows that there is no 30th of February, the second wants a time, in UTC.
  @IsISO8601({ strict: true })
  @Matches(UTC, { message: 'at must be a time in UTC, like 2026-11-23T04:23:11.613Z' })
  at!: string;
}

export interface BeatResult {
  agentId: string;
  status: number;
  message?: string;
  errors?: string[];
}

export interface BulkResults {
  results: BeatResult[];
}
