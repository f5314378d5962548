// A collection as the MongoDB driver has it, under a real mongoose model: what mongoose casts, stamps
// and sends is real, the database is this Map.
import {
  Schema,
  createConnection,
  mongo,
  type Model,
  type SchemaDefinitionProperty,
} from 'mongoose';
import { AGENT_MODEL, type AgentFields } from '../src/service';

export const agentId = (n: number): string => '6a' + n.toString(16).padStart(22, '0');

interface Filter {
  _id: { $in: { toHexString(): string }[] };
  isDeleted?: boolean;
}

interface Operation {
  updateOne: {
    filter: { _id: { toHexString(): string }; isDeleted: boolean };
    update: { $max: { lastHeartbeatAt: Date }; $set?: { updatedAt?: Date } };
  };
}

export class FakeAgents {
  readonly stored = new Map<string, AgentFields>();
  readonly finds: object[] = [];
  readonly writes: { operations: Operation[]; options: object }[] = [];
  /** Indexes of operations that the next bulk write fails, or the error it throws. */
  failing: number[] | Error = [];
  readonly model: Model<AgentFields>;

  /** `timeType`: what the schema makes of lastHeartbeatAt. */
  constructor(count: number, timeType: SchemaDefinitionProperty = Date) {
    for (let n = 0; n < count; n++) this.stored.set(agentId(n), { isDeleted: false });
    const schema = new Schema<AgentFields>(
      { isDeleted: { type: Boolean, default: false }, lastHeartbeatAt: timeType },
      { timestamps: true, autoIndex: false, autoCreate: false },
    );
    this.model = createConnection().model<AgentFields>(AGENT_MODEL, schema);
    Object.assign(this.model.collection, {
      find: (filter: Filter) => this.find(filter),
      bulkWrite: (operations: Operation[], options: object) => this.bulkWrite(operations, options),
    });
  }

  private find({ _id, isDeleted }: Filter) {
    this.finds.push({ _id, isDeleted });
    const asked = new Set(_id.$in.map((id) => id.toHexString()));
    const found = [...this.stored].filter(
      ([id, agent]) => asked.has(id) && agent.isDeleted === (isDeleted ?? agent.isDeleted),
    );
    return { toArray: async () => found.map(([id]) => ({ _id: new mongo.ObjectId(id) })) };
  }

  private async bulkWrite(operations: Operation[], options: object) {
    const { failing } = this;
    this.failing = [];
    this.writes.push({ operations, options });
    if (failing instanceof Error) throw failing;
    operations.forEach((operation, index) => {
      if (!failing.includes(index)) this.apply(operation);
    });
    if (failing.length > 0) throw bulkWriteError(failing);
    return {};
  }

  private apply({ updateOne: { filter, update } }: Operation) {
    const agent = this.stored.get(filter._id.toHexString());
    if (!agent || agent.isDeleted !== filter.isDeleted) return;
    const { lastHeartbeatAt } = update.$max;
    if (!agent.lastHeartbeatAt || agent.lastHeartbeatAt < lastHeartbeatAt)
      agent.lastHeartbeatAt = lastHeartbeatAt;
  }
}

/** As the driver throws it; its own WriteError is not exported. */
export function bulkWriteError(indexes: number[]): Error {
  const writeErrors = indexes.map((index) => ({
    index,
    err: { index, code: 112, errmsg: 'WriteConflict' },
  }));
  return new mongo.MongoBulkWriteError(
    { message: 'WriteConflict', code: 112, writeErrors } as never,
    {} as never,
  );
}
