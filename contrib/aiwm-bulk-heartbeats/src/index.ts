export { BULK_HEARTBEATS_PATH, bulkHeartbeatsBody } from './body';
export { BulkHeartbeatsModule, type BulkHeartbeatsOptions } from './module';
