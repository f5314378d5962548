// Many heartbeats in two database operations: a read that tells which agents there are, and a bulk
// write. The controller's own route needs two for each beat.
import { Injectable } from '@nestjs/common';
import { InjectModel } from '@nestjs/mongoose';
import { validateSync } from 'class-validator';
import { mongo, Types, type Model } from 'mongoose';
import { BeatDto, type BeatResult } from './dto';

/** What this needs of the controller's Agent schema. */
export interface AgentFields {
  isDeleted: boolean;
  lastHeartbeatAt?: Date | null;
}

export const AGENT_MODEL = 'Agent';

interface Beat {
  agentId: string;
  at: Date;
}

@Injectable()
export class BulkHeartbeatsService {
  constructor(@InjectModel(AGENT_MODEL) private readonly agents: Model<AgentFields>) {}

  /** One result per item, in their order. Throws if the database fails as a whole. */
  async record(items: readonly object[], now = new Date()): Promise<BeatResult[]> {
    const read = items.map((item) => readBeat(item, now));
    const beats = read.filter((one): one is Beat => 'at' in one);
    const known = await this.findKnown(beats);
    const living = beats.filter((beat) => known.has(beat.agentId.toLowerCase()));
    const failed = await this.write(living);
    return read.map((one) => {
      if (!('at' in one)) return one;
      if (!known.has(one.agentId.toLowerCase())) return notFound(one.agentId);
      return failed.has(one) ? notRecorded(one.agentId) : { agentId: one.agentId, status: 200 };
    });
  }

  /** The ids, in lower case, of those that exist and are not deleted. */
  private async findKnown(beats: readonly Beat[]): Promise<Set<string>> {
    if (beats.length === 0) return new Set();
    const ids = beats.map((beat) => new Types.ObjectId(beat.agentId));
    const found = await this.agents
      .find({ _id: { $in: ids }, isDeleted: false }, { _id: 1 })
      .lean()
      .exec();
    return new Set(found.map((agent) => agent._id.toHexString()));
  }

  /**
   * Returns the beats that were not written. $max takes whichever is later, also when there is none
   * yet: repeated, overtaken and late requests never move lastHeartbeatAt back. An agent deleted
   * since it was read is left alone, and hears of it with its next beat.
   */
  private async write(beats: readonly Beat[]): Promise<Set<Beat>> {
    if (beats.length === 0) return new Set();
    const operations = beats.map((beat) => ({
      updateOne: {
        filter: { _id: new Types.ObjectId(beat.agentId), isDeleted: false },
        update: { $max: { lastHeartbeatAt: beat.at } },
      },
    }));
    try {
      // By default mongoose leaves out what it cannot cast, and says nothing.
      await this.agents.bulkWrite(operations, { ordered: false, throwOnValidationError: true });
      return new Set();
    } catch (error) {
      return new Set(failedIndexes(error).map((index) => beats[index]!));
    }
  }
}

/** The item as a beat, or what is wrong with it. */
function readBeat(item: object, now: Date): Beat | BeatResult {
  const { agentId, status, metrics, at } = item as BeatDto;
  const beat = Object.assign(new BeatDto(), { agentId, status, metrics, at });
  const errors = validateSync(beat).flatMap((error) => Object.values(error.constraints ?? {}));
  if (errors.length > 0)
    return {
      agentId: typeof agentId === 'string' ? agentId : '',
      status: 400,
      message: 'Validation failed',
      errors,
    };
  // No clock but ours says what is now: a gateway's that is ahead must not pin the future.
  return { agentId, at: new Date(Math.min(Date.parse(at), now.getTime())) };
}

/** Which operations failed of a bulk write whose rest succeeded; rethrows anything else. */
function failedIndexes(error: unknown): number[] {
  if (!(error instanceof mongo.MongoBulkWriteError)) throw error;
  const failures = [error.writeErrors].flat();
  if (failures.length === 0) throw error;
  return failures.map((failure) => failure.index);
}

const notFound = (agentId: string): BeatResult => ({
  agentId,
  status: 404,
  message: `Agent with ID ${agentId} not found`,
});

const notRecorded = (agentId: string): BeatResult => ({
  agentId,
  status: 500,
  message: 'Internal server error',
});
